#!/usr/bin/env python3
"""Trains the same adapter with Kiln and with Hugging Face `peft`, and compares losses, weights and logits.

Purpose: an adapter that `peft` saved, put beside a random model that `transformers` made, is trained by the stage `sft`
and by PyTorch's AdamW on the same demonstrations: the loss on held-out ones agrees to 1e-4 after each of 20 steps; `peft`
loads what the stage wrote and gives our logits, and `transformers` loads the merged checkpoint and gives them too.
Usage: adapters.py STAGES, as in `target/release/kiln-stages`. A virtual environment with pinned packages is made under target/ on
the first call (network: PyPI).
"""
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True  # git does not ignore __pycache__ here
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import pinned  # noqa: E402

STEPS, RATE, LOSS = 20, 3e-3, 1e-4
TRAINED, HELD_OUT = 8, 4
WORDS = "the sun rose over a green hill and every bird in that old tree sang until it was noon".split()
DEMONSTRATIONS = [{"prompt": " ".join(WORDS[i:i + 3]), "response": " ".join(WORDS[i + 3:i + 6 + i % 4])} for i in range(12)]
SIZES = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 128}
GPT2 = {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 128, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
CASES = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", SIZES, ["q_proj", "v_proj", "down_proj"], {}),
    "qwen3-rslora": ("Qwen3ForCausalLM", "Qwen3Config", SIZES | {"head_dim": 16}, ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], {"use_rslora": True}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT2, ["c_attn", "c_proj", "c_fc"], {"fan_in_fan_out": True}),
}


def stage(program, folder, kind, params, inputs, output):
    """Runs a stage; returns the folder of its output and its events."""
    place = folder / kind
    shutil.rmtree(place, ignore_errors=True)
    (place / "checkpoint").mkdir(parents=True)
    request = {"kind": kind, "params": params, "inputs": {name: str(path) for name, path in inputs.items()},
               "outputs": {output: str(place / output)}, "checkpoint": str(place / "checkpoint"), "threads": 2,
               "device": "cpu"}
    run = subprocess.run([program, "run"], input=json.dumps(request), text=True, capture_output=True)
    assert run.returncode == 0, f"{kind}: {run.stdout[-2000:]}{run.stderr}"
    return place / output, [json.loads(line) for line in run.stdout.splitlines()]


def rows(tokenizer):
    """Each demonstration as ids and the first target."""
    made = []
    for d in DEMONSTRATIONS:
        turns = [{"role": "user", "content": d["prompt"]}, {"role": "assistant", "content": d["response"]}]
        prompt = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, return_dict=False)
        made.append((tokenizer.apply_chat_template(turns, return_dict=False), len(prompt)))
    return made


def mean_loss(torch, model, part):
    total, count = 0.0, 0
    for ids, first in part:
        logits = model(torch.tensor([ids[:-1]])).logits[0]
        total = total + torch.nn.functional.cross_entropy(logits[first - 1:], torch.tensor(ids[first:]), reduction="sum")
        count += len(ids) - first
    return total / count


def their_losses(torch, model, all_rows):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        mean_loss(torch, model, all_rows[:TRAINED]).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            losses.append(mean_loss(torch, model, all_rows[TRAINED:]).item())
    return losses


def our_logits(program, folder, model, ids):
    from safetensors.torch import load_file
    out = folder / "logits"
    run = subprocess.run([program, "model", "logits", model, out], input=json.dumps({"rows": [ids]}), text=True,
                         capture_output=True)
    assert run.returncode == 0, run.stderr
    return load_file(out / "model.safetensors")["logits.0"]


def case(program, folder, name, tokenizer_folder):
    import peft
    import torch
    import transformers
    class_name, config_name, fields, targets, more = CASES[name]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer_folder)
    config = getattr(transformers, config_name)(**fields, vocab_size=len(tokenizer), attn_implementation="eager")
    torch.manual_seed(5)
    base = getattr(transformers, class_name)(config)
    saved, base_folder = folder / "saved", folder / "base"
    for old in [saved, base_folder]:
        shutil.rmtree(old, ignore_errors=True)
    base.save_pretrained(base_folder)
    settings = peft.LoraConfig(r=4, lora_alpha=12, target_modules=targets, task_type="CAUSAL_LM", lora_dropout=0.0, **more)
    model = peft.get_peft_model(base, settings)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "lora_B" in parameter_name:
                parameter.normal_(0.0, 0.02)
    model.save_pretrained(saved)
    for file in Path(tokenizer_folder).iterdir():
        shutil.copy(file, base_folder / file.name)
    start, _ = stage(program, folder, "model", {}, {"files": saved, "base": base_folder}, "model")
    settings, shape = (json.loads((start / name).read_text()) for name in ["adapter_config.json", "config.json"])
    assert settings["base_model_name_or_path"] == "base" and shape["model_type"] == config.model_type, settings
    data = folder / "demonstrations.jsonl"
    data.write_text("".join(json.dumps(d) + "\n" for d in DEMONSTRATIONS))
    all_rows = rows(tokenizer)
    wanted = their_losses(torch, model, all_rows)
    params = {"steps": STEPS, "batch_size": TRAINED, "learning_rate": RATE, "validation_fraction": HELD_OUT / 12,
              "eval_every": 1, "schedule": {"decay": "constant", "warmup": 0}}
    trained, events = stage(program, folder, "sft", params, {"model": start, "demonstrations": data}, "model")
    got = {e["step"]: e["values"]["val/loss"] for e in events if e["event"] == "metric" and "val/loss" in e["values"]}
    worst = max(abs(got[step + 1] - loss) for step, loss in enumerate(wanted))
    assert worst <= LOSS, f"{name}: losses differ by {worst:.1e}"
    ids = all_rows[0][0]
    ours = our_logits(program, folder, trained, ids)
    again = getattr(transformers, class_name).from_pretrained(trained / "base", attn_implementation="eager")
    again = peft.PeftModel.from_pretrained(again, trained).eval()
    merged, _ = stage(program, folder, "merge", {}, {"model": trained}, "model")
    whole = getattr(transformers, class_name).from_pretrained(merged, attn_implementation="eager").eval()
    with torch.no_grad():
        for what, theirs in [("peft", again), ("transformers, merged", whole)]:
            logits = theirs(torch.tensor([ids])).logits[0]
            off = ((logits - ours).abs().max() / logits.abs().max()).item()
            assert off <= 1e-5, f"{name}: logits of {what} are off by {off:.1e}"
    print(f"{name}: {STEPS} steps, {wanted[0]:.4f} to {wanted[-1]:.4f}, losses to {worst:.1e}; read again, logits to {off:.1e}")


def main():
    program = Path(sys.argv[1]).absolute()
    import transformers
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus.txt"
        corpus.write_text(" ".join(WORDS * 4))
        tokenizer, _ = stage(program, folder, "tokenizer", {"vocab_size": 300, "min_count": 1}, {"corpus": corpus}, "tokenizer")
        for case_name in CASES:
            case(program, folder, case_name, tokenizer)


if __name__ == "__main__":
    pinned.enter_torch()
    main()
