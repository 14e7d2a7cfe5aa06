"""lookup-100000: `kiln plan --json` of 100,000 stages in an empty store, with a remote that answers after 5 ms.

`miss`: the remote has none of the 100,000 actions; `hit`: it has all of them. They are independent stages, so that
one round asks for all. `chains` has all of them too, in chains of ten: a round of 10,000 for each link. The last two
are measured only when they are asked for by name, for running the stages takes minutes. The server (`server.py`) is
a process of its own on this machine, so that it takes some of the cores from us.
"""

import os
import shutil

import graphs
import measure
import shared
import writers
from result import AtMost, Result

NAME = "lookup-100000"
VARIANTS = ("miss", "hit", "chains")
PEERS = ()
ON_REQUEST = False
TIMES = 100  # as many as the 1,000 of the other rows
MILLISECONDS = 5


def states(word, number):
    """A check that Kiln's plan calls this many stages `word`."""

    def check(sample):
        found = sample.text.count(f'"state": "{word}"')
        if found != number:
            raise measure.Failed(f"{number} stages were to be `{word}`, {found} are:\n    {measure.ends(sample.text)}")

    return check


def fill(bench, project, remote):
    """Runs everything, gives the remote the actions, and leaves the store empty. Nobody asks for the blobs."""
    measure.run(bench.our("run", ["run", "kiln.yaml"], project, limit=3600))
    (remote / "actions").mkdir()
    for action in (project / "artifacts/actions").glob("??/*"):
        os.link(action, remote / "actions" / f"{action.parent.name}{action.name}")
    for part in ("actions", "blobs", "cache", "out", "runs", "view", "work"):
        shutil.rmtree(project / "artifacts" / part, ignore_errors=True)


def measure_variant(bench, variant, number):
    project, remote = (bench.fresh(f"lookup-{variant}") / place for place in ("kiln", "remote"))
    writers.kiln(project, graphs.chains(number) if variant == "chains" else graphs.wide(number), shell="sh")
    remote.mkdir()
    (remote / "format").write_text("kiln.remote/1\n")
    if variant != "miss":
        fill(bench, project, remote)
    check = states("run" if variant == "miss" else "fetch", number)
    with shared.served(remote, MILLISECONDS) as url:
        words = ["plan", "kiln.yaml", "--json"]
        ours = shared.with_remote(bench, "kiln plan", words, project, url, check=check)
        samples = measure.interleave([ours], bench.rounds(3))
        asked = shared.count(url)["requests"]
    # The format and every action, if nothing is asked for twice.
    note = f"{asked / (bench.rounds(3) + 1):.0f} requests a run"
    return Result(NAME, variant, measure.median(samples["kiln plan"]), unit="s", target=AtMost(20), runs=samples,
                  note=note)


def measure_row(bench):
    for variant in VARIANTS:
        if bench.wants(variant, on_request=variant != "miss"):
            yield measure_variant(bench, variant, bench.size * TIMES)
