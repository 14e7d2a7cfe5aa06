"""bpe-encode: the bytes a second of encoding 5 MB with a vocabulary of 8,192 on one thread, beside tiktoken.

Ours is the time that the command line prints, where it does, else that of a whole `tokenizer encode` less that of one
with a text of one byte, pair by pair; the latter charges us for reading the text and for writing the ids as text. Each
side has a vocabulary that it learnt from the same text. The size falls with `--size`.
"""

import re
import statistics

import measure
import pytorch
from result import AtLeast, Result
from training import bpe_train

NAME = "bpe-encode"
VARIANTS = ("tiktoken",)
PEERS = ("pytorch",)
ON_REQUEST = False


def seconds(whole, start):
    """What one pair of samples says of the encoding alone."""
    # What goes to stderr stands at the end.
    if found := re.search(r"tokens in ([\d.]+) s", whole.text[-1000:]):
        return float(found[1])
    return whole.wall - start.wall


def measure_row(bench):
    with_peer = pytorch.is_there(bench, NAME)
    path, title = bpe_train.corpus(bench)
    byte = path.with_name("byte.txt")
    byte.write_text("a")
    measure.run(bpe_train.learn(bench, "vocabulary"))
    words = ["encode", "--tokenizer", path.with_name("vocabulary")]
    contestants = [bpe_train.ours(bench, name, words, stdin, threads=1)
                   for name, stdin in (("kiln", path), ("start", byte))]
    if with_peer:
        contestants.append(bpe_train.peer(bench))
    samples = measure.interleave(contestants, bench.rounds(5))
    ours = path.stat().st_size / statistics.median(map(seconds, samples["kiln"], samples["start"]))
    peer = measure.median(samples["peer"], "tiktoken encode") if with_peer else None
    yield Result(NAME, VARIANTS[0], ours, peer, bench.peers.title("tiktoken"), unit="MB/s", target=AtLeast(3.0),
                 runs=samples, note=title)
