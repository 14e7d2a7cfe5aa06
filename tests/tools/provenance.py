#!/usr/bin/env python3
"""Verifies what `kiln provenance` prints with securesystemslib, which knows nothing of Kiln.

Purpose: every envelope is accepted with the builder's key alone, and refused with another key and after any digest,
edge, key or parameter of its statement was changed.
Usage: provenance.py KILN
"""

import base64
import copy
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True  # git does not ignore __pycache__ here
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import pinned  # noqa: E402

PINS = ["securesystemslib==1.6.0", "cryptography==46.0.3"]
PIPELINE = """
pipeline: p
stages:
  first: { run: 'seq {params.n} > {outputs.o}', params: { n: 3, rate: 1e-3 }, outputs: { o: any } }
  folder: { inputs: { i: first }, run: 'mkdir {outputs.d}; cp {inputs.i} {outputs.d}/a', outputs: { d: any } }
  last: { inputs: { d: folder, f: first }, run: 'cat {inputs.d}/a {inputs.f} > {outputs.o}', outputs: { o: any } }
"""


def kiln(program, folder, *words):
    env = os.environ | {"KILN_CONFIG": str(folder / "config.yaml")}
    return subprocess.run([program, *words], cwd=folder, env=env, check=True, capture_output=True, text=True).stdout


def key(text):
    from securesystemslib.signer import SSlibKey

    raw = base64.b64decode(text.removeprefix("ed25519:"))
    return SSlibKey(hashlib.sha256(raw).hexdigest()[:16], "ed25519", "ed25519", {"public": raw.hex()})


def is_valid(envelope, key):
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError

    try:
        Envelope.from_dict(copy.deepcopy(envelope)).verify([key], 1)
        return True
    except VerificationError:
        return False


def leaves(value, path=()):
    """The paths of all single values."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    else:
        yield path


def changed(envelope, path):
    """The envelope with another value at a path of its statement."""
    statement = json.loads(base64.b64decode(envelope["payload"]))
    inner = statement
    for step in path[:-1]:
        inner = inner[step]
    old = inner[path[-1]]
    inner[path[-1]] = old[:-1] + ("0" if old[-1:] != "0" else "1") if isinstance(old, str) and old else "other"
    text = json.dumps(statement, separators=(",", ":"), sort_keys=True)
    return envelope | {"payload": base64.b64encode(text.encode()).decode()}


def main():
    program = str(Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kiln.yaml").write_text(PIPELINE)
        kiln(program, folder, "key", "new")
        kiln(program, folder, "run")
        ours = key(json.loads(kiln(program, folder, "key", "list", "--json"))["keys"][0]["key"])
        envelopes = [json.loads(line) for line in kiln(program, folder, "provenance", "last").splitlines()]
        kiln(program, folder, "key", "new", "other")
        os.environ["KILN_SIGNING_KEY"] = str(folder / "keys/other.pem")
        other = key(json.loads(kiln(program, folder, "key", "list", "--json"))["keys"][0]["key"])
    assert len(envelopes) == 3, envelopes
    tried = 0
    for envelope in envelopes:
        assert is_valid(envelope, ours), envelope
        assert not is_valid(envelope, other)
        for path in leaves(json.loads(base64.b64decode(envelope["payload"]))):
            assert not is_valid(changed(envelope, path), ours), path
            tried += 1
    print(f"3 statements verified, {tried} changed ones refused")


if __name__ == "__main__":
    pinned.enter("provenance-venv", PINS)
    main()
