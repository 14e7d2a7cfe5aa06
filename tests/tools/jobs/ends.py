"""How jobs end that do not end by themselves.
"""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

from jobs.world import ENDS, ROOT, digests, ending, names, project, run, start, state_of, stopped, until
from project import Project


def out_of_memory(world):
    """A stage that uses more memory than it asked for is told so, and what to change."""
    eater = 'python3 -c "x = bytearray(400 << 20)" > {outputs.o}'
    made = ending(world, "memory", eater, "memory: 100MiB")
    ran = run(made, code=1)
    if world.cluster.bounds_memory:
        assert "out of memory" in ran.stderr, ran.stderr
    else:
        print("slurm: the memory of jobs is not bounded here (no cgroup), so none was out of memory", flush=True)


def over_its_time(world):
    """A stage that takes too long writes a checkpoint, says what to change, and goes on in the next run."""
    count = ('n=$(cat {checkpoint}/n 2>/dev/null || echo 0); echo from $n; '
             'trap "exit 1" TERM; '
             'while [ $n -lt 130 ]; do n=$((n+1)); echo $n > {checkpoint}/n; sleep 1; done; echo $n > {outputs.o}')
    made = ending(world, "time", count, "time: 1m")
    ran = run(made, code=1)
    assert "`resources.time` of 60 s is nearly over" in ran.stderr, ran.stderr
    made.write("kiln.yaml", (made.folder / "kiln.yaml").read_text().replace("time: 1m", "time: 10m"))
    run(made)
    log = made.ask("log", "victim").stdout
    start = int(re.findall(r"from (\d+)", log)[-1])
    # It is told up to a minute too early, and uses the time that is left.
    assert start >= 40, log


def forced(world):
    """A forced stage that fails is no success, although its earlier result is there."""
    allowed = world.folder / "allowed"
    allowed.write_text("")
    made = ending(world, "forced", f"test -e {allowed}; date +%s%N > {{outputs.o}}")
    run(made)
    first = digests(made)
    run(made, "--force", "victim")
    assert digests(made) != first, "it did not run again"
    allowed.unlink()
    ran = run(made, "--force", "victim", code=1)
    assert "exit code 1" in ran.stderr, ran.stderr


def cancelled_by_hand(world):
    made = ending(world, "scancel", "sleep 60; echo > {outputs.o}")
    running = start(made)
    until(world, "victim", "RUNNING")
    world.cluster.ask("scancel", names(world, "victim")[-1][0])
    out, err = running.communicate(timeout=90)
    assert running.returncode == 1 and "was cancelled" in err, err


def a_node_that_dies(world):
    """slurmd and all that it has started are killed: the job is queued again and ends well, on the node that came back."""
    made = ending(world, "node", "sleep 15; echo done > {outputs.o}")
    running = start(made)
    until(world, "victim", "RUNNING")
    time.sleep(2)
    kill_node(world)
    world.cluster.wait(lambda: state_of(world, "victim") not in ("RUNNING", "COMPLETING"), "the node is missed", 120)
    world.cluster.start_node()
    out, err = running.communicate(timeout=240)
    assert running.returncode == 0, err
    assert (made.folder / "artifacts/out/ends/victim/o").read_text() == "done\n"


