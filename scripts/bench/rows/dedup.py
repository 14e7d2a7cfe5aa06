"""dedup-10: the bytes of ten checkpoints of one training run on a remote, beside ten plain copies.

The `tiny` model of the demo (3.5 MB in f32) learns the made-up text of `pipelines/smoke.yaml` for 1,000 steps, at
the rate and on the cosine that the kinds have by default, and a checkpoint is kept every 100 steps. The first 100 are
pretraining; each further stage trains on from the checkpoint before it, which only `sft` can, with new moments of
AdamW. `run` has the remote during the run, so that results are sent as they are made; `push` sends all of them at
the end by one `kiln push`. All objects of the ten checkpoints count: the first one, recipes and actions too.
"""

import math
import shutil
from pathlib import Path

import graphs
import shared
import writers
from result import AtLeast, Result

NAME = "dedup-10"
VARIANTS = ("run", "push")
PEERS = ()
ON_REQUEST = False
ROOT = Path(__file__).resolve().parents[3]
CHECKPOINTS = 10
PEAK, FLOOR = 1e-3, 0.1
DATA = """\
pipeline: bench
params: { seed: 1337 }
stages:
  text:
    run: >-
      python3 pipelines/smoke/text.py --seed 1337
      --corpus {outputs.corpus} --validation {outputs.validation}
      --demonstrations {outputs.demonstrations} --prompts {outputs.prompts} --heldout {outputs.heldout}
    uses: [pipelines/smoke/text.py]
    outputs: { corpus: corpus, validation: corpus, demonstrations: demonstrations, prompts: prompts, heldout: prompts }
  tokenizer: { kind: tokenizer, inputs: { corpus: text.corpus }, params: { vocab_size: 512 } }
"""


def rate(n):
    """The learning rate where the part `n` of the run begins, on half a cosine."""
    return PEAK * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * n / CHECKPOINTS)) / 2)


def stage(n):
    """The part `n` of the run; its rate falls on a line to that of the next part."""
    if n == 0:
        work = ("kind: pretrain, inputs: { tokenizer: tokenizer, corpus: text.corpus, validation: text.validation }",
                "model: { preset: tiny, max_position_embeddings: 64 }, ")
    else:
        work = (f"kind: sft, inputs: {{ model: c{n - 1}, demonstrations: text.demonstrations }}", "")
    schedule = f"{{ decay: linear, warmup: {0 if n else 50}, min_lr_ratio: {rate(n + 1) / rate(n):.6f} }}"
    return (f"  c{n}: {{ {work[0]}, params: {{ {work[1]}steps: 100, learning_rate: {rate(n):.6e}, "
            f"schedule: {schedule} }} }}\n")


def train(bench, project, remote):
    """Trains, with a remote that has the data; gives the plain bytes of the checkpoints and those on the remote."""
    words = ["--device", "cpu", "--json"]
    shared.answer(shared.with_remote(bench, "data", ["run", "kiln.yaml", "tokenizer", *words], project, remote))
    before = shared.bytes_below(remote)
    made = shared.answer(shared.with_remote(bench, "train", ["run", "kiln.yaml", *words], project, remote))
    outputs = {stage["name"]: stage["outputs"] for stage in made["stages"]}
    plain = sum(outputs[f"c{n}"]["model"]["size"] for n in range(CHECKPOINTS))
    return plain, shared.bytes_below(remote) - before


def measure_row(bench):
    folder = bench.fresh("dedup")
    project = folder / "project"
    writers.kiln(project, graphs.NOTHING)
    shutil.copytree(ROOT / "pipelines/smoke", project / "pipelines/smoke")
    (project / "kiln.yaml").write_text(DATA + "".join(stage(n) for n in range(CHECKPOINTS)))
    plain, stored = train(bench, project, folder / "run")
    found = {"run": stored}
    if bench.wants("push"):
        shared.pushed(bench, project, folder / "push", "kiln.yaml", "tokenizer")
        found["push"] = shared.pushed(bench, project, folder / "push", "kiln.yaml")
    for variant, stored in found.items():
        if bench.wants(variant):
            yield Result(NAME, variant, stored, plain, f"{CHECKPOINTS} plain copies", unit="MB",
                         target=AtLeast(1 / 0.85), note=f"{100 * stored / plain:.1f} % of the plain bytes")
