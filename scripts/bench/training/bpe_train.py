"""bpe-train: the time to learn a byte-level BPE vocabulary of 8,192 from 5 MB, beside rustbpe and tokenizers.

All take as many threads as there are cores, and what each says of its own training is compared, without the reading
of the text. The size falls with `--size`. The text and the contestants are those of `bpe-encode` too.
"""

import re

import measure
import pytorch
import writers
from result import AtLeast, Result
from training import texts

NAME = "bpe-train"
VARIANTS = {"rustbpe": AtLeast(3.0), "tokenizers": None}
PEERS = ("pytorch",)
ON_REQUEST = False
VOCABULARY = 8192
# `tiktoken x2`, `tokenizers batch`: other ways of calling, which do not match.
RATE = re.compile(r"^(\w+) +(train|encode) [\d.]+ s +([\d.]+) MB/s", re.MULTILINE)


def corpus(bench):
    """A file of 5 MB (less in a trial), and what it is."""
    def make():
        folder = bench.fresh("bpe")
        folder.mkdir()
        text, title = texts.large(bench, 5_000_000 * bench.size // 1000)
        (folder / "corpus.txt").write_text(text, encoding="utf-8", newline="\n")
        return folder / "corpus.txt", title

    return bench.once("bpe corpus", make)


def ours(bench, name, words, stdin, threads=None, **more):
    """A contestant that is the command line of our tokenizer."""
    env = writers.kiln_environment() | ({"RAYON_NUM_THREADS": str(threads)} if threads else {})
    return measure.Contestant(name, [bench.worker, "tokenizer", *words], stdin.parent, env, stdin=stdin, **more)


def learn(bench, name, **more):
    """A contestant that learns a vocabulary from the text into the folder of this name beside it."""
    path, _ = corpus(bench)
    out = path.parent / name
    out.mkdir(exist_ok=True)
    words = ["train", "--pattern", "gpt4", "--vocab-size", str(VOCABULARY), "--out", out]
    return ours(bench, "kiln", words, path, **more)


def peer(bench):
    """All of the peers. They print bytes a second, from which the seconds follow more exactly than they print them."""
    path, _ = corpus(bench)

    def check(sample):
        for name, what, rate in RATE.findall(sample.text):
            sample.figures[f"{name} {what}"] = float(rate) * 1e6
        if not {"rustbpe train", "tokenizers train", "tiktoken encode"} <= sample.figures.keys():
            raise measure.Failed(f"the rates of all peers were to be printed:\n    {measure.ends(sample.text)}")

    return pytorch.script(bench, "peer", ["bpe.py", str(path), str(VOCABULARY)], path.parent, check=check)


def said(sample):
    found = re.search(r"tokens in ([\d.]+) s", sample.text)
    if not found:
        raise measure.Failed(f"the time of training was to be printed:\n    {measure.ends(sample.text)}")
    sample.figures["train"] = float(found[1])


def measure_row(bench):
    with_peer = pytorch.is_there(bench, NAME)
    path, title = corpus(bench)
    contestants = [learn(bench, "learnt", check=said)] + ([peer(bench)] if with_peer else [])
    samples = measure.interleave(contestants, bench.rounds(5))
    for name, target in VARIANTS.items():
        if bench.wants(name) and (with_peer or target):
            peers = path.stat().st_size / measure.median(samples["peer"], f"{name} train") if with_peer else None
            yield Result(NAME, name, measure.median(samples["kiln"], "train"), peers, bench.peers.title(name),
                         target=target, runs=samples, note=title)
