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
    return [job for job in world.cluster.jobs() if job[1].startswith(f"kiln-{stage}-")]


def state_of(world, stage):
    jobs = names(world, stage)
    return jobs[-1][2] if jobs else None


def until(world, stage, *states, seconds=90):
    world.cluster.wait(lambda: state_of(world, stage) in states, f"{stage} {states}", seconds)


def start(made, *words):
    """A run in the background."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "AZURE_", "KILN_"))}
    env |= made.env | {"KILN_CONFIG": str(made.folder / "config.yaml")}
    return subprocess.Popen([made.program, "run", *words], cwd=made.folder, env=env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)


def same_digests(world):
    """smoke.yaml gives the same digests as jobs; a second run submits nothing."""
    here = Project(world.program, world.folder / "here", {})
    there = Project(world.program, world.folder / "there", world.cluster.env)
    for one in (here, there):
        subprocess.run(["cp", "-r", ROOT / "pipelines", one.folder], check=True)
    file = "pipelines/smoke.yaml"
    run(here, file)
    run(there, file, "--executor", "slurm")
    submitted = len(world.cluster.jobs())
    assert submitted == 9, world.cluster.jobs()
    assert digests(here, file) == digests(there, file)
    assert not any((there.folder / "artifacts/jobs").glob("*")), "something of a job stays"
    run(there, file, "--executor", "slurm")
    assert len(world.cluster.jobs()) == submitted, "the second run submitted something"


DAY = """
pipeline: day
executor: slurm
stages:
  prepare: { run: 'sleep 4; echo prepared; seq 100 > {outputs.rows}', outputs: { rows: table } }
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


KINDS = {"same_digests": same_digests, "a_day": a_day, "attach_and_cancel": attach_and_cancel, "interrupted": interrupted}
QUICK = list(KINDS)


def main():
    program, *wanted = sys.argv[1:]
    lacks = clusters.missing()
    if lacks:
        print(f"Slurm is not here ({', '.join(lacks)}), so nothing was run on it; `apt-get install slurm-wlm munge` installs it",
              flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name in wanted or QUICK:
            began = time.monotonic()
            (folder / name).mkdir()
            with clusters.slurm(folder / name / "slurm") as cluster:
                KINDS[name](World(str(Path(program).resolve()), folder / name, cluster))
            print(f"slurm: {name.replace('_', ' ')}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
