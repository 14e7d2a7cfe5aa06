"""Runs one stage by a worker, and prints each of its events after the second at which it arrived.

    arrivals.py WORKER REQUEST

REQUEST is a file with the request as JSON. A line is the seconds since the start, a space, and the line of the
worker. The exit code is that of the worker; what it writes to stderr goes through. It is a program of its own, so
that a stage is a contestant like any other, whose time and memory are those of the worker.
"""

import subprocess
import sys
import time


def main(worker, request):
    start = time.perf_counter()
    with open(request, "rb") as said:
        process = subprocess.Popen([worker, "run"], stdin=said, stdout=subprocess.PIPE)
    lines = []
    for line in process.stdout:
        lines.append((time.perf_counter() - start, line))
    code = process.wait()
    for at, line in lines:
        sys.stdout.write(f"{at:.6f} {line.decode(errors='replace')}")
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
