"""touch-1GiB: a source of 1 GiB whose time changed and whose bytes did not; and the same file untouched.

`kiln plan` beside `sha256sum` (which only hashes) and `dvc status`. All three read the same inode, from the
page cache. The size falls with `--size`, so that a trial is quick.
"""

import os
import time

import bench as common
import graphs
import measure
import writers
from result import AtMost, Result

NAME = "touch-1GiB"
VARIANTS = ("touched", "untouched")
PEERS = ("dvc",)
ON_REQUEST = False
PIPELINE = """\
pipeline: bench
sources:
  big: { path: big, type: any }
stages:
  size: { kind: command, inputs: { i: big }, run: 'wc -c < {inputs.i} > {outputs.o}', outputs: { o: any } }
"""
DVC = "stages:\n  size:\n    cmd: wc -c < big > out\n    deps: [big]\n    outs: [out]\n"


def build(bench):
    """Makes the file and the two projects, in the state after a whole run."""
    folder = bench.fresh("touch")
    writers.kiln(folder / "kiln", graphs.NOTHING)
    (folder / "kiln/kiln.yaml").write_text(PIPELINE)
    block = os.urandom(1 << 20)
    with open(folder / "kiln/big", "wb") as big:
        for _ in range(max(1, 1024 * bench.size // 1000)):
            big.write(block)
    measure.run(bench.our("kiln", ["run", "kiln.yaml"], folder / "kiln"))
    if bench.peers.has("dvc"):
        bench.peers.dvc_init(folder / "dvc")
        (folder / "dvc/dvc.yaml").write_text(DVC)
        os.link(folder / "kiln/big", folder / "dvc/big")
        measure.run(bench.peer("dvc", ["dvc", "repro"], folder / "dvc"))
    os.sync()


def measure_touched(bench):
    big = bench.folder / "touch/kiln/big"

    def touch():
        os.utime(big)
        time.sleep(0.05)  # past the grain of the clock of the file system

    found = measure.interleave(list(contestants(bench, touch, with_sum=True)), bench.rounds(5))
    yield from results("touched", found, bench, AtMost(0.65))


def measure_untouched(bench):
    time.sleep(0.05)
    measure.run(bench.our("settle", ["run", "kiln.yaml"], bench.folder / "touch/kiln"))
    found = measure.interleave(list(contestants(bench, None, with_sum=False)), bench.rounds(11))
    yield from results("untouched", found, bench, AtMost(0.01))


def contestants(bench, prepare, with_sum):
    folder = bench.folder / "touch"
    cached = common.counts(0, 1)
    yield bench.our("kiln plan", ["plan", "kiln.yaml"], folder / "kiln", prepare=prepare, check=cached)
    if with_sum:
        yield measure.Contestant("sha256sum", ["sha256sum", "big"], folder / "kiln", prepare=prepare)
    if bench.peers.has("dvc"):
        clean = common.says("up to date")
        yield bench.peer("dvc status", ["dvc", "status"], folder / "dvc", prepare=prepare, check=clean)


def results(variant, found, bench, target):
    ours = measure.median(found["kiln plan"])
    titles = {"sha256sum": "sha256sum", "dvc status": f"{bench.peers.title('dvc')}, status"}
    there = [name for name in titles if name in found]
    for name in there:
        runs = {"kiln plan": found["kiln plan"], name: found[name]}
        yield Result(NAME, variant, ours, measure.median(found[name]), titles[name], target=target, runs=runs)
    if not there:
        yield Result(NAME, variant, ours, target=target, runs=found)


def measure_row(bench):
    build(bench)
    if bench.wants("touched"):
        yield from measure_touched(bench)
    if bench.wants("untouched"):
        yield from measure_untouched(bench)
