"""cold-build: the CPU minutes of `make build` on a clean clone of HEAD, with libtorch there already.

Measured only when it is asked for by name, once, for it takes the machine for a quarter of an hour. The
peer is the figure of the first landed version, 24 CPU-minutes. Crates are taken from cargo's own cache.
"""

import os
import subprocess
from pathlib import Path

import measure
from result import AtLeast, Result

NAME = "cold-build"
VARIANTS = ("build",)
PEERS = ()
ON_REQUEST = True
LANDED = 24 * 60.0


def measure_row(bench):
    root = Path(__file__).resolve().parent.parent.parent.parent
    if not (root / ".libtorch/lib/libtorch_cpu.so").exists():
        raise measure.Failed(f"{root} has no .libtorch; `make libtorch` makes it")
    clone = bench.fresh("clone")
    subprocess.run(["git", "clone", "-q", str(root), str(clone)], check=True)
    os.symlink((root / ".libtorch").resolve(), clone / ".libtorch")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CARGO_TARGET", "MAKE", "MFLAGS", "ONLY"))}
    subprocess.run(["cargo", "fetch", "-q", "--locked"], cwd=clone, env=env, check=True)
    sample = measure.run(measure.Contestant("make build", ["make", "build"], clone, env, limit=4 * 3600))
    note = f"{sample.wall / 60:.1f} minutes of wall time"
    yield Result(NAME, "build", sample.user + sample.system, LANDED, "first landed version", unit="CPU-min",
                 target=AtLeast(2), runs={"make build": [sample]}, note=note)
