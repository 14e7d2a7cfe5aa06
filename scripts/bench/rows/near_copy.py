"""near-copy: the bytes that a near-copy of a checkpoint moves where the checkpoint is, beside its plain bytes.

A safetensors file of 64 matrices, 67 MB of random f32, and a second stage that makes a near-copy of it: another
matrix in the place of one of them (`tensor`), or other rows in every matrix, one in twenty (`rows`) or the first
sixteenth (`first-rows`).
`pushed` is what a remote with the first file grows by, all objects counted; `pulled` is what a server sends to a
store that has the first file. The size falls with `--size`.
"""

import shutil

import graphs
import measure
import shared
import writers
from result import AtLeast, Result

NAME = "near-copy"
VARIANTS = ("tensor", "rows", "first-rows")
PEERS = ()
ON_REQUEST = False
TARGET = AtLeast(1 / 0.10)
PIPELINE = """\
pipeline: bench
stages:
  first: {{ uses: [weights.py], run: 'python3 weights.py new {tensors} {{outputs.o}}', outputs: {{ o: any }} }}
  near:
    inputs: {{ i: first }}
    uses: [weights.py]
    run: 'python3 weights.py {variant} {{inputs.i}} {{outputs.o}}'
    outputs: {{ o: any }}
"""


def project(folder, variant, tensors):
    writers.kiln(folder, graphs.NOTHING)
    shutil.copy(shared.SERVER.with_name("weights.py"), folder)
    (folder / "kiln.yaml").write_text(PIPELINE.format(variant=variant, tensors=tensors))
    return folder


def pulled(bench, remote, folder):
    """What comes over the network for the second file, where the first one is."""
    with shared.served(remote) as url:
        measure.run(shared.with_remote(bench, "pull", ["pull", "kiln.yaml", "first"], folder, url))
        before = shared.count(url)["bytes"]
        measure.run(shared.with_remote(bench, "pull", ["pull", "kiln.yaml", "near"], folder, url))
        return shared.count(url)["bytes"] - before


def measure_row(bench):
    folder = bench.fresh("near")
    for variant in VARIANTS:
        if not bench.wants(variant):
            continue
        here, there, remote = (folder / variant / place for place in ("here", "there", "remote"))
        for place in (here, there):
            project(place, variant, max(8, 64 * bench.size // 1000))
        made = shared.answer(bench.our("run", ["run", "kiln.yaml", "--json"], here))
        plain = made["stages"][-1]["outputs"]["o"]["size"]
        shared.pushed(bench, here, remote, "kiln.yaml", "first")
        for way, moved in (("pushed", shared.pushed(bench, here, remote, "kiln.yaml", "near")),
                           ("pulled", pulled(bench, remote, there))):
            yield Result(NAME, f"{variant}, {way}", moved, plain, "a plain copy", unit="MB", target=TARGET)
