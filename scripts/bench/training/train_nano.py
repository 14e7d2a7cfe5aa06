"""train-nano: the time of a training step of a small GPT, beside PyTorch on as many threads.

4 layers, 4 heads, width 128, context 64, 12 rows a step, f32, AdamW, clipped gradients. Ours is a `pretrain` of 200
steps on 261 ids, and the time from the metrics of step 50 to those of step 200; the peer's is its median of the same
steps, with the better of its two forms of AdamW. `1-nanogpt` and `2-nanogpt` put the same stage beside the published
configuration of nanoGPT, which has no biases, another GELU and 65 ids; our kinds do not have it, so there is no
target, and they run only when they are named.
"""

import re

import measure
import pytorch
from result import AtLeast, Result
from training import texts, worker

NAME = "train-nano"
# Threads, what the peer computes, and the target.
VARIANTS = {"1": (1, "kiln", AtLeast(1.1)), "2": (2, "kiln", AtLeast(1.3)), "1-nanogpt": (1, "nanogpt", None),
            "2-nanogpt": (2, "nanogpt", None)}
PEERS = ("pytorch",)
ON_REQUEST = False
STEPS, SETTLED = 200, 50
PARAMS = {
    "model": {"preset": "tiny", "layers": 4, "heads": 4, "hidden_size": 128, "max_position_embeddings": 64},
    "steps": STEPS, "batch_size": 12, "eval_every": 0, "validation_fraction": 0.0, "learning_rate": 1e-3,
    "optimizer": {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1, "max_grad_norm": 1.0},
}


def our_step(sample):
    arrived = {step: at for at, step, _ in worker.metrics(sample, "train/loss")}
    if not {SETTLED, STEPS} <= arrived.keys():
        raise measure.Failed(f"no metrics of steps {SETTLED} and {STEPS}:\n    {measure.ends(sample.text)}")
    sample.figures["step"] = (arrived[STEPS] - arrived[SETTLED]) / (STEPS - SETTLED)


def their_step(sample):
    medians = re.findall(r"fused=\w+: median ([\d.]+) ms", sample.text)
    if len(medians) != 2:
        raise measure.Failed(f"two medians were expected:\n    {measure.ends(sample.text)}")
    sample.figures["step"] = min(map(float, medians)) / 1e3


def data(bench):
    """The inputs of the stage."""
    folder = bench.fresh("train-nano")
    folder.mkdir()
    corpus = folder / "corpus.txt"
    corpus.write_text(texts.small(), encoding="utf-8")
    tokenizer = worker.made(bench, folder / "data", "tokenizer", "tokenizer", {"vocab_size": 261}, {"corpus": corpus})
    return {"tokenizer": tokenizer, "corpus": corpus}


def measure_variant(bench, inputs, variant, with_peer):
    threads, configuration, target = VARIANTS[variant]
    folder = bench.folder / f"train-nano/{variant}"
    ours = worker.stage(bench, "kiln", folder / "kiln", "pretrain", "model", PARAMS, inputs, threads, check=our_step)
    # Like the peer, without a state on the disk every other second.
    ours.env["KILN_CHECKPOINT_SECONDS"] = "3600"
    contestants = [ours]
    if with_peer:
        contestants.append(pytorch.script(bench, "peer", ["step.py", configuration], folder / "peer", threads,
                                          check=their_step))
    samples = measure.interleave(contestants, bench.rounds(5))
    peer = measure.median(samples["peer"], "step") if with_peer else None
    title = f"{bench.peers.title('torch')}, {configuration}" if with_peer else ""
    note = "" if target else "the peer has 65 ids, no biases and another GELU: these do not compare"
    return Result(NAME, variant, measure.median(samples["kiln"], "step"), peer, title, target=target, runs=samples,
                  note=note)


def measure_row(bench):
    with_peer = pytorch.is_there(bench, NAME)
    inputs = data(bench)
    for variant, (_, configuration, _) in VARIANTS.items():
        if bench.wants(variant, on_request=configuration == "nanogpt"):
            yield measure_variant(bench, inputs, variant, with_peer)
