"""ladder: the seconds of all stages from text to policy, beside the same ladder by hand in PyTorch.

The sizes are those of the peer's script: tinyshakespeare, 1,024 tokens, 4 layers of width 128, a context of 128; base
1,200 steps of 16 rows, SFT 400 of 24, 4 answers to each of 600 prompts, a reward model in 2 passes, 50 iterations of
PPO with 64 prompts. Ours is a pipeline that `kiln run` runs; what counts are the seconds that it gives for the stages
that the peer has too, the start of the worker and the storing of the results among them. It runs only when it is asked for
by name, for both sides take minutes.
"""

import json
import random
import re
import shutil

import graphs
import measure
import pytorch
import writers
from result import AtLeast, Result
from training import worker

NAME = "ladder"
VARIANTS = ("stages",)
PEERS = ("pytorch",)
ON_REQUEST = True
STAGES = ("base", "sft", "completions", "rankings", "reward", "policy")
HELD_OUT, PROMPT, RESPONSE = 256, 44, 60
VOCABULARY = 1024 + 5  # beside the special tokens as many as the peer has
PIPELINE = {
    "pipeline": "ladder",
    "sources": {
        "corpus": {"path": "corpus.txt", "type": "corpus"},
        "validation": {"path": "validation.txt", "type": "corpus"},
        "demonstrations": {"path": "demonstrations.jsonl", "type": "demonstrations"},
        "prompts": {"path": "prompts.jsonl", "type": "prompts"},
    },
    "stages": {
        "tokenizer": {"kind": "tokenizer", "inputs": {"corpus": "corpus"}, "params": {"vocab_size": VOCABULARY}},
        "base": {"kind": "pretrain", "inputs": {"tokenizer": "tokenizer", "corpus": "corpus",
                                                "validation": "validation"},
                 "params": {"model": {"preset": "tiny", "layers": 4, "heads": 4, "hidden_size": 128, "max_position_embeddings": 128},
                            "steps": 1200, "batch_size": 16, "learning_rate": 1.5e-3, "eval_every": 0}},
        "sft": {"kind": "sft", "inputs": {"model": "base", "demonstrations": "demonstrations"},
                "params": {"steps": 400, "batch_size": 24, "learning_rate": 1e-3, "eval_every": 0}},
        "completions": {"kind": "sample", "inputs": {"model": "sft", "prompts": "prompts"},
                        "params": {"prompts": 600, "samples_per_prompt": 4, "temperature": 1.0, "batch_size": 64}},
        "rankings": {"kind": "rank", "inputs": {"completions": "completions", "lexicon": "corpus"},
                     "params": {"agreement": 0.75}},
        "reward": {"kind": "reward", "inputs": {"model": "sft", "rankings": "rankings",
                                                "demonstrations": "demonstrations"},
                   "params": {"epochs": 2, "prompts_per_batch": 8, "learning_rate": 3e-4,
                              "validation_fraction": 80 / 600}},
        "policy": {"kind": "ppo", "inputs": {"model": "sft", "reward": "reward", "prompts": "prompts"},
                   "params": {"iterations": 50, "prompts_per_batch": 64, "epochs": 3, "learning_rate": 1.5e-4,
                              "eval_every": 0}},
    },
}


def pairs(text):
    """Speeches with the speeches that answer them, of the lengths that the peer takes, in a fixed order."""
    speeches = [part.split(":\n", 1)[1].strip() for part in text.split("\n\n") if ":\n" in part]
    found = [(asked, said) for asked, said in zip(speeches, speeches[1:])
             if 3 <= len(asked.split()) <= 40 and 5 <= len(said.split()) <= 30]
    random.Random(0).shuffle(found)
    return found[HELD_OUT:]


