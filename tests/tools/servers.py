#!/usr/bin/env python3
"""Shares results through real servers: S3 (moto), Azure (Azurite), HTTP (Python's own server) and a folder.

Purpose: what one project made another one does not run, whatever the remote; a second result with other bytes is
told; a damaged object is never served; a source lies at a URL there; two runners at once run a stage once; the HTTP remote is only read.
Usage: servers.py KILN [ladder [PIPELINE]]. Packages are installed under target/ on the first call (network: PyPI,
npm). `ladder` shares what `pipelines/PIPELINE.yaml` makes instead (`ladder.py`); without a name it is `assistant`.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True  # git does not ignore __pycache__ here
sys.path.insert(0, str(ROOT / "scripts"))
import pinned  # noqa: E402

import ladder  # noqa: E402
import remotes  # noqa: E402
from project import Project  # noqa: E402

PIPELINE = """
pipeline: p
sources: { seed: { path: seed.txt, type: any } }
stages:
  first: { inputs: { i: seed }, run: 'cat {inputs.i} > {outputs.o}', outputs: { o: any } }
  large: { inputs: { i: first }, run: 'head -c 20000000 /dev/zero > {outputs.o}; cat {inputs.i} >> {outputs.o}', outputs: { o: any } }
  folder: { inputs: { l: large }, run: 'mkdir {outputs.d}; sha256sum < {inputs.l} > {outputs.d}/sum; echo x > {outputs.d}/x', outputs: { d: any } }
"""
KINDS = {"folder": remotes.plain_folder, "s3": remotes.s3, "azure": remotes.azure}
# Says outside of the project that it ran, and takes its time.
COUNTING = """
pipeline: c
stages:
  slow: {{ sandbox: off, run: 'echo ran >> {count}; sleep 2; echo done > {{outputs.o}}', outputs: {{ o: any }} }}
