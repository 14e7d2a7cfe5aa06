"""What sites do to Slurm: banners, policies, failing commands, odd paths, variables and limits of the login node.

Each was reported of other tools. Where the real commands cannot be made to do it, a program of the same name before them on
PATH does, and calls the real one.
"""

import os
import shutil
import signal
import time

from jobs.world import names, project, run, start, until

ONE = "pipeline: one\nexecutor: slurm\nstages: { victim: { run: 'RUN', outputs: { o: table } } }\n"
EASY = ONE.replace("RUN", "echo > {outputs.o}")


def wrapped(world, name, program, script):
    """A PATH on which `program` is this script; REAL in it is the real one."""
    folder = world.folder / f"bin-{name}"
    folder.mkdir()
    real = world.cluster.ask("bash", "-c", f"command -v {program}").strip()
    (folder / program).write_text("#!/bin/bash\n" + script.replace("REAL", real) + "\n")
    (folder / program).chmod(0o755)
    return f"{folder}:{world.cluster.env['PATH']}"


def words_of_sites(world):
    """The id of a job is found between other words, and a refusal that names its rule is no full cluster."""
    path = wrapped(world, "banner", "sbatch", 'echo "Welcome 2 the cluster"; REAL "$@"; code=$?; echo; echo "Bye."; exit $code')
    run(project(world, "banner", EASY, PATH=path))
    assert len(names(world, "victim")) == 1
    rule = 'echo "sbatch: error: QOSMaxWallDurationPerJobLimit" >&2\n'
    policy = ("echo 'sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, "
              "user limits)' >&2; exit 1")
    made = project(world, "policy", EASY, PATH=wrapped(world, "policy", "sbatch", rule + policy))
    ran = run(made, code=1)
    assert "QOSMaxWallDurationPerJobLimit" in ran.stderr and "waits" not in ran.stderr, ran.stderr
    # The second call of the program goes well.
    passing = f"test -e {world.folder}/tried && exec REAL \"$@\"\ntouch {world.folder}/tried\n"
    said = "echo 'sbatch: error: Batch job submission failed: Unexpected message received' >&2; exit 1"
    run(project(world, "passing", EASY, PATH=wrapped(world, "passing", "sbatch", passing + said)))
    # It was taken, whatever the answer was.
    lost = 'REAL "$@"; echo "sbatch: error: something new" >&2; exit 1'
    before = len(names(world, "victim"))
    run(project(world, "lost", EASY, PATH=wrapped(world, "lost", "sbatch", lost)))
    assert len(names(world, "victim")) == before + 1, world.cluster.jobs()


def odd_paths(world):
    """A store may have any path."""
    for name in ("100%users", "back\\slash", "both %j \\n", "a b'c\"d$e`f[1]"):
        run(project(world, name, EASY))


def a_login_node(world):
    """Variables and limits of the machine that submits do not reach the job."""
    seen = world.folder / "seen"
    text = EASY.replace("executor: slurm\n",
                        f"executor: slurm\nexecutors: {{ slurm: {{ kind: slurm, prologue: 'env > {seen}; ulimit -n >> {seen}' }} }}\n")
    strange = {"SLURM_SECRET": "hunter2", "SLURM_MEM_PER_CPU": "5", "SLURM_NTASKS": "7", "SBATCH_PARTITION": "none",
               "PMI_RANK": "3"}
    made = project(world, "login", text, **strange)
    limited = world.folder / "limited"
    limited.write_text(f'#!/bin/bash\nulimit -S -n 777\nexec {world.program} "$@"\n')
    limited.chmod(0o755)
    made.program = str(limited)
    run(made)
    seen = seen.read_text()
    assert "hunter2" not in seen and "SLURM_NTASKS=7" not in seen and "PMI_RANK" not in seen and "\n777\n" not in seen, seen


