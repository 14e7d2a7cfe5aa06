"""What users do with jobs, from submission to result.
"""

import re
import signal
import subprocess
import time

from jobs.world import ENDS, ROOT, digests, names, project, run, start, until
from jobs.sites import ONE
from jobs.terminal import Terminal
from project import Project


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
    assert "submitted as job" in ran.stderr and "kiln cancel" in ran.stderr, ran.stderr
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
    assert "goes on with job" in ran.stderr and len(names(world, "prepare")) == before + 1, ran.stderr




def trial(world):
    """`doctor` says whether jobs can run, and what is wrong where they cannot."""
    made = project(world, "trial", ENDS.format(partition="none", run="true", resources="cpus: 1"))
    for words in ([], ["kiln.yaml"]):
        bad = made.ask("doctor", "--executor", "slurm", *words)
        assert bad.returncode == 1 and "partition" in bad.stderr and "the trial job failed" in bad.stdout, bad
    good = Project(world.program, world.folder / "plain", world.cluster.env).ask("doctor", "--executor", "slurm")
    assert good.returncode == 0 and "a trial job ran" in good.stdout, good
    unknown = made.ask("doctor", "--executor", "slrm")
    assert unknown.returncode == 3 and "did you mean `slurm`?" in unknown.stderr, unknown


def asked_on_a_terminal(world):
    """Ctrl-C asks what becomes of the jobs: `c` cancels them, anything else leaves them."""
    for name, answer, state in (("leaves", "\r", "RUNNING"), ("cancels", "c\r", "CANCELLED")):
        made = project(world, name, DAY.replace("sleep 4", "sleep 40").replace(": day", f": {name}"))
        before = len(names(world, "prepare"))
        with Terminal(made, "run") as terminal:
            world.cluster.wait(lambda: len(names(world, "prepare")) > before, "submitted")
            terminal.until("submitted as job")
            terminal.type("\x03")
            terminal.until("c cancels them")
            terminal.type(answer)
            code = terminal.end()
        assert code == 130, (code, terminal.seen)
        until(world, "prepare", state, seconds=30)
        has_job = "No stage has a job" not in made.ask("cancel").stdout
        assert has_job == (answer == "\r"), terminal.seen


MANY = """
pipeline: many
executor: slurm
executors: { slurm: { kind: slurm, max_jobs: 2, short: 0s } }
stages:
  a: { run: 'sleep 3; echo a > {outputs.o}', outputs: { o: table } }
  b: { run: 'sleep 3; echo b > {outputs.o}', outputs: { o: table } }
  c: { run: 'sleep 3; echo c > {outputs.o}', outputs: { o: table } }
"""


def jobs_at_a_time(world):
    """There are never more jobs than `max_jobs`, of runners that detach as well."""
    made = project(world, "many", MANY)
    ran = run(made, "--detach")
    assert len(names(world, "")) == 2 and "`max_jobs`" in ran.stderr, (world.cluster.jobs(), ran.stderr)
    ran = run(made, "--detach")
    assert len(names(world, "")) == 2 and ran.stderr.count("goes on with job") == 2, ran.stderr
    run(made)
    assert len(names(world, "")) == 3, world.cluster.jobs()


def changed_meanwhile(world):
    """The job of a stage that was renamed is found; one of a stage that changed is told, and cancelled by name."""
    text = ONE.replace("RUN", "sleep 50; echo > {outputs.o}")
    made = project(world, "changed", text)
    run(made, "--detach")
    until(world, "victim", "RUNNING")
    made.write("kiln.yaml", text.replace("victim:", "renamed:"))
    assert re.search(r"renamed +running +job", made.ask("status").stdout), made.ask("status")
    made.write("kiln.yaml", text.replace("sleep 50", "sleep 1"))
    for words in (["status"], ["attach"]):
        told = made.ask(*words)
        assert "is for another version of `victim`" in told.stdout, told
    ran = run(made)
    assert "is for another version of `victim`" in ran.stderr and "+ victim" in ran.stderr, ran.stderr
    assert "cancelled  victim" in made.ask("cancel").stdout
    assert "another version" not in made.ask("status").stdout
    wrong = project(world, "typo", text.replace("executor: slurm", "executor: slrum")).ask("plan")
    assert wrong.returncode == 3 and "did you mean `slurm`?" in wrong.stderr, wrong
