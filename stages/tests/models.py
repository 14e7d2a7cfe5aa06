#!/usr/bin/env python3
"""Compares our models with those of Hugging Face `transformers`: logits, scores, gradients, and files in both directions.

Purpose: random models of every family and option, saved by `transformers`, give its logits to 1e-5 of the largest and its
gradients to 1e-3; what we write loads there with equal logits and scores, from one file or several, in f32 and bf16.
Invariant: everything drawn is from a fixed seed.
Usage: models.py PROGRAM [NAME..], where PROGRAM is `target/release/kiln-stages` and NAME a part of a case's name. A virtual
environment with pinned packages is made under target/ on the first call (network: PyPI).
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

LOGITS, GRADIENTS = 1e-5, 1e-3
# In no row, for `transformers` reads the score of the last token that is another.
PAD = 95
ROWS = [[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3], [2, 7, 1], [31, 41, 59, 26, 53, 58, 9, 79, 32, 38]]
SIZES = {"vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 64}
GPT2 = {"vocab_size": 96, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
        "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
CASES = {
    "gpt2": ("GPT2", GPT2),
    "gpt2-untied-relu": ("GPT2", GPT2 | {"tie_word_embeddings": False, "activation_function": "relu", "n_inner": 100}),
    "gpt2-gelu": ("GPT2", GPT2 | {"activation_function": "gelu"}),
    "llama": ("Llama", SIZES),
    "llama-tied-all-heads": ("Llama", SIZES | {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "llama-biases-head-dim": ("Llama", SIZES | {"attention_bias": True, "mlp_bias": True, "head_dim": 20}),
    "llama-llama3-rope": ("Llama", SIZES | {"rope_parameters": LLAMA3}),
    "llama-linear-rope": ("Llama", SIZES | {"rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 1e4}}),
    "llama-dynamic-rope": ("Llama", SIZES | {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}),
    "llama-yarn-rope": ("Llama", SIZES | {"rope_parameters": YARN}),
    "llama-yarn-mscale": ("Llama", SIZES | {"rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 0.7, "beta_fast": 20}}),
    "llama-yarn-factor": ("Llama", SIZES | {"rope_parameters": YARN | {"attention_factor": 1.3, "truncate": False}}),
    "mistral": ("Mistral", SIZES | {"sliding_window": 5}),
    "mistral-no-window-head-dim": ("Mistral", SIZES | {"sliding_window": None, "head_dim": 6}),
    "qwen2": ("Qwen2", SIZES),
    "qwen2-window": ("Qwen2", SIZES | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    "qwen3": ("Qwen3", SIZES | {"head_dim": 16}),
    "qwen3-window-biases": ("Qwen3", SIZES | {"head_dim": 8, "attention_bias": True, "use_sliding_window": True,
                                              "sliding_window": 6, "max_window_layers": 2, "tie_word_embeddings": True}),
}


def made(transformers, torch, class_name, fields, kind="causal", dtype=None):
    """A model whose every parameter is drawn, biases and norms too."""
    config = getattr(transformers, class_name + "Config")(**fields, attn_implementation="eager")
    if kind == "score":
        config.num_labels, config.pad_token_id = 1, PAD
        model = getattr(transformers, class_name + "ForSequenceClassification")(config)
    else:
        model = getattr(transformers, class_name + ("LMHeadModel" if class_name == "GPT2" else "ForCausalLM"))(config)
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.normal_(1.0 if "norm" in name or "ln_" in name else 0.0, 0.2)
                if name.endswith("bias"):
                    parameter.normal_(0.0, 0.2)
            else:
                parameter.normal_(0.0, 0.5 if "embed" in name or "wte" in name or "wpe" in name else parameter.shape[-1] ** -0.5)
    return (model.to(dtype) if dtype else model).eval()


class Bench:
    """Runs our program in a folder."""

    def __init__(self, program, folder):
        from safetensors.torch import load_file
        self.program, self.folder, self.load_file = program, folder, load_file

    def fresh(self, name):
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        return path

    def ours(self, what, folder, rows=ROWS, words=()):
        out = self.fresh("out")
        run = subprocess.run([self.program, "model", what, folder, out, *words], text=True, capture_output=True,
                             input=json.dumps({"rows": rows}))
        assert run.returncode == 0, f"{what}: {run.stderr}"
        return out if what == "save" else self.load_file(out / "model.safetensors")


def off(torch, ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def logits(torch, model):
    with torch.no_grad():
        return [model(torch.tensor([row])).logits[0].float() for row in ROWS]


def hold_logits(torch, got, wanted, what):
    worst = max(off(torch, got[f"logits.{n}"], row) for n, row in enumerate(wanted))
    assert worst <= LOGITS, f"{what}: logits are off by {worst:.1e}"
    return worst


def gradients(torch, model):
    """Of the mean loss over all targets of all rows."""
    total, count = 0.0, sum(len(row) - 1 for row in ROWS)
    for row in ROWS:
        row = torch.tensor(row)
        total = total + torch.nn.functional.cross_entropy(model(row[None, :-1]).logits[0], row[1:], reduction="sum")
    model.zero_grad()
    (total / count).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def hold_gradients(torch, got, wanted, what):
    worst = 0.0
    for name, grad in wanted.items():
        norm = grad.norm()
        difference = ((got[name] - grad).norm() / norm).item() if norm > 1e-7 else (got[name].norm()).item()
        assert difference <= GRADIENTS, f"{what}: the gradient of {name} is off by {difference:.1e}"
        worst = max(worst, difference)
    return worst


def case(bench, transformers, torch, name, class_name, fields):
    auto = transformers.AutoModelForCausalLM
    model = made(transformers, torch, class_name, fields)
    saved = bench.fresh("theirs")
    model.save_pretrained(saved)
    wanted = logits(torch, model)
    read = hold_logits(torch, bench.ours("logits", saved), wanted, name)
    grads = hold_gradients(torch, bench.ours("gradients", saved), gradients(torch, model), name)
    shutil.rmtree(saved)
    model.save_pretrained(saved, max_shard_size="20KB")
    assert (saved / "model.safetensors.index.json").exists(), "several files"
    hold_logits(torch, bench.ours("logits", saved), wanted, name + " from several files")
    for bytes_a_file in ["9999999", "30000"]:
        out = bench.fresh("ours")
        bench.ours("save", saved, words=[bytes_a_file]).rename(out)
        again = auto.from_pretrained(out, attn_implementation="eager")
        assert all(torch.equal(a, b) for a, b in zip(logits(torch, again), wanted)), f"{name}: what we wrote has other logits"
    for dtype in [torch.bfloat16, torch.float16]:
        half = made(transformers, torch, class_name, fields, dtype=dtype)
        shutil.rmtree(saved)
        half.save_pretrained(saved)
        # Not `half.float()`, whose angles of RoPE were rounded too.
        again = auto.from_pretrained(saved, dtype=torch.float32, attn_implementation="eager")
        hold_logits(torch, bench.ours("logits", saved), logits(torch, again), f"{name} in {dtype}")
    print(f"{name}: logits to {read:.1e}, gradients to {grads:.1e}")


def score_case(bench, transformers, torch, name, class_name, fields):
    model = made(transformers, torch, class_name, fields, kind="score")
    saved, out = bench.fresh("theirs"), bench.fresh("ours")
    model.save_pretrained(saved)

    def scores(model):
        with torch.no_grad():
            return torch.stack([model(torch.tensor([row])).logits[0, 0] for row in ROWS])

    wanted = scores(model)
    worst = off(torch, bench.ours("scores", saved)["scores"], wanted)
    assert worst <= LOGITS, f"{name}: scores are off by {worst:.1e}"
    bench.ours("save", saved).rename(out)
    again = transformers.AutoModelForSequenceClassification.from_pretrained(out, attn_implementation="eager")
    again.config.pad_token_id = PAD
    assert torch.equal(scores(again), wanted), f"{name}: what we wrote has other scores"
    print(f"{name} with a score: to {worst:.1e}")


def main():
    program, only = Path(sys.argv[1]).absolute(), sys.argv[2:]
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(program, Path(folder))
        ran = 0
        for name, (class_name, fields) in CASES.items():
            if not only or any(part in name for part in only):
                case(bench, transformers, torch, name, class_name, fields)
                score_case(bench, transformers, torch, name, class_name, fields)
                ran += 1
        assert ran, "no case has such a name"


if __name__ == "__main__":
    pinned.enter_torch()
    main()
