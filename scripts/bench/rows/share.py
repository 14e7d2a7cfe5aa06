"""share-1GiB: one result of 1 GiB to and from an S3 server on this machine, beside `aws s3 cp`.

The server is moto, which both sides find as slow as it is. Every push goes to a prefix where nothing is, every
pull into a store where nothing is. The bytes are random, so that nothing is gained by compression. The size falls
with `--size`.
"""

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from dataclasses import replace

import graphs
import measure
import writers
from result import AtLeast, Result

NAME = "share-1GiB"
VARIANTS = ("push", "pull")
PEERS = ("awscli", "moto")
ON_REQUEST = True
PIPELINE = """\
pipeline: bench
sources: { big: { path: big, type: any } }
stages: { copy: { inputs: { i: big }, run: 'cp {inputs.i} {outputs.o}', outputs: { o: any } } }
"""


@contextlib.contextmanager
def server(bench):
    """An S3 server with a bucket; gives its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [bench.peers.path("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(200):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT")).close()
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def build(bench):
    folder = bench.fresh("share")
    writers.kiln(folder / "kiln", graphs.NOTHING)
    (folder / "kiln/kiln.yaml").write_text(PIPELINE)
    with open(folder / "kiln/big", "wb") as big:
        for _ in range(max(1, 1024 * bench.size // 1000)):
            big.write(os.urandom(1 << 20))
    measure.run(bench.our("kiln", ["run", "kiln.yaml"], folder / "kiln"))
    return folder


def contestants(bench, folder, url, variant):
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": url, "KILN_CONFIG": str(folder / "none.yaml")}
    number = itertools.count()
    ours = bench.our(f"kiln {variant}", [variant, "kiln.yaml"], folder / "kiln")
    ours.env = ours.env | keys
    peer = bench.peer("aws s3 cp", ["aws", "s3", "cp", "--quiet"], folder / "kiln")
    peer.env = peer.env | keys
    if variant == "push":
        def ours_anew():
            ours.env["KILN_REMOTES"] = f"s3://bucket/ours-{next(number)}"

        def peer_anew():
            peer.argv[4:] = ["big", f"s3://bucket/theirs-{next(number)}"]

        return replace_prepare(ours, ours_anew), replace_prepare(peer, peer_anew)
    ours.env["KILN_REMOTES"] = "s3://bucket/pull"
    measure.run(replace(ours, argv=[bench.kiln, "push", "kiln.yaml"]))
    peer.argv[4:] = ["s3://bucket/theirs", "copy"]
    measure.run(replace(peer, argv=[*peer.argv[:4], "big", "s3://bucket/theirs"]))
    return replace_prepare(ours, lambda: empty(folder)), replace_prepare(peer, lambda: os.sync())


def replace_prepare(contestant, prepare):
    contestant.prepare = prepare
    return contestant


def empty(folder):
    """The project without its results."""
    store = folder / "kiln/artifacts"
    for part in ("actions", "blobs", "cache", "out", "view"):
        shutil.rmtree(store / part, ignore_errors=True)
    os.sync()


def measure_row(bench):
    if not (bench.peers.has("awscli") and bench.peers.has("moto")):
        return
    folder = build(bench)
    with server(bench) as url:
        for variant in VARIANTS:
            if not bench.wants(variant):
                continue
            ours, peer = contestants(bench, folder, url, variant)
            samples = measure.interleave([ours, peer], bench.rounds(5))
            yield Result(NAME, variant, measure.median(samples[ours.name]), measure.median(samples[peer.name]),
                         f"{bench.peers.title('awscli')}, s3 cp", unit="s", target=AtLeast(1.0), runs=samples)
