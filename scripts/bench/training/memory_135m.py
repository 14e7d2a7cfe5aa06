"""memory-135M: the peak resident memory of the training of `train-135M`, from the same runs.

Ours holds the moments of AdamW as well, and writes the model, and a state from which the stage could go on. The peer's is
that of its whole run, which also decodes 16 rows, and has no optimizer.
"""

import statistics

import pytorch
from result import AtLeast, Result
from training import smollm2

NAME = "memory-135M"
VARIANTS = ("peak",)
PEERS = ("pytorch",)
ON_REQUEST = False


def measure_row(bench):
    with_peer = pytorch.is_there(bench, NAME)
    samples = smollm2.training(bench, with_peer)
    peaks = {name: statistics.median(sample.peak for sample in found) for name, found in samples.items()}
    yield Result(NAME, VARIANTS[0], peaks["kiln"], peaks.get("peer"), bench.peers.title("transformers"), unit="MB",
                 target=AtLeast(1.0), runs=samples)
