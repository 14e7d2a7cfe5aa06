#!/usr/bin/env python3
"""Shares results through real servers: S3 (moto), Azure (Azurite), HTTP (Python's own server) and a folder.

Purpose: what one project made another one does not run, whatever the remote; a second result with other bytes is
told; a damaged object is never served; the HTTP remote is only read.
Invariant: every server listens on loopback alone and is stopped by its process id.
Usage: servers.py KILN. Packages are installed under target/ on the first call (network: PyPI, npm).
"""

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True  # git does not ignore __pycache__ here
sys.path.insert(0, str(ROOT / "scripts"))
import pinned  # noqa: E402

PINS = ["moto[server]==5.2.5", "azure-storage-blob==12.27.1"]
AZURITE = "azurite@3.35.0"
# The account that every Azurite has.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
PIPELINE = """
pipeline: p
sources: { seed: { path: seed.txt, type: any } }
stages:
  first: { inputs: { i: seed }, run: 'cat {inputs.i} > {outputs.o}', outputs: { o: any } }
  large: { inputs: { i: first }, run: 'head -c 20000000 /dev/zero > {outputs.o}; cat {inputs.i} >> {outputs.o}', outputs: { o: any } }
  folder: { inputs: { l: large }, run: 'mkdir {outputs.d}; sha256sum < {inputs.l} > {outputs.d}/sum; echo x > {outputs.d}/x', outputs: { d: any } }
"""
NOISY = "pipeline: n\nstages: { noisy: { run: 'head -c 9 /dev/urandom > {outputs.o}', outputs: { o: any } } }\n"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def server(argv, port, **more):
    """A server that has opened its port; stopped by its process id."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, **more)
        try:
            for _ in range(300):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                    break
                if process.poll() is not None:
                    break
                time.sleep(0.1)
            else:
                raise SystemExit(f"{argv[0]} did not open port {port}")
            if process.poll() is not None:
                log.seek(0)
                raise SystemExit(f"{argv[0]} ended: {log.read().decode(errors='replace')[-2000:]}")
            yield
        finally:
            os.kill(process.pid, signal.SIGTERM)
            process.wait(20)


class Project:
    """A project of its own, with a file of a user of its own."""

    def __init__(self, program, folder, text, env):
        self.program, self.folder, self.env = program, folder, env
        folder.mkdir()
        (folder / "kiln.yaml").write_text(text)
        (folder / "seed.txt").write_text("seed\n")

    def ask(self, *words):
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "AZURE_", "KILN_"))}
        env = plain | self.env | {"KILN_CONFIG": str(self.folder / "config.yaml")}
        return subprocess.run([self.program, *words], cwd=self.folder, env=env, capture_output=True, text=True)

    def json(self, *words):
        answer = self.ask(*words, "--json")
        try:
            return json.loads(answer.stdout)
        except ValueError:
            raise SystemExit(f"{words}: {answer.stdout}{answer.stderr}") from None

    def states(self):
        return [stage["state"] for stage in self.json("plan")["stages"]]

    def outcomes(self):
        return [stage["outcome"] for stage in self.json("run")["stages"]]

    def sum(self):
        return (self.folder / "artifacts/out/p/folder/d/sum").read_text()


def check(program, name, env, folder, damage=None):
    """One remote: shared results, a second result with other bytes, a damaged object."""
    ours, theirs = (Project(program, folder / who, PIPELINE, env) for who in ("ours", "theirs"))
    assert ours.ask("remote", "check").returncode == 0, ours.ask("remote", "check")
    assert ours.outcomes() == ["ran", "ran", "ran"], name
    assert theirs.states() == ["fetch", "fetch", "fetch"], name
    assert theirs.outcomes() == ["fetched", "fetched", "fetched"], name
    assert theirs.sum() == ours.sum(), name
    pulled = theirs.json("pull")
    assert pulled["fetched"] == ["first", "large"], (name, pulled)
    assert theirs.ask("fsck").returncode == 0, name
    again = ours.json("push")["remotes"][0]
    assert (again["same"], again["bytes"], again["errors"]) == (3, 0, []), (name, again)
    noisy = [Project(program, folder / f"noisy-{n}", NOISY, env) for n in range(2)]
    assert [project.ask("run", "--offline").returncode for project in noisy] == [0, 0]
    assert noisy[0].ask("push").returncode == 0, name
    second = noisy[1].ask("push")
    assert second.returncode == 1 and "not deterministic" in second.stdout, (name, second)
    if damage:
        damage()
        third = Project(program, folder / "third", PIPELINE, env)
        assert third.json("run")["outcome"] == "ok" and third.sum() == ours.sum(), name
        fourth = Project(program, folder / "fourth", PIPELINE, env)
        assert fourth.outcomes() == ["fetched", "fetched", "fetched"], f"{name}: what was damaged was sent again"
    print(f"{name}: shared, told apart{', healed' if damage else ''}")


def azurite():
    """The program of Azurite, installed under target/."""
    home = ROOT / "target/azurite"
    program = home / "node_modules/.bin/azurite-blob"
    if not program.exists():
        home.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--no-fund", "--no-audit", AZURITE], cwd=home, check=True)
    return str(program)


def s3(program, folder):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with server([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT")).close()
        # All by a profile, as people have it.
        (folder / "credentials").write_text("[team]\naws_access_key_id = key\naws_secret_access_key = secret\n")
        (folder / "config").write_text(f"[profile team]\nregion = us-east-1\nendpoint_url = {url}\n")
        env = {"AWS_PROFILE": "team", "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
               "AWS_CONFIG_FILE": str(folder / "config"), "KILN_REMOTES": "s3://bucket/a/prefix"}

        def damage():
            import boto3

            client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="key",
                                  aws_secret_access_key="secret")
            for item in client.list_objects_v2(Bucket="bucket", Prefix="a/prefix/blobs/")["Contents"]:
                body = bytearray(client.get_object(Bucket="bucket", Key=item["Key"])["Body"].read())
                body[len(body) // 2] ^= 1
                client.put_object(Bucket="bucket", Key=item["Key"], Body=bytes(body))

        check(program, "S3", env, folder, damage)


def azure(program, folder):
    port = free_port()
    url = f"http://127.0.0.1:{port}/{ACCOUNT}"
    data = folder / "data"
    argv = [azurite(), "--silent", "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(data),
            "--skipApiVersionCheck"]
    with server(argv, port):
        from azure.storage.blob import BlobServiceClient

        BlobServiceClient(url, credential=ACCOUNT_KEY).create_container("container")
        env = {"AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY,
               "AZURE_ENDPOINT": url, "KILN_REMOTES": "az://container/a/prefix"}
        check(program, "Azure", env, folder)


def plain_folder(program, folder):
    remote = folder / "remote"

    def damage():
        for file in (remote / "blobs").iterdir():
            body = bytearray(file.read_bytes())
            body[len(body) // 2] ^= 1
            file.write_bytes(body)

    check(program, "folder", {"KILN_REMOTES": f"file://{remote}"}, folder, damage)
    return remote


def http(program, folder, remote):
    """The folder of before over HTTP, which is only read."""
    port = free_port()
    with server([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)], port, cwd=remote.parent):
        env = {"KILN_REMOTES": f"http://127.0.0.1:{port}/{remote.name}"}
        project = Project(program, folder / "reader", PIPELINE, env)
        assert project.outcomes() == ["fetched", "fetched", "fetched"]
        assert project.ask("push").returncode == 3
    print("HTTP: read")


def main():
    program = str(Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as name:
        folders = {part: Path(name) / part for part in ("s3", "azure", "folder", "http")}
        for folder in folders.values():
            folder.mkdir()
        http(program, folders["http"], plain_folder(program, folders["folder"]))
        s3(program, folders["s3"])
        azure(program, folders["azure"])


if __name__ == "__main__":
    pinned.enter("servers-venv", PINS)
    main()
