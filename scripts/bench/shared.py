"""What the rows about remotes share: folders as remotes, a server for them, and what lies in them."""

import contextlib
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import measure

SERVER = Path(__file__).resolve().parent / "server.py"


def with_remote(bench, name, words, folder, remote, **more):
    """A contestant that is our binary with this remote alone."""
    ours = bench.our(name, words, folder, **more)
    ours.env = ours.env | {"KILN_REMOTES": str(remote), "KILN_CONFIG": str(bench.folder / "none.yaml")}
    return ours


def answer(contestant):
    """The JSON that our binary answers with."""
    text = measure.run(contestant).text
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except ValueError:
        raise measure.Failed(f"an answer in JSON was expected:\n    {measure.ends(text)}") from None


def bytes_below(folder):
    """The bytes of all files: packs and blobs, and the recipes and actions that come with them."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def pushed(bench, project, remote, *words):
    """`kiln push` with these words to a remote in a folder; gives the bytes by which the remote grew."""
    before = bytes_below(remote) if remote.exists() else 0
    found = answer(with_remote(bench, "push", ["push", *words, "--json"], project, remote))["remotes"]
    if not found or found[0]["errors"]:
        raise measure.Failed(f"`kiln push {' '.join(words)}` did not send everything: {found}")
    return bytes_below(remote) - before


@contextlib.contextmanager
def served(folder, milliseconds=0):
    """A server for a folder whose answers come so late; gives its URL."""
    argv = [sys.executable, str(SERVER), str(folder), str(milliseconds)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = process.stdout.readline().strip()
            if not port:
                raise measure.Failed(f"`{' '.join(argv)}` ended at once")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def count(url):
    """The requests and the bytes of bodies that a server has answered so far."""
    with urllib.request.urlopen(f"{url}/count") as reply:
        return json.load(reply)
