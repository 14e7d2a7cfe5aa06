"""Makes `import torch` work on a machine without CUDA's libraries, for a torch that was installed with `--no-deps`.

PyPI has no build of torch for the CPU alone on Linux, and CUDA's libraries are 2.5 GB. The libraries that torch asks the
loader for and that are not there are made here, with the symbols that it names; each function returns an error, which
torch takes for a machine without a GPU. Needs `readelf` and `gcc`.

Must not know: who needs torch.
"""

import re
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

# Libraries of torch that may be loaded with `import torch`.
LOADED = ["libtorch_global_deps.so", "libc10_cuda.so", "libtorch_cpu.so", "libtorch_cuda.so", "libtorch_nvshmem.so",
          "libtorch_python.so"]
# Symbols without a version belong to the library whose prefix they bear, the longest one first.
PREFIXES = ["nccl", "nvshmem", "cusparseLt", "cuFile", "cudnn", "cublasLt", "cublas", "cusparse", "cufft", "curand",
            "cupti", "cuda"]
# What is asked for on a machine without a GPU too, and must not fail.
ANSWERS = {
    "cudaGetErrorString": 'const char *cudaGetErrorString(int e){return "there is no CUDA here";}',
    "cudaGetErrorName": 'const char *cudaGetErrorName(int e){return "none";}',
    "cudaStreamIsCapturing": "int cudaStreamIsCapturing(void *stream, int *status){*status = 0; return 0;}",
}
SYSTEM = re.compile(r"(libpthread|libm|libdl|librt|libc|libgcc_s|libstdc\+\+|ld-linux.*|libgomp|libc10.*|libtorch.*|libshm)\.so")


def make(folder):
    """Makes the libraries that are missing in `torch/lib`."""
    folder = Path(folder)
    there = {path.name for path in folder.iterdir()}
    needed, versions, loose = scan([folder / name for name in LOADED if name in there])
    for library in sorted(needed - there):
        stem = library.removeprefix("lib").split(".so")[0].split("_")[0]
        symbols = dict(versions[library])
        symbols |= {name: None for name in loose if owner(name).lower() == stem.lower().replace("rt", "") and name not in symbols}
        compile_library(folder / library, library, symbols)


def owner(symbol):
    prefix = next((prefix for prefix in PREFIXES if symbol.startswith(prefix)), "")
    return {"cuFile": "cufile"}.get(prefix, prefix)


def readelf(option, path):
    return subprocess.run(["readelf", "-W", option, path], capture_output=True, text=True, check=True).stdout


def scan(libraries):
    """The libraries that are needed, the versioned symbols of each, and the symbols without a version that nobody has."""
    needed, versions, undefined, defined = set(), defaultdict(dict), set(), set()
    for path in libraries:
        names = re.findall(r"\(NEEDED\).*\[(.*)\]", readelf("-d", path))
        needed |= {name for name in names if not SYSTEM.match(name)}
        of_version = version_owners(path)
        for line in readelf("--dyn-syms", path).splitlines():
            fields = line.split()
            if len(fields) < 8:
                continue
            name, _, version = fields[7].partition("@")
            version = version.lstrip("@")
            if fields[6] != "UND":
                defined.add(name)
            elif version in of_version:
                versions[of_version[version]][name] = version
            elif not version and fields[4] != "WEAK" and owner(name):
                undefined.add(name)
    return needed, versions, undefined - defined


def version_owners(path):
    """The library of each symbol version that a library asks for."""
    owners, library = {}, None
    text = readelf("-V", path)
    for line in text[text.find(".gnu.version_r"):].splitlines():
        if found := re.search(r"File: (\S+)", line):
            library = found[1]
        if (found := re.search(r"Name: (\S+)\s+Flags", line)) and library and not SYSTEM.match(library):
            owners[found[1]] = library
    return owners


def compile_library(path, name, symbols):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        # 3: not available, in every one of CUDA's interfaces.
        (folder / "s.c").write_text("".join(ANSWERS.get(symbol, f"int {symbol}(void){{return 3;}}") + "\n" for symbol in sorted(symbols)))
        words = ["gcc", "-w", "-fno-builtin", "-shared", "-fPIC", "-Os", "-o", path, folder / "s.c", f"-Wl,-soname,{name}"]
        of_version = defaultdict(list)
        only = {version for version in symbols.values() if version}
        for symbol, version in sorted(symbols.items()):
            version = version or (next(iter(only)) if len(only) == 1 else None)
            if version:
                of_version[version].append(symbol)
        if of_version:
            script = "".join(f"{version} {{ global: {'; '.join(names)}; }};\n" for version, names in of_version.items())
            (folder / "v").write_text(script)
            words.append(f"-Wl,--version-script={folder / 'v'}")
        subprocess.run(words, check=True)