def a_prologue_that_fails(world):
    """No stage runs after it, and what it printed is shown at once."""
    text = EASY.replace("executor: slurm\n", "executor: slurm\nexecutors: { slurm: { kind: slurm, prologue: module load cuda } }\n")
    began = time.monotonic()
    ran = run(project(world, "prologue", text), code=1)
    assert "the prologue of the executor `slurm` failed" in ran.stderr and "module: command not found" in ran.stderr, ran.stderr
    assert time.monotonic() - began < 30, "it took too long to find out"
    run(project(world, "tolerant", text.replace("module load cuda", "'false || true'")))
    ran = run(project(world, "program", text.replace("prologue: module load cuda", "kiln: /not/here")), code=1)
    assert "name it by `kiln:`" in ran.stderr, ran.stderr


def jobs_that_cannot_be_cancelled(world):
    """A `scancel` that fails is no success; the jobs stay known."""
    broken = 'echo "scancel: error: Problem talking to database" >&2; exit 1'
    path = wrapped(world, "scancel", "scancel", broken)
    made = project(world, "cancel", ONE.replace("RUN", "sleep 60; echo > {outputs.o}"), PATH=path)
    run(made, "--detach")
    until(world, "victim", "RUNNING")
    refused = made.ask("cancel")
    assert refused.returncode == 1 and "Problem talking to database" in refused.stderr, refused
    made.env = world.cluster.env
    assert "cancelled  victim" in made.ask("cancel").stdout


def a_controller_that_hangs(world):
    """`status` says that it does not know, and not that a job is gone."""
    made = project(world, "hangs", ONE.replace("RUN", "sleep 20; echo > {outputs.o}"))
    run(made, "--detach")
    until(world, "victim", "RUNNING")
    os.kill(world.cluster.processes["slurmctld"].pid, signal.SIGSTOP)
    try:
        path = wrapped(world, "hurry", "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
        made.env = world.cluster.env | {"PATH": path}
        status = made.ask("status")
        assert "does not know" not in status.stdout, status
    finally:
        os.kill(world.cluster.processes["slurmctld"].pid, signal.SIGCONT)
    made.env = world.cluster.env
    run(made)


def short_and_large_stages(world):
    """A short stage runs here, and says so; one that needs more than is here does not."""
    text = ("pipeline: short\nexecutor: slurm\nstages:\n"
            "  quick: { run: 'echo 1 > {outputs.o}', outputs: { o: table } }\n"
            "  large: { run: 'echo 1 2 3 > {outputs.o}', resources: { memory: 4TiB }, outputs: { o: table } }\n")
    made = project(world, "short", text)
    run(made, "--executor", "local")
    made.write("kiln.yaml", text.replace("echo 1", "echo 2"))
    ran = run(made, code=1)
    assert "run here, since they were short the last time" in ran.stderr and "+ quick" in ran.stderr, ran.stderr
    assert "no node has what it asks for" in ran.stderr, ran.stderr
    detached = made.ask("run", "quick", "--executor", "local", "--detach")
    assert detached.returncode == 2 or detached.returncode == 3, detached
    assert "none of them runs on one" in detached.stderr, detached


def one_empty_answer(world):
    """That a job is gone, one answer of the cluster does not show: the next run goes on with it."""
    made = project(world, "empty", ONE.replace("RUN", "sleep 8; echo > {outputs.o}"))
    run(made, "--detach")
    once = f"test -e {world.folder}/asked && exec REAL \"$@\"\ntouch {world.folder}/asked"
    made.env = world.cluster.env | {"PATH": wrapped(world, "empty", "squeue", once)}
    ran = run(made)
    assert "goes on with job" in ran.stderr and len(names(world, "victim")) == 1, ran.stderr


def another_program(world):
    """A run goes on when its program is replaced meanwhile; memory by CPU is left to an option that says so."""
    program = world.folder / "kiln"
    shutil.copy(world.program, program)
    text = ("pipeline: replaced\nexecutor: slurm\nexecutors: { slurm: { kind: slurm, short: 0s, options: [--mem-per-cpu=200M] } }\n"
            "stages:\n  one: { run: 'sleep 6; echo > {outputs.o}', resources: { memory: 300MiB }, outputs: { o: table } }\n"
            "  two: { inputs: { i: one }, run: 'cat {inputs.i} > {outputs.o}', outputs: { o: table } }\n")
    made = project(world, "replaced", text)
    made.program = str(program)
    running = start(made)
    until(world, "one", "RUNNING")
    shutil.copy(world.program, world.folder / "new")
    (world.folder / "new").rename(program)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
