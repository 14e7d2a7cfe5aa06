"""What the rows about the shape of SmolLM2-135M share: our stages of that shape, and its peer in transformers.

The peer's script decodes, and then goes forward and backward over 4 rows of 256 tokens, so one run of it gives all
of its figures. Our model has random weights, which take as long as others, and a vocabulary of as many ids, of which
most are never seen.
"""

import re
import statistics

import measure
import pytorch
from training import texts, worker

MODEL = {"preset": "smollm2-135m", "max_position_embeddings": 256}
ROWS, CONTEXT, IDS = 4, 256, 49152
STEPS = 6
FIGURES = {"decode 1": r"batch 1: ([\d.]+) tokens/s", "decode 16": r"batch 16: ([\d.]+) tokens/s",
           "train": r"forward\+backward: ([\d.]+) tokens/s"}


def inputs(bench):
    """A tokenizer with all ids, and a text."""
    def make():
        folder = bench.fresh("smollm2")
        folder.mkdir()
        corpus = folder / "corpus.txt"
        corpus.write_text(texts.made_up(4 << 20), encoding="utf-8")
        params = {"vocab_size": IDS, "min_count": 1}
        tokenizer = worker.made(bench, folder / "data", "tokenizer", "tokenizer", params, {"corpus": corpus})
        return {"tokenizer": tokenizer, "corpus": corpus}

    return bench.once("smollm2 inputs", make)


def pretrain(bench, name, rows, steps, **more):
    params = {"model": MODEL, "steps": steps, "batch_size": rows, "eval_every": 0, "validation_fraction": 0.0}
    folder = bench.folder / f"smollm2/{name}"
    return worker.stage(bench, "kiln", folder, "pretrain", "model", params, inputs(bench), **more)


def their_figures(sample):
    for figure, pattern in FIGURES.items():
        found = re.search(pattern, sample.text)
        if not found:
            raise measure.Failed(f"`{pattern}` was to be printed:\n    {measure.ends(sample.text)}")
        sample.figures[figure] = float(found[1])


def peer(bench):
    return pytorch.script(bench, "peer", ["generate.py"], bench.folder / "smollm2/peer", check=their_figures)


def our_training(sample):
    """Tokens a second by the median time from the end of a step to the end of the next one."""
    arrived = {event["step"]: at for at, event in worker.events(sample, "progress")}
    steps = [arrived[step + 1] - arrived[step] for step in arrived if step + 1 in arrived]
    if len(steps) < STEPS - 1:
        raise measure.Failed(f"progress of {STEPS} steps was expected:\n    {measure.ends(sample.text)}")
    sample.figures["train"] = ROWS * CONTEXT / statistics.median(steps)


def training(bench, with_peer):
    """The samples of a few steps of training and of the peer, measured by the first row that asks."""
    def make():
        ours = pretrain(bench, "train", ROWS, STEPS, check=our_training)
        return measure.interleave([ours, peer(bench)] if with_peer else [ours], bench.rounds(5), warmups=0)

    return bench.once("smollm2 training", make)
