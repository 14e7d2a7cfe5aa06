#!/usr/bin/env python3
"""Makes sure that .libtorch/ holds libtorch 2.11.0, and says so; does nothing when it does.

Two ways to have one:
  LIBTORCH=/path scripts/libtorch.py   a libtorch or CUDA torch folder that the machine has:
                                       .libtorch becomes a link to it
  scripts/libtorch.py                  a CPU build made from the wheels pinned in libtorch.txt

The build is assembled in a folder beside its place and renamed when whole, so an interrupted
run leaves nothing behind that a later one would trust. A manifest of sizes and SHA-256 digests
notices later damage; the build is then made anew. Only the standard library and pip are used.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

VERSION = "2.11.0"
ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".libtorch"
PINS = ROOT / "scripts" / "libtorch.txt"
# Any one CPython's wheel serves, for nothing of Python is taken from it; this one is pinned.
PLATFORMS = ["manylinux_2_28_x86_64", "manylinux_2_25_x86_64", "manylinux2014_x86_64"]
SHARED = {
    "torch/lib/libtorch_cpu.so": "libtorch_cpu.so",
    "torch/lib/libc10.so": "libc10.so",
    "torch/lib/libgomp.so.1": "libgomp.so.1",
    "libcudart.so.13": "libcudart.so.13",
    "libcupti.so.13": "libcupti.so.13",
}


def digest(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            h.update(block)
    return h.hexdigest()


def stamp(path):
    s = path.stat()
    return [s.st_size, s.st_mtime_ns]


def intact():
    """True when every file of the manifest is as recorded; bytes are read only if a stat changed."""
    try:
        manifest = json.loads((HOME / "manifest.json").read_text())
        if manifest["version"] != VERSION or manifest["pins"] != digest(PINS):
            return False
        return all(
            stamp(HOME / name) == f["stat"] or digest(HOME / name) == f["sha256"]
            for name, f in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError):
        return False


def link_named(folder):
    """Points .libtorch at a libtorch that the user names."""
    folder = Path(folder).resolve()
    if folder == HOME.resolve() and HOME.exists():
        return
    for need in ["lib/libtorch_cpu.so", "include/torch"]:
        if not (folder / need).exists():
            sys.exit(f"libtorch: LIBTORCH={folder} has no {need}; name the folder that holds lib/ and include/")
    for name in ["build-version", "version.py"]:
        version = folder / name
        if version.exists() and VERSION not in version.read_text():
            sys.exit(f"libtorch: {version} does not speak of {VERSION}, which Kiln needs")
    if HOME.is_symlink():
        HOME.unlink()
    elif HOME.exists():
        shutil.rmtree(HOME)
    HOME.symlink_to(folder)
    print(f"libtorch: using {folder}", file=sys.stderr)


def download(into):
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:",
               "--implementation", "cp", "--python-version", "3.12", "--abi", "cp312", "--abi", "none",
               "--disable-pip-version-check", "--quiet", "--dest", str(into), "--requirement", str(PINS)]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    for attempt in (1, 2, 3):
        # A download cut short leaves a bad entry in pip's cache at worst: leave the cache out on a retry.
        if subprocess.run(command + (["--no-cache-dir"] if attempt > 1 else []), check=False).returncode == 0:
            return
        print(f"libtorch: download failed (attempt {attempt} of 3)", file=sys.stderr)
    sys.exit("libtorch: pip could not fetch the pinned wheels; check the network and run this again, "
             "or name a libtorch with LIBTORCH=/path")


def unpack(wheels, into):
    lib = into / "lib"
    lib.mkdir(parents=True)
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as z:
            for info in z.infolist():
                name = info.filename
                shared = SHARED.get(name) or SHARED.get(name.rsplit("/", 1)[-1])
                if name.startswith("torch/include/") and not info.is_dir():
                    target = into / name.removeprefix("torch/")
                    if into not in target.resolve().parents:
                        sys.exit(f"libtorch: {wheel.name} holds a climbing path: {name}")
                elif shared:
                    target = lib / shared
                else:
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with z.open(info) as source, open(target, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
    missing = [n for n in SHARED.values() if not (lib / n).exists()]
    if missing:
        sys.exit(f"libtorch: the wheels lack {', '.join(missing)}")
    (lib / "libgomp.so").symlink_to("libgomp.so.1")
    # The wheel's libtorch.so only pulls in the CUDA half; a linker script stands in for it.
    (lib / "libtorch.so").write_text("INPUT(libtorch_cpu.so)\n")
    (into / "build-version").write_text(VERSION + "\n")


def assemble():
    print("libtorch: making .libtorch from pinned wheels (530 MB, about a minute)", file=sys.stderr)
    work = ROOT / f".libtorch.{os.getpid()}.tmp"
    for old in ROOT.glob(".libtorch.*.tmp"):
        shutil.rmtree(old, ignore_errors=True)
    try:
        (work / "wheels").mkdir(parents=True)
        download(work / "wheels")
        unpack(work / "wheels", work / "libtorch")
        files = [p for p in (work / "libtorch").rglob("*") if p.is_file() and "include" not in p.parts[-3:-1]]
        files = [p for p in files if p.parent.name == "lib" or p.name == "build-version"]
        entries = {str(p.relative_to(work / "libtorch")): {"sha256": digest(p), "stat": stamp(p)} for p in files}
        manifest = {"version": VERSION, "pins": digest(PINS), "files": entries}
        (work / "libtorch" / "manifest.json").write_text(json.dumps(manifest, indent=1))
        if HOME.is_symlink():
            HOME.unlink()
        elif HOME.exists():
            shutil.rmtree(HOME)
        (work / "libtorch").rename(HOME)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print("libtorch: ready", file=sys.stderr)


def main():
    named = os.environ.get("LIBTORCH")
    if named:
        link_named(named)
    elif HOME.is_symlink() and (HOME / "lib" / "libtorch_cpu.so").exists():
        pass  # linked by an earlier LIBTORCH=…
    elif not intact():
        assemble()


if __name__ == "__main__":
    main()
