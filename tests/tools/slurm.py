#!/usr/bin/env python3
"""Runs stages as jobs of a real Slurm on this machine.

Purpose: the same pipeline gives the same digests here and there; a colleague's day; what a job says when its node, its
memory, its time or its user ends it; two stores that share a remote alone; runners that are killed.
Usage: slurm.py KILN [NAME..]. Without Slurm it says so and ends well. Names are those of the functions below; without one
the quick ones run.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True  # git does not ignore __pycache__ here

import cluster as clusters  # noqa: E402
import remotes  # noqa: E402
from project import Project  # noqa: E402


def digests(project, *words):
    """The digests of all outputs by stage."""
    stages = project.json("plan", *words)["stages"]
    return {stage["name"]: {name: output.get("digest") for name, output in stage["outputs"].items()} for stage in stages}


def project(world, name, text, **env):
    return Project(world.program, world.folder / name, world.cluster.env | env).write("kiln.yaml", text)


class World:
    def __init__(self, program, folder, cluster):
        self.program, self.folder, self.cluster = program, folder, cluster


def run(made, *words, code=0, **more):
    ran = made.ask("run", *words, **more)
    assert ran.returncode == code, (ran.returncode, ran.stdout, ran.stderr)
    return ran


def names(world, stage):
    """The jobs of a stage."""
    start = f"kiln-{stage}-" if stage else "kiln-"
    return [job for job in world.cluster.jobs() if job[1].startswith(start)]


def state_of(world, stage):
    jobs = names(world, stage)
    return jobs[-1][2] if jobs else None


def until(world, stage, *states, seconds=90):
    world.cluster.wait(lambda: state_of(world, stage) in states, f"{stage} {states}", seconds)


def start(made, *words, told=None):
    """A run in the background, which says to a pipe, or to the file `told`, what it does."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "AZURE_", "KILN_"))}
    env |= made.env | {"KILN_CONFIG": str(made.folder / "config.yaml")}
    return subprocess.Popen([made.program, "run", *words], cwd=made.folder, env=env, text=True,
                            stdout=told or subprocess.PIPE, stderr=told or subprocess.PIPE,
                            stdin=subprocess.DEVNULL)


def same_digests(world):
    """smoke.yaml gives the same digests as jobs; a second run submits nothing."""
    here = Project(world.program, world.folder / "here", {})
    there = Project(world.program, world.folder / "there", world.cluster.env)
    for one in (here, there):
        subprocess.run(["cp", "-r", ROOT / "pipelines", one.folder], check=True)
    file = "pipelines/smoke.yaml"
    run(here, file)
    run(there, file, "--executor", "slurm")
    submitted = len(names(world, ""))
    assert submitted == 9, world.cluster.jobs()
    assert digests(here, file) == digests(there, file)
    assert not any((there.folder / "artifacts/jobs").glob("*")), "something of a job stays"
    run(there, file, "--executor", "slurm")
    assert len(names(world, "")) == submitted, "the second run submitted something"


DAY = """
pipeline: day
executor: slurm
stages:
  prepare: { run: 'echo prepared; sleep 4; seq 100 > {outputs.rows}', outputs: { rows: table } }
  count: { inputs: { rows: prepare }, run: 'wc -l < {inputs.rows} > {outputs.number}', outputs: { number: table } }
"""


def a_day(world):
    """Submit, close the laptop, come back: status, log, run."""
    made = project(world, "day", DAY)
    ran = run(made, "--detach")
    assert "is job" in ran.stderr and "kiln cancel" in ran.stderr, ran.stderr
    until(world, "prepare", "RUNNING")
    status = made.ask("status").stdout
    assert re.search(r"prepare +running +job \d+ of slurm, running on", status), status
    world.cluster.wait(lambda: "prepared" in made.ask("log", "prepare").stdout, "the log of a job")
    until(world, "prepare", "COMPLETED")
    assert "detached" in made.ask("log").stdout, made.ask("log")
    ran = run(made)
    assert "+ count" in ran.stderr, ran.stderr
    assert len(names(world, "prepare")) == 1, "it was submitted twice"
    assert (made.folder / "artifacts/out/day/count/number").read_text().strip() == "100"
    assert "prepared" in made.ask("log", "prepare").stdout, made.ask("log", "prepare")
    run(made)


