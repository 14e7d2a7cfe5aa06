"""Remotes on this machine: S3 (moto), Azure (Azurite) and a folder, which Python's own server also gives over HTTP.

Invariant: every server listens on loopback alone and is stopped by its process id.
Must not know: what is shared through them.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import pinned

ROOT = Path(__file__).resolve().parents[2]
PINS = ["moto[server]==5.2.5", "azure-storage-blob==12.27.1"]
AZURITE = "azurite@3.35.0"
# The account that every Azurite has.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass
class Remote:
    """A remote, and the variables by which a project has it."""

    name: str
    env: dict
    # Changes a byte of every small blob that is there.
    damage: Callable | None = None
    # The names of all objects.
    objects: Callable | None = None
    # Puts an object of this name and these bytes there, and says its URL.
    put: Callable | None = None


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


def with_other_byte(body):
    """Bytes that differ from these in one."""
    body = bytearray(body)
    body[len(body) // 2] ^= 1
    return bytes(body)


@contextlib.contextmanager
def s3(folder):
    """moto, with a profile as people have it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with server([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT")).close()
        (folder / "credentials").write_text("[team]\naws_access_key_id = key\naws_secret_access_key = secret\n")
        (folder / "config").write_text(f"[profile team]\nregion = us-east-1\nendpoint_url = {url}\n")
        env = {"AWS_PROFILE": "team", "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
               "AWS_CONFIG_FILE": str(folder / "config"), "KILN_REMOTES": "s3://bucket/a/prefix"}

        def client_of():
            import boto3

            return boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="key",
                                aws_secret_access_key="secret")

        def objects():
            return [item["Key"] for item in client_of().list_objects_v2(Bucket="bucket").get("Contents", [])]

        def damage():
            client = client_of()
            for item in client.list_objects_v2(Bucket="bucket", Prefix="a/prefix/blobs/")["Contents"]:
                body = client.get_object(Bucket="bucket", Key=item["Key"])["Body"].read()
                client.put_object(Bucket="bucket", Key=item["Key"], Body=with_other_byte(body))

        def put(name, body):
            client_of().put_object(Bucket="bucket", Key=name, Body=body)
            return f"s3://bucket/{name}"

        yield Remote("S3", env, damage, objects, put)


def azurite():
    """The program of Azurite, installed under target/."""
    def install(home):
        home.mkdir()
        subprocess.run(["npm", "install", "--silent", "--no-fund", "--no-audit", AZURITE], cwd=home, check=True)

    home = pinned.once(ROOT / "target" / AZURITE, install)
    return str(home / "node_modules/.bin/azurite-blob")


@contextlib.contextmanager
def azure(folder):
    """Azurite, with the account that it always has."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/{ACCOUNT}"
    argv = [azurite(), "--silent", "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location",
            str(folder / "data"), "--skipApiVersionCheck"]
    with server(argv, port):
        from azure.storage.blob import BlobServiceClient

        container = BlobServiceClient(url, credential=ACCOUNT_KEY).create_container("container")

        def put(name, body):
            container.upload_blob(name, body)
            return f"az://container/{name}"

        yield Remote("Azure", {"AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY,
                               "AZURE_ENDPOINT": url, "KILN_REMOTES": "az://container/a/prefix"}, put=put)


@contextlib.contextmanager
def plain_folder(folder):
    """The folder `remote` below this one."""
    remote = folder / "remote"

    def damage():
        for file in (remote / "blobs").iterdir():
            file.write_bytes(with_other_byte(file.read_bytes()))

    yield Remote("folder", {"KILN_REMOTES": f"file://{remote}"}, damage)


@contextlib.contextmanager
def http(folder):
    """What `plain_folder` keeps below the same folder, over HTTP, which is only read."""
    port = free_port()
    with server([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)], port, cwd=folder):
        def put(name, body):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(body)
            return f"http://127.0.0.1:{port}/{urllib.parse.quote(name)}"

        yield Remote("HTTP", {"KILN_REMOTES": f"http://127.0.0.1:{port}/remote"}, put=put)
