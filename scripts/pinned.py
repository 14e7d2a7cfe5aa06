"""Runs a script inside a virtual environment with pinned packages, which is made on the first call.

Must not know: what the script does.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "target"


def enter(name, pins):
    """Runs this program again in `target/NAME`, a virtual environment with these packages (network: PyPI)."""
    home = TARGET / name
    python, stamp = home / "bin" / "python", home / "pins"
    if os.environ.get("KILN_PINNED") == str(home):
        return
    if not stamp.exists() or stamp.read_text().split() != pins:
        venv.create(home, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *pins], check=True)
        stamp.write_text("\n".join(pins))
    os.environ["KILN_PINNED"] = str(home)
    os.execv(python, [str(python), *sys.argv])