def attach_and_cancel(world):
    """`attach` follows and submits nothing; `cancel` ends jobs, and a run submits them again."""
    made = project(world, "attach", DAY.replace("sleep 4", "sleep 6").replace(": day", ": attach"))
    run(made, "--detach")
    ran = made.ask("attach")
    assert "+ prepare" in ran.stderr and not names(world, "count")[1:], ran
    other = project(world, "cancel", DAY.replace("sleep 4", "sleep 60").replace(": day", ": cancel"))
    run(other, "--detach")
    assert "cancelled  prepare" in other.ask("cancel").stdout
    assert "No stage has a job" in other.ask("cancel").stdout
    world.cluster.wait(lambda: "RUNNING" not in {job[2] for job in names(world, "prepare")}, "cancelled")


def interrupted(world):
    """Ctrl-C without a terminal leaves the job, and the next run adopts it."""
    made = project(world, "interrupted", DAY.replace("sleep 4", "sleep 8").replace(": day", ": interrupted"))
    before = len(names(world, "prepare"))
    running = start(made)
    world.cluster.wait(lambda: len(names(world, "prepare")) > before, "submitted")
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 130 and "kiln cancel" in err, (running.returncode, err)
    ran = run(made)
    assert "is already job" in ran.stderr and len(names(world, "prepare")) == before + 1, ran.stderr


ENDS = """
pipeline: ends
executor: slurm
executors: {{ slurm: {{ kind: slurm, options: [--partition={partition}] }} }}
stages:
  victim: {{ run: '{run}', resources: {{ {resources} }}, outputs: {{ o: table }} }}
"""


def ending(world, name, script, resources="cpus: 1", partition="main"):
    return project(world, name, ENDS.format(run=script, resources=resources, partition=partition))


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
    assert "did not end within its `resources.time` of 60 s" in ran.stderr, ran.stderr
    made.write("kiln.yaml", (made.folder / "kiln.yaml").read_text().replace("time: 1m", "time: 10m"))
    run(made)
    log = made.ask("log", "victim").stdout
    start = int(re.findall(r"from (\d+)", log)[-1])
    assert start >= 20, log


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


def trial(world):
    """`doctor` says whether jobs can run, and what is wrong where they cannot."""
    made = project(world, "trial", ENDS.format(partition="none", run="true", resources="cpus: 1"))
    good = made.ask("doctor", "--executor", "slurm")
    assert good.returncode == 0 and "a trial job ran" in good.stdout, good
    bad = made.ask("doctor", "--executor", "slurm", "kiln.yaml")
    assert bad.returncode == 1 and "partition" in bad.stderr, bad
    unknown = made.ask("doctor", "--executor", "slrm")
    assert unknown.returncode == 3 and "there is: slurm" in unknown.stderr, unknown


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
    running = start(made, file, "base", *more)
    until(world, "base", "RUNNING")
    time.sleep(8)
    urgent = world.cluster.ask("sbatch", "--parsable", "--partition=high", "--exclusive", "--output=/dev/null",
                               typed="#!/bin/bash\nsleep 5\n").strip()
    until(world, "base", "PENDING", seconds=60)
    world.cluster.wait(lambda: (urgent, "COMPLETED") in {(job[0], job[2]) for job in world.cluster.jobs()}, "urgent", 90)
    # Slurm lets two minutes pass before a job that gave way may run again; an administrator need not wait.
    out, err = running.communicate(timeout=400)
    assert running.returncode == 0, err
    assert "taken off its node" in err and "resumes from its checkpoint" in err, err
    undisturbed = Project(world.program, world.folder / "undisturbed", {})
    subprocess.run(["cp", "-r", ROOT / "pipelines", undisturbed.folder], check=True)
    local = ["--set", "stages.base.steps=3000"]
    run(undisturbed, file, "base", *local)
    mine, theirs = (digests(one, file, "base", *local)["base"] for one in (made, undisturbed))
    assert mine == theirs, (mine, theirs)
    print("slurm: " + next(line for line in err.splitlines() if "resumes" in line), flush=True)


