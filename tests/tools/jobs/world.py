"""What the scenarios of `slurm.py` share: projects on a cluster, runs, and what is known of jobs.

Must not know: what is tried.
"""

import os
import subprocess
import time
from pathlib import Path

from project import Project

ROOT = Path(__file__).resolve().parents[3]

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


def stopped(world, made, seconds):
    """What a run says whose job `victim` gets SIGTERM after a while."""
    running = start(made)
    until(world, "victim", "RUNNING")
    time.sleep(seconds)
    world.cluster.ask("scancel", "--batch", "--signal=TERM", names(world, "victim")[-1][0])
    _, err = running.communicate(timeout=90)
    assert running.returncode == 0, err
    return err


def until(world, stage, *states, seconds=90):
    world.cluster.wait(lambda: state_of(world, stage) in states, f"{stage} {states}", seconds)


def start(made, *words, told=None):
    """A run in the background, which says to a pipe, or to the file `told`, what it does."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "AZURE_", "KILN_"))}
    env |= made.env | {"KILN_CONFIG": str(made.folder / "config.yaml")}
    return subprocess.Popen([made.program, "run", *words], cwd=made.folder, env=env, text=True,
                            stdout=told or subprocess.PIPE, stderr=told or subprocess.PIPE,
                            stdin=subprocess.DEVNULL)


ENDS = """
pipeline: ends
executor: slurm
executors: {{ slurm: {{ kind: slurm, options: [--partition={partition}] }} }}
stages:
  victim: {{ run: '{run}', resources: {{ {resources} }}, outputs: {{ o: table }} }}
"""


def ending(world, name, script, resources="cpus: 1", partition="main"):
    return project(world, name, ENDS.format(run=script, resources=resources, partition=partition))
