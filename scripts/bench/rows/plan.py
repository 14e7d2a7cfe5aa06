"""plan-100000: `kiln plan` of 100,000 stages, beside a dry run of ninja (`ninja -n`) on the same graph.

`chains` and `wide` are planned from nothing: in the first only the head of each chain has a known key, in
the second all of them. `fresh` plans 100,000 chained stages that have run; it is measured only when it is
asked for by name (`ONLY=plan-100000:fresh`), for running them takes minutes.
"""

import bench as common
import graphs
import measure
import writers
from result import AtMost, Result

NAME = "plan-100000"
VARIANTS = ("chains", "wide", "fresh")
PEERS = ("ninja",)
ON_REQUEST = False
TIMES = 100  # as many as the 1,000 of the other rows


def measure_variant(bench, variant, count):
    graph = graphs.wide(count) if variant == "wide" else graphs.chains(count)
    folder = bench.fresh(f"plan-{variant}")
    writers.kiln(folder / "kiln", graph)
    fresh = variant == "fresh"
    if fresh:
        measure.run(bench.our("kiln", ["run", "kiln.yaml"], folder / "kiln", limit=3600))
    check = common.counts(0, count) if fresh else common.says("Plan:")
    contestants = [bench.our("kiln plan", ["plan", "kiln.yaml"], folder / "kiln", check=check)]
    if bench.peers.has("ninja"):
        writers.ninja(folder / "ninja", graph)
        if fresh:
            measure.run(bench.peer("ninja", ["ninja"], folder / "ninja", limit=3600))
        contestants.append(bench.peer("ninja -n", ["ninja", "-n", "--quiet"], folder / "ninja"))
    samples = measure.interleave(contestants, bench.rounds(5))
    peer = measure.median(samples["ninja -n"]) if "ninja -n" in samples else None
    return Result(NAME, variant, measure.median(samples["kiln plan"]), peer, f"{bench.peers.title('ninja')} -n",
                  target=AtMost(5), unit="s", runs=samples)


def measure_row(bench):
    for variant in VARIANTS:
        if bench.wants(variant, on_request=variant == "fresh"):
            yield measure_variant(bench, variant, bench.size * TIMES)
