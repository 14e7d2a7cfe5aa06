"""ppo-nano: the time of an iteration of PPO on a small GPT-2, beside the PPOTrainer of TRL.

4 layers, 4 heads, width 128, 2,048 ids, 32 prompts of 32 tokens, 32 new tokens, 4 epochs of one minibatch, a value
model of its own. Both start from models without training (ours from one step, which the kinds demand), so that the
stop token is rare and responses are whole. The figure is the median time from the end of an iteration to the end of
the next one; the first of six iterations is left out.
"""

import json
import os
import re
import statistics

import measure
import pytorch
from result import AtLeast, Result
from training import texts, worker

NAME = "ppo-nano"
VARIANTS = ("iteration",)
PEERS = ("pytorch",)
ON_REQUEST = False
ITERATIONS, ROWS, PROMPT, NEW = 6, 32, 32, 32


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prompts(bench, tokenizer, text):
    """As many prompts as all iterations take, each with the same number of tokens, those of the template included."""
    tried = list(texts.stretches(text, 20_000))
    ids = worker.encoded(bench, tokenizer, tried, "prompt")
    found = [{"prompt": words} for words, row in zip(tried, ids) if len(row) == PROMPT]
    if len(found) < ITERATIONS * ROWS:
        raise measure.Failed(f"only {len(found)} prompts with {PROMPT} tokens were found")
    return found[:ITERATIONS * ROWS]


def inputs(bench, folder):
    """A tokenizer, a model and a reward model of one step each, and prompts."""
    text = texts.small()
    corpus = folder / "corpus.txt"
    corpus.write_text(text, encoding="utf-8")

    def made(kind, output, params, **ports):
        return worker.made(bench, folder / kind, kind, output, params, ports)

    tokenizer = made("tokenizer", "tokenizer", {"vocab_size": 2048}, corpus=corpus)
    shape = {"preset": "tiny", "layers": 4, "heads": 4, "hidden_size": 128, "max_position_embeddings": 128}
    model = made("pretrain", "model", {"model": shape, "steps": 1, "eval_every": 0, "validation_fraction": 0.0},
                 tokenizer=tokenizer, corpus=corpus)
    rankings = lines(folder / "rankings.jsonl",
                     [{"prompt": "a", "completions": ["b", "c"], "ranks": [2, 1]} for _ in range(8)])
    reward = made("reward", "reward", {"epochs": 1, "prompts_per_batch": 8, "validation_fraction": 0.0},
                  model=model, rankings=rankings)
    asked = lines(folder / "prompts.jsonl", prompts(bench, tokenizer, text))
    return {"model": model, "reward": reward, "prompts": asked}


def our_iteration(sample):
    ends = [at for at, _, _ in worker.metrics(sample, "objective/scores")]
    length = statistics.mean(value for *_, value in worker.metrics(sample, "response/length"))
    if len(ends) != ITERATIONS or length < 0.9 * NEW:
        raise measure.Failed(f"{ITERATIONS} iterations with responses of some {NEW} tokens were expected; there are "
                             f"{len(ends)} with {length:.1f}")
    sample.figures["iteration"] = statistics.median(b - a for a, b in zip(ends, ends[1:]))


def their_iteration(sample):
    found = re.search(r"seconds per iteration, median of \d+ : ([\d.]+)", sample.text)
    if not found:
        raise measure.Failed(f"seconds per iteration were to be printed:\n    {measure.ends(sample.text)}")
    sample.figures["iteration"] = float(found[1])


def measure_row(bench):
    with_peer = pytorch.is_there(bench, NAME)
    folder = bench.fresh("ppo-nano")
    folder.mkdir()
    params = {"iterations": ITERATIONS, "prompts_per_batch": ROWS, "epochs": 4, "minibatches": 1, "eval_every": 0,
              "max_new_tokens": NEW}
    contestants = [worker.stage(bench, "kiln", folder / "kiln", "ppo", "policy", params, inputs(bench, folder),
                                len(os.sched_getaffinity(0)), check=our_iteration)]
    if with_peer:
        contestants.append(pytorch.script(bench, "peer", ["trl_ppo.py", str(ITERATIONS)], folder / "peer",
                                          check=their_iteration))
    samples = measure.interleave(contestants, bench.rounds(5))
    peer = measure.median(samples["peer"], "iteration") if with_peer else None
    yield Result(NAME, VARIANTS[0], measure.median(samples["kiln"], "iteration"), peer, bench.peers.title("trl"),
                 unit="s", target=AtLeast(2.0), runs=samples)
