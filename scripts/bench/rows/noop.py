"""noop-1000: 1,000 stages in chains of ten, nothing is stale; how long until a tool says so.

Three comparisons, each with our own figure taken anew in its rounds: `run`, `run --json` and `plan` beside
ninja; `run` beside `dvc repro` and `plan` beside `dvc status`; `run` beside Snakemake.
"""

import bench as common
import graphs
import measure
import writers
from result import AtLeast, Result

NAME = "noop-1000"
VARIANTS = ("run", "json", "plan")
PEERS = ("ninja", "dvc", "snakemake")
ON_REQUEST = False
TARGETS = {"run": AtLeast(1 / 4), "json": AtLeast(1 / 6)}


def compare(bench, ours, pairs, rounds, warmups=1):
    """Measures pairs of (our variant, peer's contestant, title, target), all in the same rounds."""
    by_name = {our.name: our for our in ours}
    pairs = [pair for pair in pairs if pair[0] in by_name]
    if not pairs:
        return
    names = dict.fromkeys(variant for variant, *_ in pairs)
    peers = {peer.name: peer for _, peer, *_ in pairs}
    try:
        samples = measure.interleave([by_name[name] for name in names] + list(peers.values()), rounds, warmups)
    except measure.Failed as error:
        bench.problem(f"{NAME} beside {pairs[0][2]}: {error}")
        return
    for variant, peer, title, target in pairs:
        runs = {variant: samples[variant], peer.name: samples[peer.name]}
        yield Result(NAME, variant, measure.median(runs[variant]), measure.median(runs[peer.name]), title,
                     target=target, runs=runs)


def beside_ninja(bench, ours):
    peer = bench.peer("ninja", ["ninja"], bench.folder / "noop/ninja", check=common.says("no work to do"))
    title = bench.peers.title("ninja")
    pairs = [(variant, peer, title, TARGETS.get(variant)) for variant in VARIANTS]
    return compare(bench, ours, pairs, bench.rounds(11), warmups=2)


def beside_dvc(bench, ours):
    folder, title = bench.folder / "noop/dvc", bench.peers.title("dvc")
    more = {"check": common.says("up to date"), "limit": 300}
    pairs = [("run", bench.peer("dvc repro", ["dvc", "repro"], folder, **more), f"{title}, repro", AtLeast(500)),
             ("plan", bench.peer("dvc status", ["dvc", "status"], folder, **more), f"{title}, status", None)]
    return compare(bench, ours, pairs, bench.rounds(5))


def beside_snakemake(bench, ours):
    pairs = [("run", snakemake(bench, "-q", "all"), bench.peers.title("snakemake"), None)]
    return compare(bench, ours, pairs, bench.rounds(5))


def snakemake(bench, *words, **more):
    argv = ["snakemake", "--cores", "2", "--rerun-triggers", "mtime", *words]
    return bench.peer("snakemake", argv, bench.folder / "noop/snakemake", **more)


def build(bench, graph):
    """Makes the projects in the state after a whole run."""
    folder = bench.fresh("noop")
    writers.kiln(folder / "kiln", graph)
    measure.run(bench.our("kiln", ["run", "kiln.yaml"], folder / "kiln"))
    if bench.peers.has("ninja"):
        writers.ninja(folder / "ninja", graph)
        measure.run(bench.peer("ninja", ["ninja"], folder / "ninja"))
    if bench.peers.has("dvc"):
        bench.peers.dvc_init(folder / "dvc")
        writers.dvc(folder / "dvc", graph)
    if bench.peers.has("snakemake"):
        writers.snakemake(folder / "snakemake", graph)
        measure.run(snakemake(bench, "-q", "all"))
        measure.run(snakemake(bench, "--dry-run", check=common.says("Nothing to be done")))


def measure_row(bench):
    graph = graphs.chains(bench.size)
    build(bench, graph)
    folder = bench.folder / "noop/kiln"
    cached = common.counts(0, bench.size)
    ours = [
        bench.our("run", ["run", "kiln.yaml"], folder, check=cached),
        bench.our("json", ["run", "kiln.yaml", "--json"], folder, check=common.json_cached(bench.size)),
        bench.our("plan", ["plan", "kiln.yaml"], folder, check=cached),
    ]
    ours = [our for our in ours if bench.wants(our.name)]
    for peer, beside in (("ninja", beside_ninja), ("dvc", beside_dvc), ("snakemake", beside_snakemake)):
        if bench.peers.has(peer):
            yield from beside(bench, ours)