"""
NOISY = "pipeline: n\nstages: { noisy: { run: 'head -c 9 /dev/urandom > {outputs.o}', outputs: { o: any } } }\n"


def project(program, folder, remote, text=PIPELINE):
    return Project(program, folder, remote.env).write("kiln.yaml", text).write("seed.txt", "seed\n")


def all_of(word):
    """What each stage of the pipeline must say."""
    return dict.fromkeys(("first", "large", "folder"), word)


def sum_of(project):
    return (project.folder / "artifacts/out/p/folder/d/sum").read_text()


def check(program, folder, remote):
    """One remote: shared results, a second result with other bytes, a damaged object."""
    name = remote.name
    ours, theirs = (project(program, folder / who, remote) for who in ("ours", "theirs"))
    assert ours.ask("remote", "check").returncode == 0, ours.ask("remote", "check")
    assert ours.outcomes() == all_of("ran"), name
    counted = ours.json("remote", "du")["remotes"][0]["parts"]
    assert (counted["actions"]["objects"], counted["recipes"]["objects"]) == (3, 1), (name, counted)
    assert theirs.states() == all_of("fetch"), name
    assert theirs.outcomes() == all_of("fetched"), name
    assert sum_of(theirs) == sum_of(ours), name
    pulled = theirs.json("pull")
    assert pulled["fetched"] == ["first", "large"], (name, pulled)
    assert theirs.ask("fsck").returncode == 0, name
    again = ours.json("push")["remotes"][0]
    assert (again["same"], again["bytes"], again["errors"]) == (3, 0, []), (name, again)
    noisy = [project(program, folder / f"noisy-{n}", remote, NOISY) for n in range(2)]
    assert [project.ask("run", "--offline").returncode for project in noisy] == [0, 0]
    assert noisy[0].ask("push").returncode == 0, name
    second = noisy[1].ask("push")
    assert second.returncode == 1 and "not deterministic" in second.stdout, (name, second)
    if remote.damage:
        remote.damage()
        third = project(program, folder / "third", remote)
        assert third.json("run")["outcome"] == "ok" and sum_of(third) == sum_of(ours), name
        fourth = project(program, folder / "fourth", remote)
        assert fourth.outcomes() == all_of("fetched"), f"{name}: what was damaged was sent again"
    print(f"{name}: shared, told apart{', healed' if remote.damage else ''}")


def check_together(program, folder, remote):
    """Two runners at once run a stage once; what is used or pinned is not garbage."""
    count = folder / "count"
    pair = [project(program, folder / f"together-{n}", remote, COUNTING.format(count=count)) for n in range(2)]
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda one: one.ask("run"), pair))
    assert [run.returncode for run in runs] == [0, 0], (remote.name, runs)
    assert count.read_text() == "ran\n", (remote.name, runs)
    assert pair[0].ask("pin", "add", "v1", "--remote", "env").returncode == 0
    assert [pin["name"] for pin in pair[1].json("pin", "list", "--remote", "env")["pins"]] == ["v1"]
    garbage = pair[1].json("gc", "--remote", "env", "--apply")
    assert (garbage["garbage"], garbage["freed"]) == ([], 0), (remote.name, garbage)
    assert pair[0].ask("pin", "remove", "v1", "--remote", "env").returncode == 0
    assert pair[0].json("pin", "list", "--remote", "env")["pins"] == [], remote.name
    print(f"{remote.name}: run once by two, pinned, cleaned")


def check_read_only(program, folder, remote):
    """What is there is read, and nothing is written."""
    reader = project(program, folder / "reader", remote)
    assert reader.outcomes() == all_of("fetched")
    assert reader.ask("push").returncode == 3
    counted = reader.ask("remote", "du")
    assert counted.returncode == 0 and "has no listing" in counted.stdout, counted
    print(f"{remote.name}: read")


def check_download(program, folder, remote):
    """A source behind a URL: an object, and a folder of them."""
    body = b"".join(n.to_bytes(4, "little") for n in range(1 << 20))
    digest, url = hashlib.sha256(body).hexdigest(), remote.put("far/a b.bin", body)
    sources = {"file": {"url": url, "sha256": digest},
               "folder": {"url": url.rsplit("/", 1)[0], "sha256": {"a b.bin": digest}}}
    run = "cmp {inputs.x} {inputs.y}/'a b.bin' && echo same > {outputs.o}"
    stage = {"inputs": {"x": "file", "y": "folder"}, "run": run, "outputs": {"o": "any"}}
    text = json.dumps({"sources": sources, "stages": {"both": stage}})
    here = project(program, folder / "download", remote, text)
    assert here.outcomes() == {"file": "ran", "folder": "ran", "both": "ran"}
    gone = project(program, folder / "gone", remote, text.replace("a b.bin", "c.bin").replace("a%20b.bin", "c.bin"))
    answer = gone.ask("run")
    assert answer.returncode == 1 and ("there is no object" in answer.stderr or "404" in answer.stderr), answer
    print(f"{remote.name}: downloaded")


def share_small(program, folders):
    for part, kind in KINDS.items():
        with kind(folders[part]) as remote:
            check(program, folders[part], remote)
            check_together(program, folders[part], remote)
            if remote.put:
                check_download(program, folders[part], remote)
    with remotes.http(folders["folder"]) as remote:
        check_read_only(program, folders["folder"], remote)
        check_download(program, folders["folder"], remote)


def share_ladder(program, folder, folders, pipeline):
    maker = ladder.Maker(program, folder / "maker", pipeline)
    for part, kind in KINDS.items():
        with kind(folders[part]) as remote:
            maker.share(folders[part], remote)


def main():
    words = argparse.ArgumentParser(description="Shares results through real servers.")
    words.add_argument("kiln", type=Path)
    words.add_argument("what", nargs="?", choices=["ladder"])
    words.add_argument("pipeline", nargs="?", default="assistant", choices=list(ladder.DATA))
    words = words.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folders = {part: Path(name) / part for part in KINDS}
        for folder in folders.values():
            folder.mkdir()
        if words.what == "ladder":
            share_ladder(str(words.kiln.resolve()), Path(name), folders, words.pipeline)
        else:
            share_small(str(words.kiln.resolve()), folders)


if __name__ == "__main__":
    pinned.enter("servers-venv", remotes.PINS)
    main()