def kill_node(world):
    """Ends slurmd and everything that it has started, as a machine that loses its power does."""
    victims, parents = [], {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(text.rsplit(")", 1)[1].split()[1])
    steps = [pid for pid in parents if is_of(world, pid)]
    victims += steps
    while True:
        more = [pid for pid, parent in parents.items() if parent in victims and pid not in victims]
        if not more:
            break
        victims += more
    world.cluster.stop("slurmd", signal.SIGKILL)
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def is_of(world, pid):
    """Whether a process is a step of the jobs of this cluster."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return b"slurmstepd" in command and str(world.cluster.folder).encode() in environment + command


def preempted(world):
    """A training stage that gives way to a more important job goes on from its checkpoint."""
    made = Project(world.program, world.folder / "preempted", world.cluster.env)
    subprocess.run(["cp", "-r", ROOT / "pipelines", made.folder], check=True)
    file = "pipelines/smoke.yaml"
    run(made, file, "text", "tokenizer")
    more = ["--set", "stages.base.steps=3000", "--set", "stages.base.executor=slurm"]
    told = open(world.folder / "told", "w+")
    running = start(made, file, "base", *more, told=told)
    said = Path(told.name).read_text
    world.cluster.wait(lambda: re.search(r"base +\d+/3000", said()), "the first steps", 120)
    urgent = world.cluster.ask("sbatch", "--parsable", "--partition=high", "--exclusive", "--output=/dev/null",
                               typed="#!/bin/bash\nsleep 5\n").strip()
    until(world, "base", "PENDING", seconds=60)
    world.cluster.wait(lambda: (urgent, "COMPLETED") in {(job[0], job[2]) for job in world.cluster.jobs()}, "urgent", 90)
    # Slurm lets two minutes pass before a job that gave way may run again; an administrator need not wait.
    running.wait(timeout=400)
    err = said()
    assert running.returncode == 0, err
    assert "taken off its node" in err and "resumes from its checkpoint" in err, err
    undisturbed = Project(world.program, world.folder / "undisturbed", {})
    subprocess.run(["cp", "-r", ROOT / "pipelines", undisturbed.folder], check=True)
    local = ["--set", "stages.base.steps=3000"]
    run(undisturbed, file, "base", *local)
    mine, theirs = (digests(one, file, "base", *local)["base"] for one in (made, undisturbed))
    assert mine == theirs, (mine, theirs)
    print("slurm: " + next(line for line in err.splitlines() if "resumes" in line), flush=True)


SAVES = ('n=$(cat {checkpoint}/n 2>/dev/null || echo 0); echo from $n; trap "exit 1" TERM; '
         'while [ $n -lt 9 ]; do n=$((n+1)); echo $n > {checkpoint}/n; sleep 1; done; echo $n > {outputs.o}')


def stopped_by_a_signal(world):
    """A job that is told to end does so with a checkpoint, and is submitted again; its stage goes on from there."""
    made = ending(world, "stopped", SAVES)
    assert "was stopped by a signal; it is submitted again" in stopped(world, made, 4)
    assert int(re.findall(r"from (\d+)", made.ask("log", "victim").stdout)[-1]) >= 2, made.ask("log", "victim")
    assert (made.folder / "artifacts/out/ends/victim/o").read_text() == "9\n"


def ended_while_nobody_was_there(world):
    """A job that failed meanwhile is told once, and its stage is submitted again, by a run that detaches as well."""
    flag = world.folder / "flag"
    made = ending(world, "meanwhile", f"echo tried; test -e {flag}; echo > {{outputs.o}}")
    run(made, "--detach")
    until(world, "victim", "FAILED")
    ran = run(made, "--detach")
    assert "exit code 1" in ran.stderr and "it is submitted again" in ran.stderr, ran.stderr
    assert len(names(world, "victim")) == 2
    until(world, "victim", "FAILED")
    flag.write_text("")
    ran = run(made)
    assert "+ victim" in ran.stderr and len(names(world, "victim")) == 3, ran.stderr
    # What a stage says without a line break at the end is its last word all the same.
    made = ending(world, "words", 'printf "last words"; exit 3')
    ran = run(made, code=1)
    assert "last words" in ran.stderr, ran.stderr


def another_key(world):
    """A node that would make another result than was asked for refuses, and says what differs."""
    narrow = world.folder / "kiln-on-one-core"
    narrow.write_text(f'#!/bin/bash\nexec taskset --cpu-list 0 {world.program} "$@"\n')
    narrow.chmod(0o755)
    text = ENDS.format(partition="main", run="echo > {outputs.o}", resources="cpus: 0")
    made = project(world, "key", text.replace("resources:", "cache: exact, resources:").replace(
        "kind: slurm,", f"kind: slurm, kiln: {narrow},"))
    ran = run(made, code=1)
    assert "this node would make another result" in ran.stderr and "2 -> 1" in ran.stderr, ran.stderr
