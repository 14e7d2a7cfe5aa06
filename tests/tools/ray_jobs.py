#!/usr/bin/env python3
"""Runs stages as jobs of a real Ray on this machine.

Purpose: the same pipeline gives the same digests here and there; what a job says that failed, was stopped or took too long;
a runner that is killed and goes on.
Usage: ray_jobs.py KILN (network: PyPI, on the first call).
Invariant: Ray is started on loopback, and stopped by its process id.
"""

import contextlib
import os
import re
import signal
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
from jobs.world import digests, run, start  # noqa: E402
from project import Project  # noqa: E402
from remotes import free_port  # noqa: E402

PINS = ["ray[default]==2.60.0"]
WORKERS = 40


def ports(n):
    """Free ports, none of them among those of Ray's workers."""
    found = []
    while len(found) < n:
        port = free_port()
        if port not in found:
            found.append(port)
    return found


@contextlib.contextmanager
def cluster(folder):
    """A Ray of one node with two CPUs; gives its address."""
    gcs, dashboard, agent, client, first = ports(5)
    temp = tempfile.mkdtemp(prefix="ray")  # Its sockets have long names.
    argv = [Path(sys.executable).parent / "ray", "start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats",
            "--dashboard-host=127.0.0.1", "--node-ip-address=127.0.0.1", f"--dashboard-port={dashboard}", f"--port={gcs}",
            f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}", f"--temp-dir={temp}",
            f"--worker-port-list={','.join(map(str, ports(WORKERS)))}", "--object-store-memory=100000000"]
    with open(folder / "ray.log", "w") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{dashboard}"
    try:
        wait(lambda: answers(address), "Ray", 120)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def answers(address):
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(f"{address}/api/jobs/", timeout=5).status == 200
    return False


def wait(done, what, seconds=60):
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within {seconds} s")
        time.sleep(0.2)


def project(program, folder, name, address, text):
    executor = f"executor: ray\nexecutors: {{ ray: {{ kind: ray, address: '{address}', short: 0s }} }}\n"
    return Project(program, folder / name, {}).write("kiln.yaml", f"pipeline: {name}\n{executor}{text}")


def same_digests(program, folder, address):
    """smoke.yaml gives the same digests as jobs of Ray; a second run submits nothing."""
    here, there = (Project(program, folder / name, {}) for name in ("here", "there"))
    for one in (here, there):
        subprocess.run(["cp", "-r", ROOT / "pipelines", one.folder], check=True)
    there.write("config.yaml", f"executors: {{ ray: {{ kind: ray, address: '{address}', short: 0s }} }}\n")
    file = "pipelines/smoke.yaml"
    run(here, file)
    ran = run(there, file, "--executor", "ray")
    assert ran.stderr.count(" of ray") >= 9, ran.stderr
    assert digests(here, file) == digests(there, file)
    ran = run(there, file, "--executor", "ray")
    assert " of ray" not in ran.stderr, ran.stderr


def ends(program, folder, address):
    """What fails says why, what is stopped says so, and what takes too long keeps its checkpoint."""
    made = project(program, folder, "ends", address, "stages: { victim: { run: 'echo hm; exit 7', outputs: { o: table } } }\n")
    ran = run(made, code=1)
    assert "exit code 7" in ran.stderr, ran.stderr
    made = project(program, folder, "stopped", address, "stages: { victim: { run: 'sleep 60', outputs: { o: table } } }\n")
    running = start(made)
    wait(lambda: re.search("victim +running", made.ask("status").stdout), "it runs")
    job = re.search(r"kiln-victim-\w+-\w+", made.ask("status").stdout).group()
    urllib.request.urlopen(urllib.request.Request(f"{address}/api/jobs/{job}/stop", method="POST")).close()
    out, err = running.communicate(timeout=90)
    assert running.returncode == 1 and "was cancelled" in err, err
    saves = ("n=$(cat {checkpoint}/n 2>/dev/null || echo 0); echo from $n; trap \"exit 1\" TERM; "
             "while [ $n -lt 12 ]; do n=$((n+1)); echo $n > {checkpoint}/n; sleep 1; done; echo $n > {outputs.o}")
    text = f"stages: {{ victim: {{ run: '{saves}', resources: {{ time: 6s }}, outputs: {{ o: table }} }} }}\n"
    made = project(program, folder, "time", address, text)
    ran = run(made, code=1)
    assert "`resources.time` of 6 s" in ran.stderr, ran.stderr
    made.write("kiln.yaml", (made.folder / "kiln.yaml").read_text().replace("time: 6s", "time: 60s"))
    run(made)
    assert int(re.findall(r"from (\d+)", made.ask("log", "victim").stdout)[-1]) >= 3, made.ask("log", "victim")


def a_killed_runner(program, folder, address):
    """The next run goes on with the job; `cancel` cancels."""
    count = folder / "count"
    text = f"stages: {{ slow: {{ run: 'echo ran >> {count}; sleep 5; echo > {{outputs.o}}', outputs: {{ o: table }} }} }}\n"
    made = project(program, folder, "killed", address, text)
    running = start(made)
    wait(count.exists, "it runs")
    running.kill()
    running.communicate()
    run(made)
    assert count.read_text() == "ran\n"
    made.write("kiln.yaml", (made.folder / "kiln.yaml").read_text().replace("sleep 5", "sleep 50"))
    run(made, "--detach")
    cancelled = made.ask("cancel")
    assert "cancelled  slow" in cancelled.stdout, cancelled
    assert made.ask("doctor", "--executor", "ray", "kiln.yaml").returncode == 0


def main():
    program = str(Path(sys.argv[1]).resolve())
    pinned.enter("ray-venv", PINS)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        with cluster(folder) as address:
            for one in (same_digests, ends, a_killed_runner):
                began = time.monotonic()
                one(program, folder, address)
                print(f"ray: {one.__name__.replace('_', ' ')}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
