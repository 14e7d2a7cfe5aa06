"""Runners and jobs that share no store, secrets, and what stays in a store for jobs.
"""

import hashlib
import json
import re

import remotes
from jobs.ends import SAVES
from jobs.world import digests, names, project, run, start, stopped, until


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


def exports(remote):
    """Lines of shell with what a node needs for a remote."""
    return "; ".join(f"export {k}={v}" for k, v in remote.env.items() if k != "KILN_REMOTES")


def two_stores(world):
    """The runner and its jobs share nothing but a remote; the result is that of a local run."""
    (world.folder / "s3").mkdir()
    with remotes.s3(world.folder / "s3") as remote:
        node = world.folder / "node"
        text = TWO_STORES.format(node=node, prologue=exports(remote))
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
        verified = made.ask("verify", "one")
        assert verified.returncode == 0, verified
        submitted = len(world.cluster.jobs())
        run(made)
        assert len(world.cluster.jobs()) == submitted


FAR = """
pipeline: far
executor: far
executors:
  far: {{ kind: slurm, remote: env, store: "{node}/$SLURM_JOB_ID", prologue: "{prologue}" }}
stages:
  victim: {{ run: '{run}', resources: {{ time: 1m }}, outputs: {{ o: table }} }}
"""


def a_checkpoint_from_elsewhere(world):
    """A stage that was stopped on a node goes on with its checkpoint on another node, by way of the remote."""
    (world.folder / "s3").mkdir()
    with remotes.s3(world.folder / "s3") as remote:
        text = FAR.format(node=world.folder / "node", prologue=exports(remote), run=SAVES)
        made = project(world, "far", text, **remote.env)
        assert "it is submitted again" in stopped(world, made, 5)
        assert len(list((world.folder / "node").iterdir())) == 2, "it ran on the same store"
        log = made.ask("log", "victim").stdout
        assert int(re.findall(r"from (\d+)", log)[-1]) >= 2, log
        left = [name for name in remote.objects() if "jobs/" in name]
        assert not left, left


SECRET = """
pipeline: secret
executor: slurm
executors: { slurm: { kind: slurm, prologue: '. NODE' } }
stages:
  victim:
    run: 'echo the token is $TOKEN; printf %s "$TOKEN" | sha256sum > {outputs.o}; sleep 3'
    env: { TOKEN: { secret: TOKEN } }
    outputs: { o: table }
"""


def secrets_of_the_node(world):
    """A secret comes from the node, and stands in no log, script or description of a job; that of the runner goes nowhere."""
    here, there = "secret-of-the-runner", "secret-of-the-node"
    (world.folder / "environment").write_text(f"export TOKEN={there}\n")
    made = project(world, "secret", SECRET.replace("NODE", str(world.folder / "environment")), TOKEN=here)
    running = start(made)
    until(world, "victim", "RUNNING")
    job = names(world, "victim")[-1][0]
    told = world.cluster.ask("scontrol", "show", "job", job) + world.cluster.ask("scontrol", "write", "batch_script", job, "-")
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    told += out + err + made.ask("log", "victim").stdout
    made_of = (made.folder / "artifacts/out/secret/victim/o").read_text().split()[0]
    assert made_of == hashlib.sha256(there.encode()).hexdigest(), "it was not the secret of the node"
    written = b"".join(path.read_bytes() for path in (made.folder / "artifacts").rglob("*") if path.is_file())
    for secret in (here, there):
        assert secret not in told and secret.encode() not in written, secret
    assert "the token is ***" in told, told


KEPT = """
pipeline: kept
sources: { text: text.txt }
stages:
  base: { inputs: { t: text }, uses: [tool.sh], run: 'bash tool.sh < {inputs.t} > {outputs.o}', outputs: { o: table } }
  top: { inputs: { b: base, t: text }, uses: [tool.sh], executor: slurm, run: 'cat {inputs.b} {inputs.t} tool.sh > {outputs.o}', outputs: { o: table } }
"""


def kept_for_jobs(world):
    """What a job that waits in the queue needs is not garbage."""
    made = project(world, "kept", KEPT).write("text.txt", "hello\n").write("tool.sh", "tr a-z A-Z\n")
    blocker = world.cluster.ask("sbatch", "--parsable", "--exclusive", "--output=/dev/null", typed="#!/bin/bash\nsleep 120\n").strip()
    run(made, "--detach")
    # Another result takes the place of what the job reads.
    made.write("text.txt", "other\n")
    run(made, "base")
    # The job brings what it needs, and it has that from the store alone.
    collected = made.ask("gc", "--apply", "--older", "0s", "--keep-runs", "1")
    assert collected.returncode == 0, collected
    world.cluster.ask("scancel", blocker)
    until(world, "top", "COMPLETED")
    made.write("text.txt", "hello\n")
    ran = run(made)
    assert (made.folder / "artifacts/out/kept/top/o").read_text() == "HELLO\nhello\ntr a-z A-Z\n"
    assert len(names(world, "top")) == 1, ran.stderr


def a_lost_input(world):
    """A stage that runs again, because what it made is gone, runs on the cluster again."""
    text = ("pipeline: lost\nexecutor: slurm\nexecutors: { slurm: { kind: slurm, short: 0s } }\nstages:\n"
            "  one: { run: 'head -c 9000 /dev/zero > {outputs.o}', outputs: { o: table } }\n"
            "  two: { inputs: { i: one }, run: 'wc -c < {inputs.i} > {outputs.o}', outputs: { o: table } }\n")
    made = project(world, "lost", text)
    run(made)
    digest = digests(made)["one"]["o"]
    for blob in (made.folder / "artifacts/blobs").rglob(f"*{digest[2:]}"):
        blob.chmod(0o644)
        blob.unlink()
    made.write("kiln.yaml", text.replace("wc -c", "wc -l"))
    run(made)
    assert len(names(world, "one")) == 2 and len(names(world, "two")) == 2, world.cluster.jobs()


def a_remote_that_is_gone(world):
    """Jobs are cancelled although their remote does not answer; an executor whose remote is not there is refused."""
    (world.folder / "s3").mkdir()
    with remotes.s3(world.folder / "s3") as remote:
        text = FAR.format(node=world.folder / "node", prologue=exports(remote), run="sleep 60; echo > {outputs.o}")
        text += "  other: { run: 'sleep 61; echo > {outputs.o}', outputs: { o: table } }\n"
        made = project(world, "gone", text, **remote.env)
        run(made, "--detach")
        until(world, "victim", "RUNNING")
        until(world, "other", "RUNNING")
        refused = made.ask("cancel", "--offline")
        assert refused.returncode == 1 and refused.stdout.count("cancelled") == 2, refused
        assert made.ask("cancel").returncode == 0
        nowhere = made.ask("run", "--offline")
        assert nowhere.returncode == 3 and "needs the remote `env`" in nowhere.stderr, nowhere