TWO_STORES = """
pipeline: two
sources: {{ text: text.txt }}
executor: far
executors:
  far: {{ kind: slurm, remote: env, store: "{node}/$SLURM_JOB_ID", prologue: "{prologue}" }}
stages:
  one: {{ inputs: {{ t: text }}, uses: [tool.sh], run: 'bash tool.sh < {{inputs.t}} > {{outputs.o}}', outputs: {{ o: table }} }}
  two: {{ inputs: {{ one: one }}, run: 'mkdir {{outputs.d}}; for i in 1 2 3; do cat {{inputs.one}} > {{outputs.d}}/$i; done', outputs: {{ d: any }} }}
"""


def two_stores(world):
    """The runner and its jobs share nothing but a remote; the result is that of a local run."""
    (world.folder / "s3").mkdir()
    with remotes.s3(world.folder / "s3") as remote:
        node = world.folder / "node"
        secrets = {k: v for k, v in remote.env.items() if k != "KILN_REMOTES"}
        prologue = "; ".join(f"export {k}={v}" for k, v in secrets.items())
        text = TWO_STORES.format(node=node, prologue=prologue)
        made = project(world, "far", text, **remote.env).write("text.txt", "hello\n").write("tool.sh", "tr a-z A-Z\n")
        hide = made.folder / "artifacts"
        ran = run(made, "--json")
        stages = {stage["name"]: stage for stage in json.loads(ran.stdout)["stages"]}
        assert {stage["outcome"] for stage in stages.values()} == {"ran"}, ran.stdout
        stores = list(node.glob("*/blobs"))
        assert len(stores) == 2, stores
        opened = [str(path) for path in node.rglob("*") if path.is_file() and str(hide).encode() in path.read_bytes()]
        assert not opened, f"the job knows the store of the runner: {opened}"
        here = project(world, "near", text, KILN_OFFLINE="1").write("text.txt", "hello\n").write("tool.sh", "tr a-z A-Z\n")
        run(here, "--executor", "local")
        assert digests(made) == digests(here)
        submitted = len(world.cluster.jobs())
        run(made)
        assert len(world.cluster.jobs()) == submitted


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


KINDS = {one.__name__: one for one in (
    same_digests, a_day, attach_and_cancel, interrupted, out_of_memory, cancelled_by_hand, forced, trial, two_stores, over_its_time,
    a_node_that_dies, preempted, killed_runners, two_thousand)}
CORES = {"two_thousand": 16}
QUICK = ["same_digests", "a_day", "attach_and_cancel", "interrupted", "out_of_memory", "cancelled_by_hand", "forced", "trial",
         "two_stores"]


def main():
    program, *wanted = sys.argv[1:]
    lacks = clusters.missing()
    if lacks:
        print(f"Slurm is not here ({', '.join(lacks)}), so nothing was run on it; `apt-get install slurm-wlm munge` installs it",
              flush=True)
        return
    sys.path.insert(0, str(ROOT / "scripts"))
    import pinned

    # The server of S3.
    pinned.enter("servers-venv", remotes.PINS)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name in list(KINDS) if wanted == ["all"] else wanted or QUICK:
            began = time.monotonic()
            (folder / name).mkdir()
            with clusters.slurm(folder / name / "slurm", CORES.get(name, 2)) as cluster:
                KINDS[name](World(str(Path(program).resolve()), folder / name, cluster))
            print(f"slurm: {name.replace('_', ' ')}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
