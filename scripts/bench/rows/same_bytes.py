"""same-bytes-1000: a root whose rerun gives the same bytes, and 999 stages below it that need not run.

Measured is the time beyond the one stage: a run of all 1,000 after an edit of the root's source, less the
run of a pipeline that holds the root alone after the same edit, pair by pair. The peer is measured alike.
"""

import itertools
import statistics

import bench as common
import graphs
import measure
import writers
from result import AtMost, Result

NAME = "same-bytes-1000"
VARIANTS = ("run",)
PEERS = ("snakemake",)
ON_REQUEST = False
SNAKEMAKE = ["snakemake", "--cores", "2"]


def edit(folder, numbers):
    """A `prepare` that gives the root's source new bytes, never the same twice."""
    return lambda: (folder / "src/seed").write_text(f"seed {next(numbers)}\n")


def beyond(samples, tool):
    """The median, over the pairs, of the time that the whole takes beyond the root alone."""
    pairs = zip(samples[f"{tool} all"], samples[f"{tool} root"])
    return statistics.median(whole.wall - alone.wall for whole, alone in pairs)


def pair(bench, tool, write, contestant):
    """The two contestants of one tool: `contestant(name, folder, count, prepare)` after a first whole run."""
    numbers = itertools.count(1)
    made = []
    for part, count in (("all", bench.size), ("root", 1)):
        folder = bench.folder / "same" / tool / part
        write(folder, graphs.below_one_root(count))
        measure.run(contestant(f"{tool} {part}", folder, None, None))
        made.append(contestant(f"{tool} {part}", folder, count, edit(folder, numbers)))
    return made


def ours(bench):
    def contestant(name, folder, count, prepare):
        check = common.counts(1, count - 1) if count else None
        return bench.our(name, ["run", "kiln.yaml"], folder, prepare=prepare, check=check)

    return pair(bench, "kiln", writers.kiln, contestant)


def snakemake(bench):
    def contestant(name, folder, _count, prepare):
        return bench.peer(name, [*SNAKEMAKE, "-q", "all"], folder, prepare=prepare)

    return pair(bench, "snakemake", writers.snakemake, contestant)


def reruns(bench):
    """How many jobs Snakemake runs after the edit, its rule `all` aside: counted in an unmeasured run."""
    folder = bench.folder / "same/snakemake/all"
    (folder / "src/seed").write_text("seed counted\n")
    return measure.run(bench.peer("count", SNAKEMAKE, folder)).text.count("Finished jobid") - 1


def measure_row(bench):
    bench.fresh("same").mkdir()
    mine = ours(bench)
    runs = measure.interleave(mine, bench.rounds(11))
    yield Result(NAME, "run", beyond(runs, "kiln"), target=AtMost(0.05), runs=runs)
    if bench.peers.has("snakemake"):
        # Snakemake runs about a thousand jobs a sample, so these are five rounds, with ours beside it once more.
        runs = measure.interleave([*mine, *snakemake(bench)], bench.rounds(5), warmups=0)
        yield Result(NAME, "run, beside the peer", beyond(runs, "kiln"), beyond(runs, "snakemake"),
                     bench.peers.title("snakemake"), runs=runs,
                     note=f"Snakemake ran {reruns(bench)} of {bench.size} jobs again, Kiln 1")