def cut(bench, tokenizer, found):
    """The pairs with the ends of prompts and the beginnings of answers, of as many tokens as the peer keeps."""
    words = sorted({word for pair in found for said in pair for word in re.findall(r"\s*\S+", said)})
    lengths = dict(zip(words, map(len, worker.encoded(bench, tokenizer, words, "text"))))

    def kept(words, most):
        total = 0
        for count, word in enumerate(words):
            total += lengths[word]
            if total > most:
                return words[:count]
        return words

    for prompt, answer in found:
        last = kept(re.findall(r"\s*\S+", prompt)[::-1], PROMPT)[::-1]
        yield "".join(last).strip(), "".join(kept(re.findall(r"\s*\S+", answer), RESPONSE)).strip()


def project(bench, folder, text):
    writers.kiln(folder, graphs.NOTHING)
    at = int(0.95 * len(text))
    (folder / "corpus.txt").write_text(text[:at])
    (folder / "validation.txt").write_text(text[at:])
    tokenizer = worker.made(bench, folder.with_name("data"), "tokenizer", "tokenizer", {"vocab_size": VOCABULARY},
                            {"corpus": folder / "corpus.txt"})
    with open(folder / "demonstrations.jsonl", "w") as both, open(folder / "prompts.jsonl", "w") as asked:
        for prompt, answer in cut(bench, tokenizer, pairs(text)):
            both.write(json.dumps({"prompt": prompt, "response": answer}) + "\n")
            asked.write(json.dumps({"prompt": prompt}) + "\n")
    for name, kind in (("completions", "sample"), ("policy", "ppo")):
        PIPELINE["stages"][name]["params"]["max_new_tokens"] = 40
    (folder / "kiln.yaml").write_text(json.dumps(PIPELINE, indent=1))


def our_seconds(sample):
    answer = json.JSONDecoder().raw_decode(sample.text)[0]
    if any(stage["outcome"] != "ran" for stage in answer["stages"]):
        raise measure.Failed(f"every stage was to run:\n    {measure.ends(sample.text)}")
    taken = {stage["name"]: stage["seconds"] for stage in answer["stages"]}
    sample.figures.update({name: taken[name] for name in STAGES})
    sample.figures["all"] = sum(taken[name] for name in STAGES)


def their_seconds(sample):
    for name in ("base", "sft", "sample+rank", "rm", r"ppo 50"):
        found = re.search(rf"^{re.escape(name)} (\d+)s", sample.text, re.MULTILINE)
        if not found:
            raise measure.Failed(f"the seconds of `{name}` were to be printed:\n    {measure.ends(sample.text)}")
        sample.figures[name] = float(found[1])
    sample.figures["all"] = sum(sample.figures.values())


def measure_row(bench):
    text = pytorch.tinyshakespeare()
    if not text:
        raise measure.Failed("tinyshakespeare is not beside the scripts of the peers, and both sides need it")
    with_peer = pytorch.is_there(bench, NAME)
    folder = bench.fresh("ladder")
    project(bench, folder / "kiln", text.read_text())
    store = folder / "store"
    words = ["run", "kiln.yaml", "--device", "cpu", "--json", "--store", str(store)]
    ours = bench.our("kiln", words, folder / "kiln", limit=2 * 3600, check=our_seconds,
                     prepare=lambda: shutil.rmtree(store, ignore_errors=True))
    contestants = [ours]
    if with_peer:
        contestants.append(pytorch.script(bench, "peer", ["ladder.py", "0", str(text)], folder / "peer",
                                          limit=2 * 3600, check=their_seconds))
    samples = measure.interleave(contestants, bench.rounds(5), warmups=0)
    peer = measure.median(samples["peer"], "all") if with_peer else None
    parts = ", ".join(f"{name} {samples['kiln'][0].figures[name]:.0f}" for name in STAGES)
    yield Result(NAME, VARIANTS[0], measure.median(samples["kiln"], "all"), peer, bench.peers.title("torch"), unit="s",
                 target=AtLeast(1.3), runs=samples, note=f"seconds: {parts}")
