"""What the machine is: the processor's model and the flags that decide a figure, cores, memory, load."""

import os
from pathlib import Path

FLAGS = ("avx2", "avx512", "sha_ni")


def describe():
    fields = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    flags = fields.get("flags", "").split()
    present = [name for name in FLAGS if any(f == name or f.startswith(f"{name}f") for f in flags)]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "model": fields.get("model name", "unknown"),
        "flags": present,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
    }
