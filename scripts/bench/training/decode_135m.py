"""decode-135M: the tokens a second of sampling from a model of the shape of SmolLM2-135M, f32, on 2 threads.

Batches of 1 and of 16, a short prompt and 64 new tokens at temperature 1, as the peer in transformers has them. Ours
is a `sample` of two prompts, a batch each, of which the first one warms up, as a few tokens do in the peer's script.
The figure is the worker's own metric where it has one, else the time from the end of the first batch to that of the
second.
"""

import json

import measure
import pytorch
from result import AtLeast, Result
from training import smollm2, worker

NAME = "decode-135M"
VARIANTS = {"1": AtLeast(2.0), "16": AtLeast(1.5)}
PEERS = ("pytorch",)
ON_REQUEST = False
TOKENS = 64
METRIC = "sample/tokens_per_second"


def sampling(bench, model, prompts, batch):
    params = {"samples_per_prompt": batch, "batch_size": batch, "temperature": 1.0,
              "max_new_tokens": TOKENS}

    def check(sample):
        if said := worker.metrics(sample, METRIC):
            sample.figures["decode"] = said[-1][2]
            return
        ends = [at for at, _ in worker.events(sample, "progress")]
        if len(ends) != 2:
            raise measure.Failed(f"progress of two batches was expected:\n    {measure.ends(sample.text)}")
        sample.figures["decode"] = batch * TOKENS / (ends[1] - ends[0])

    inputs = {"model": model, "prompts": prompts}
    return worker.stage(bench, f"kiln {batch}", bench.folder / f"smollm2/decode-{batch}", "sample", "completions",
                        params, inputs, check=check)


def measure_row(bench):
    with_peer = pytorch.is_there(bench, NAME)
    first = smollm2.pretrain(bench, "first", rows=1, steps=1)
    measure.run(first)
    prompts = bench.folder / "smollm2/prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": word}) + "\n" for word in ("water", "steam")))
    batches = [int(variant) for variant in VARIANTS if bench.wants(variant)]
    contestants = [sampling(bench, first.cwd / "model", prompts, batch) for batch in batches]
    if with_peer:
        contestants.append(smollm2.peer(bench))
    samples = measure.interleave(contestants, bench.rounds(5), warmups=0)
    for batch in batches:
        runs = {name: samples[name] for name in (f"kiln {batch}", "peer") if name in samples}
        peer = measure.median(samples["peer"], f"decode {batch}") if with_peer else None
        yield Result(NAME, str(batch), measure.median(samples[f"kiln {batch}"], "decode"), peer,
                     bench.peers.title("transformers"), unit="tokens/s", target=VARIANTS[str(batch)], runs=runs)
