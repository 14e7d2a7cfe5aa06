"""train-135M: the tokens a second of training SmolLM2-135M, f32, 4 rows of 256 tokens, 2 threads.

Ours are whole steps with AdamW, and the time from the end of a step to the end of the next one. The peer, in
transformers, only goes forward and backward, from the same weights.
"""

import measure
import pytorch
from result import AtLeast, Result
from training import smollm2

NAME = "train-135M"
VARIANTS = ("4x256",)
PEERS = ("pytorch",)
ON_REQUEST = False


def measure_row(bench):
    with_peer = pytorch.is_there(bench, NAME)
    samples = smollm2.training(bench, with_peer)
    peer = measure.median(samples["peer"], "train") if with_peer else None
    yield Result(NAME, VARIANTS[0], measure.median(samples["kiln"], "train"), peer,
                 f"{bench.peers.title('transformers')}, without optimizer", unit="tokens/s", target=AtLeast(1.2),
                 runs=samples)
