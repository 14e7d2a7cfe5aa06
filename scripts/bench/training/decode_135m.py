"""decode-135M: the tokens a second of sampling from SmolLM2-135M, f32, on 2 threads.

64 new tokens after the same sentence as the peer's in transformers, which takes the likeliest ones in a batch of 1, and draws
them at temperature 1 in a batch of 16. Ours is a `sample` of the sentence twice, a batch each, of which the first one warms
up, as a few tokens do in the peer's script. The figure is the worker's own metric where it has one, else the time from the
end of the first batch to that of the second.

A step reads every weight once, so in a batch of 1 no program that keeps the weights in f32 is faster than memory can be read.
That rate, of as many threads, is measured in the same rounds, and a figure that comes near it is enough. These weights come from
blocks of 4 and 8 bits, which ours finds in the values and keeps as 8 bits, so it can be faster than that; a model that was
trained as a whole stays in f32.
"""

import json

import measure
import pytorch
import writers
from result import AtLeast, Result
from training import smollm2, smollm2_says, worker

NAME = "decode-135M"
VARIANTS = {"1": AtLeast(2.0, of_limit=0.85), "16": AtLeast(1.5)}
PEERS = ("pytorch",)
ON_REQUEST = False
TOKENS = smollm2_says.NEW
THREADS = 2
METRIC = "sample/tokens_per_second"


def sampling(bench, batch):
    def check(sample):
        made = smollm2.completions(contestant)
        if [len(tokens) for tokens in made] != 2 * batch * [TOKENS]:
            raise measure.Failed(f"two batches of {batch} completions of {TOKENS} tokens were expected:\n    {made}")
        if said := worker.metrics(sample, METRIC):
            sample.figures["decode"] = said[-1][2]
            return
        ends = [at for at, _ in worker.events(sample, "progress")]
        if len(ends) != 2:
            raise measure.Failed(f"progress of two batches was expected:\n    {measure.ends(sample.text)}")
        sample.figures["decode"] = batch * TOKENS / (ends[1] - ends[0])

    contestant = smollm2.sampled(bench, f"decode-{batch}", batch, TOKENS, 0.0 if batch == 1 else 1.0, check=check)
    return contestant


def reading(bench):
    """A contestant that reads memory as fast as it can."""
    def check(sample):
        sample.figures["bytes"] = json.loads(sample.text)["bytes_per_second"]

    argv = [bench.worker, "bandwidth", THREADS]
    return measure.Contestant("memory", argv, bench.folder, writers.kiln_environment(), check=check)


def weights(bench):
    """The bytes of all weights, without the header of their file."""
    with open(smollm2.model(bench) / "model.safetensors", "rb") as file:
        header = int.from_bytes(file.read(8), "little")
        return file.seek(0, 2) - 8 - header


def measure_row(bench):
    with_peer = pytorch.is_there(bench, NAME)
    batches = [int(variant) for variant in VARIANTS if bench.wants(variant)]
    contestants = [sampling(bench, batch) for batch in batches] + [reading(bench)]
    if with_peer:
        smollm2.compare(bench)
        contestants.append(smollm2.peer(bench))
    samples = measure.interleave(contestants, bench.rounds(5), warmups=0)
    limit = measure.median(samples["memory"], "bytes") / weights(bench)
    for batch in batches:
        runs = {name: samples[name] for name in (f"kiln {batch}", "peer", "memory") if name in samples}
        ours = measure.median(samples[f"kiln {batch}"], "decode")
        peer = measure.median(samples["peer"], f"decode {batch}") if with_peer else None
        note = f"memory gives all weights in f32 {limit:.1f} times a second; ours is {ours / limit:.0%} of that" if batch == 1 else ""
        yield Result(NAME, str(batch), ours, peer, bench.peers.title("transformers"), unit="tokens/s",
                     target=VARIANTS[str(batch)], limit=limit if batch == 1 else None, runs=runs, note=note)
