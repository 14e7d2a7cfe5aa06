"""Runs programs and measures them: wall time, and the user and system time and peak memory of the child process.

A contestant is one command line in one folder. The contestants of a comparison run in turn, round
after round (every second round in the reverse order), so that a drift of the machine meets all of
them alike. Rounds before the first counted one warm the page cache and the contestants' own
indexes. Everything in `prepare` and `check` is outside of the measured time.

This file must not know any of the programs that it measures.
"""

import os
import signal
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable


class Failed(Exception):
    """A contestant ended with an error, ran out of time, or did something else than it should."""


@dataclass
class Sample:
    """One measured run; `text` is what the program printed, standard output first.

    `peak` is the largest resident memory, in bytes, of the process or of any that it waited for. `figures` are
    numbers that were read out of the text, by name; a contestant's `check` puts them there.
    """

    wall: float
    user: float
    system: float
    peak: int = 0
    text: str = ""
    figures: dict = field(default_factory=dict)

    def numbers(self):
        own = {"wall": round(self.wall, 6), "user": round(self.user, 6), "system": round(self.system, 6),
               "peak_mb": round(self.peak / 1e6, 1)}
        return own | {name: round(value, 6) for name, value in self.figures.items()}


@dataclass
class Contestant:
    """A command line to measure. `prepare` runs before each run, `check` looks at each sample after it.

    `stdin` is a file that it reads; none means that there is nothing to read.
    """

    name: str
    argv: list
    cwd: Path
    env: dict | None = None
    prepare: Callable | None = None
    check: Callable | None = None
    limit: float = 600.0
    stdin: Path | None = None


def run(contestant):
    """Runs a contestant once, and gives the sample; raises `Failed` when it does not exit with 0."""
    if contestant.prepare:
        contestant.prepare()
    argv = [str(word) for word in contestant.argv]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sample, status, late = _spawn(contestant, argv, out, err)
        text = "".join(_text(file) for file in (out, err))
    if late:
        raise Failed(f"not done after {contestant.limit:.0f} s: `{' '.join(argv)}`")
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        raise Failed(f"exit code {code} of `{' '.join(argv)}` in {contestant.cwd}:\n    {ends(text)}")
    sample.text = text
    if contestant.check:
        contestant.check(sample)
    return sample


def _spawn(contestant, argv, out, err):
    """Starts the child in a process group of its own, waits for it, and gives sample, status, too late."""
    here = os.getcwd()
    os.chdir(contestant.cwd)  # posix_spawn knows no working folder; nothing else runs meanwhile
    try:
        files = [
            (os.POSIX_SPAWN_OPEN, 0, contestant.stdin or os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, out.fileno(), 1),
            (os.POSIX_SPAWN_DUP2, err.fileno(), 2),
        ]
        env = os.environ if contestant.env is None else contestant.env
        start = time.perf_counter()
        pid = os.posix_spawnp(argv[0], argv, env, file_actions=files, setpgroup=0)
    finally:
        os.chdir(here)
    late = threading.Event()

    def stop():
        late.set()
        os.killpg(pid, signal.SIGKILL)

    timer = threading.Timer(contestant.limit, stop)
    timer.daemon = True
    timer.start()
    try:
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - start
    except BaseException:
        os.killpg(pid, signal.SIGTERM)
        raise
    finally:
        timer.cancel()
    return Sample(wall, usage.ru_utime, usage.ru_stime, 1024 * usage.ru_maxrss), status, late.is_set()


def _text(file):
    file.seek(0)
    return file.read().decode(errors="replace")


def ends(text, lines=4):
    """The first and the last lines of a text, for messages."""
    all_lines = text.strip().splitlines() or ["(nothing was printed)"]
    if len(all_lines) > 2 * lines:
        all_lines = [*all_lines[:lines], "..", *all_lines[-lines:]]
    return "\n    ".join(all_lines)


def interleave(contestants, rounds, warmups=1):
    """Runs all contestants `rounds` times in turn; gives their samples by name."""
    samples = {c.name: [] for c in contestants}
    for number in range(-warmups, rounds):
        for contestant in contestants if number % 2 == 0 else reversed(contestants):
            sample = run(contestant)
            if number >= 0:
                samples[contestant.name].append(sample)
    return samples


def median(samples, figure=None):
    """The median wall time of some samples, in seconds, or the median of a figure of theirs."""
    return statistics.median(s.figures[figure] if figure else s.wall for s in samples)
