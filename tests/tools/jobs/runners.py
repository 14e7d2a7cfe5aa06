"""Runners that are killed, that come in pairs, and many jobs.
"""

import random
import time
from pathlib import Path

from jobs.world import project, run, start


SIX = """
pipeline: six
executor: slurm
stages:
  a: { run: 'echo ran >> COUNT/a; sleep 0.3; echo a > {outputs.o}', outputs: { o: table } }
  b: { run: 'echo ran >> COUNT/b; sleep 0.5; echo b > {outputs.o}', outputs: { o: table } }
  c: { inputs: { a: a, b: b }, run: 'echo ran >> COUNT/c; cat {inputs.a} {inputs.b} > {outputs.o}', outputs: { o: table } }
  d: { inputs: { c: c }, run: 'echo ran >> COUNT/d; sleep 0.2; rev {inputs.c} > {outputs.o}', outputs: { o: table } }
  e: { inputs: { c: c }, run: 'echo ran >> COUNT/e; sleep 0.4; tac {inputs.c} > {outputs.o}', outputs: { o: table } }
  f: { inputs: { d: d, e: e }, run: 'echo ran >> COUNT/f; paste {inputs.d} {inputs.e} > {outputs.o}', outputs: { o: table } }
"""


def killed_runners(world, times=50, seed=None):
    """The runner is killed at random times, before, in and after `sbatch`: a plain run goes on, and nothing runs twice."""
    seed = seed or random.randrange(1 << 32)
    print(f"slurm: kills with seed {seed}", flush=True)
    dice = random.Random(seed)
    serial = project(world, "serial", SIX.replace("COUNT", "/tmp"))
    wanted, kills, n = None, 0, 0
    while kills < times:
        n += 1
        counts = world.folder / f"counts-{n}"
        counts.mkdir()
        made = project(world, f"killed-{n}", SIX.replace("COUNT", str(counts)))
        for _ in range(dice.randrange(1, 5)):
            running = start(made)
            # The first jobs are submitted within a tenth of a second, the last end after some seconds.
            time.sleep(dice.choice([dice.uniform(0, 0.15), dice.uniform(0, 1.5), dice.uniform(0, 5)]))
            if running.poll() is None:
                running.kill()
                kills += 1
            running.communicate()
        run(made)
        ran = {file.name: len(file.read_text().splitlines()) for file in counts.iterdir()}
        assert ran == dict.fromkeys("abcdef", 1), (seed, n, ran, world.cluster.jobs())
        text = (made.folder / "artifacts/out/six/f/o").read_text()
        wanted = wanted or text
        assert text == wanted, (seed, n, text)
    print(f"slurm: {kills} kills over {n} pipelines", flush=True)
    assert wanted == "a\tb\nb\ta\n", wanted




def two_thousand(world, stages=2000):
    """Many queued stages on one node: submission beside a shell loop, one poll an interval, no growth, no lost stage."""
    lines = "\n".join(f"  s{n:04}: {{ run: 'echo {n} > {{outputs.o}}', outputs: {{ o: table }} }}" for n in range(stages))
    text = f"pipeline: many\nexecutor: slurm\nexecutors: {{ slurm: {{ kind: slurm, max_jobs: {stages} }} }}\nstages:\n{lines}\n"
    polls, wrapper = world.folder / "polls", world.folder / "bin"
    wrapper.mkdir()
    # Counts the questions.
    squeue = world.cluster.ask("bash", "-c", "command -v squeue").strip()
    (wrapper / "squeue").write_text(f'#!/bin/bash\ndate +%s.%N >> {polls}\nexec {squeue} "$@"\n')
    (wrapper / "squeue").chmod(0o755)
    made = project(world, "many", text, PATH=f"{wrapper}:{world.cluster.env['PATH']}")
    world.cluster.ask("scontrol", "update", "PartitionName=main", "State=DOWN")
    began = time.monotonic()
    loop = 'for i in $(seq %d); do sbatch --parsable --job-name=loop --export=NONE --output=/dev/null <<< "#!/bin/bash\ntrue" > /dev/null; done'
    world.cluster.ask("bash", "-c", (loop % min(stages, 500)).replace("\\n", "\n"))
    by_loop = (time.monotonic() - began) / min(stages, 500)
    world.cluster.ask("scancel", "--name=loop")
    began = time.monotonic()
    run(made, "--detach")
    ours = (time.monotonic() - began) / stages
    print(f"slurm: to submit a job takes {ours * 1e3:.1f} ms, by a shell loop {by_loop * 1e3:.1f} ms: {by_loop / ours:.2f}x", flush=True)
    polls.write_text("")
    world.cluster.ask("scontrol", "update", "PartitionName=main", "State=UP")
    began = time.monotonic()
    told = open(world.folder / "told", "w+")
    running = start(made, told=told)
    sizes = []
    while running.poll() is None:
        try:
            status = Path(f"/proc/{running.pid}/status").read_text()
        except OSError:
            break
        sizes += [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
        time.sleep(1)
    told.seek(0)
    assert running.returncode == 0, told.read()[-3000:]
    times = [float(line) for line in polls.read_text().split()]
    gaps = [b - a for a, b in zip(times, times[1:])]
    peak = max(sizes)
    early = max(sizes[:max(10, len(sizes) // 10)])
    print(f"slurm: {stages} stages in {time.monotonic() - began:.0f} s, {len(times)} polls, the shortest time between two "
          f"{min(gaps):.2f} s, resident memory {early / 1024:.0f} MiB early and {peak / 1024:.0f} MiB at most", flush=True)
    assert min(gaps) > 0.9 and peak < early * 1.5 + 20_000, (gaps, early, peak)
    names_seen = [job[1] for job in world.cluster.jobs() if job[1].startswith("kiln-s")]
    assert len(names_seen) == len(set(names_seen)), "a stage was submitted twice"
    assert made.ask("status", "-q").returncode == 0


def two_runners(world):
    """Two runners of one store: each stage has one job, and both end well."""
    counts = world.folder / "counts"
    counts.mkdir()
    made = project(world, "both", SIX.replace("COUNT", str(counts)))
    both = [start(made), start(made)]
    ended = [(one.communicate(timeout=180), one.returncode) for one in both]
    assert [code for _, code in ended] == [0, 0], ended
    ran = {file.name: len(file.read_text().splitlines()) for file in counts.iterdir()}
    assert ran == dict.fromkeys("abcdef", 1), (ran, world.cluster.jobs())


def a_silent_controller(world):
    """A controller that does not answer is waited for, before a job is submitted and while it runs."""
    made = project(world, "silent", SIX.replace("COUNT", str(world.folder)))
    world.cluster.stop("slurmctld")
    running = start(made, told=(told := open(world.folder / "told", "w+")))
    said = Path(told.name).read_text
    world.cluster.wait(lambda: "kiln waits and asks again" in said(), "the silence is told", 60)
    world.cluster.start_controller()
    world.cluster.wait(lambda: (world.folder / "a").exists(), "the first stage", 120)
    world.cluster.stop("slurmctld")
    time.sleep(3)
    world.cluster.start_controller()
    assert running.wait(timeout=180) == 0, said()
    assert (made.folder / "artifacts/out/six/f/o").read_text() == "a\tb\nb\ta\n"
    ran = {name: len((world.folder / name).read_text().splitlines()) for name in "abcdef"}
    assert ran == dict.fromkeys("abcdef", 1), ran
