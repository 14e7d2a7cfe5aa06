"""cold-1000: 1,000 trivial commands from nothing with two jobs, beside `ninja -j2` with the same shell line.

Every sample runs in a fresh folder, pairs are interleaved, and what earlier samples wrote is on the disk
before a sample starts (Kiln waits for the disk, ninja does not, and neither shall pay for the other). Ninja
starts each line with `sh -c`; where the variant is bash, the line replaces that sh by `bash -eo pipefail`.
"""

import os

import bench as common
import graphs
import measure
import writers
from result import AtLeast, Result

NAME = "cold-1000"
# The keys of each stage, and the shell of the peer (None: the sh that ninja itself starts).
BASH = "bash -eo pipefail -c"
SETTINGS = {
    "bash, execution folder": ({}, BASH),
    "sh, execution folder": ({"shell": "sh"}, None),
    "bash, sandbox off": ({"sandbox": "off"}, BASH),
    "bash, sandbox strict": ({"sandbox": "strict"}, BASH),
}
# What people type after the colon.
VARIANTS = {"bash": "bash, execution folder", "sh": "sh, execution folder", "off": "bash, sandbox off",
            "strict": "bash, sandbox strict"}
PEERS = ("ninja",)
ON_REQUEST = False


def fresh(bench, name, write):
    """A `prepare` that makes the project anew and lets the disk come to rest.

    The old folder is only put aside: ext4 searches past inodes that were removed in the last seconds whenever it
    makes new ones, which would charge a sample for the removal of the one before it.
    """

    def prepare():
        folder = bench.folder / "cold" / name
        if folder.exists():
            trash = bench.folder / "cold" / "old"
            trash.mkdir(parents=True, exist_ok=True)
            folder.rename(trash / f"{name}-{len(list(trash.iterdir()))}")
        write(folder)
        os.sync()

    return prepare


def measure_variant(bench, graph, title, default_is_bash):
    extra, shell = SETTINGS[title]
    alike = default_is_bash or "shell" in extra  # else the two sides run different shells: no target
    folder = bench.folder / "cold"
    jobs = ["run", "kiln.yaml", "--jobs", "2"]
    contestants = [
        bench.our("kiln", jobs, folder / "kiln", check=common.counts(bench.size, 0),
                  prepare=fresh(bench, "kiln", lambda place: writers.kiln(place, graph, **extra))),
    ]
    if bench.peers.has("ninja"):
        contestants.append(
            bench.peer("ninja", ["ninja", "-j2"], folder / "ninja", check=common.says(f"[{bench.size}/{bench.size}]"),
                       prepare=fresh(bench, "ninja", lambda place: writers.ninja(place, graph, shell))))
    samples = measure.interleave(contestants, bench.rounds(11))
    peer = measure.median(samples["ninja"]) if "ninja" in samples else None
    return Result(NAME, title, measure.median(samples["kiln"]), peer, f"{bench.peers.title('ninja')} -j2, "
                  + (BASH if shell else "sh -c"), target=AtLeast(1 / 2) if alike else None, runs=samples,
                  note="" if alike else "stages ran in sh, the peer's in bash: these do not compare")


def is_bash(bench):
    """True when a stage without `shell` runs in bash; the first landed version ran them in sh."""
    folder = bench.fresh("cold-shell")
    writers.kiln(folder, graphs.Graph({"x": "x"}, []))
    probe = "  probe: { kind: command, inputs: { i: x }, run: '[ -n \"$BASH_VERSION\" ] && echo yes > {outputs.o}', "
    with open(folder / "kiln.yaml", "a") as file:
        file.write(probe + "outputs: { o: any } }\n")
    try:
        measure.run(bench.our("probe", ["run", "kiln.yaml"], folder))
        return True
    except measure.Failed:
        return False


def measure_row(bench):
    graph = graphs.chains(bench.size)
    bench.fresh("cold").mkdir()
    default_is_bash = is_bash(bench)
    for word, title in VARIANTS.items():
        if not bench.wants(word):
            continue
        try:
            yield measure_variant(bench, graph, title, default_is_bash)
        except measure.Failed as error:
            bench.problem(f"{NAME} {title}: {error}")
