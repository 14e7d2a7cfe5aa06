"""Runs llama.cpp, built as the npm package node-llama-cpp has it, on GGUF files.

Invariant: the package and all that it needs are those of a day; the program computes in f32 on the CPU.
Must not know: what the models are for.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pinned

VERSION = "3.22.1"
# npm takes what there was on this day.
DAY = "2026-11-20"
PROGRAM = Path(__file__).with_suffix(".mjs")


def home():
    """The folder with the package, installed under target/ (network: npm), for machines of x86-64 with Linux."""
    if not (shutil.which("node") and shutil.which("npm")):
        sys.exit("llama.cpp: there is no `node` or no `npm` here; install Node.js 20 or newer")

    def install(folder):
        folder.mkdir()
        (folder / "package.json").write_text('{"private": true}')
        packages = [f"node-llama-cpp@{VERSION}", f"@node-llama-cpp/linux-x64@{VERSION}"]
        # The optional packages are builds for other machines, 600 MB; the script of the package would fetch sources.
        words = ["--silent", "--no-fund", "--no-audit", "--ignore-scripts", "--omit=optional", f"--before={DAY}"]
        subprocess.run(["npm", "install", *words, *packages], cwd=folder, check=True)

    return pinned.once(pinned.TARGET / f"node-llama-cpp-{VERSION}", install)


def greedy(file, prompts, most):
    """What the model goes on with after each prompt (text with the marks of special tokens), by its likeliest tokens.

    A list of {"prompt": ids, "ids": ids, "text": str}: the ids of the prompt as its tokenizer has them, and those of at
    most `most` tokens that come next, without the one that ends the turn.
    """
    request = {"file": str(Path(file).resolve()), "prompts": prompts, "most": most}
    run = subprocess.run(["node", PROGRAM, home()], input=json.dumps(request), capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"llama.cpp: {file}: {run.stdout[-2000:]}{run.stderr[-4000:]}")
    return json.loads(run.stdout)
