"""decode-135M: the tokens a second of sampling from SmolLM2-135M, f32, on 2 threads.

64 new tokens after the same sentence as the peer's in transformers, which takes the likeliest ones in a batch of 1, and draws
them at temperature 1 in a batch of 16. Ours is a `sample` of the sentence twice, a batch each, of which the first one warms
up, as a few tokens do in the peer's script. The figure is the worker's own metric where it has one, else the time from the
end of the first batch to that of the second.
"""

import measure
import pytorch
from result import AtLeast, Result
from training import smollm2, smollm2_says, worker

NAME = "decode-135M"
VARIANTS = {"1": AtLeast(2.0), "16": AtLeast(1.5)}
PEERS = ("pytorch",)
ON_REQUEST = False
TOKENS = smollm2_says.NEW
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


def measure_row(bench):
    with_peer = pytorch.is_there(bench, NAME)
    batches = [int(variant) for variant in VARIANTS if bench.wants(variant)]
    contestants = [sampling(bench, batch) for batch in batches]
    if with_peer:
        smollm2.compare(bench)
        contestants.append(smollm2.peer(bench))
    samples = measure.interleave(contestants, bench.rounds(5), warmups=0)
    for batch in batches:
        runs = {name: samples[name] for name in (f"kiln {batch}", "peer") if name in samples}
        peer = measure.median(samples["peer"], f"decode {batch}") if with_peer else None
        yield Result(NAME, str(batch), measure.median(samples[f"kiln {batch}"], "decode"), peer,
                     bench.peers.title("transformers"), unit="tokens/s", target=VARIANTS[str(batch)], runs=runs)
