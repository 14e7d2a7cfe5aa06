"""Downloads one pinned file of PyPI through pip, which checks its SHA-256.

pip is used so that a mirror, a proxy or PIP_FIND_LINKS of this machine counts. Nothing of a package is ever run. Only the
standard library and pip are used.
"""

import hashlib
import os
import subprocess
import sys

# pip asks even a source distribution for its metadata, by running its setup.py under setuptools. This stands in for setuptools
# and answers from the file PKG-INFO, so that no code of the package runs and nothing but the archive is downloaded.
BACKEND = """
import os, shutil, sys
def get_requires_for_build_wheel(settings=None):
    return []
def prepare_metadata_for_build_wheel(folder, settings=None):
    name = "{package}-{version}.dist-info"
    os.makedirs(os.path.join(folder, name), exist_ok=True)
    shutil.copyfile("PKG-INFO", os.path.join(folder, name, "METADATA"))
    return name
__legacy__ = sys.modules[__name__]
"""


def fail(message):
    sys.exit(f"fetch: {message}")


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(package, version, sha256, work, is_wheel=False):
    """Downloads the package's wheel or source distribution into `work` and gives its path; three attempts."""
    backend = work / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").write_text("")
    (backend / "build_meta.py").write_text(BACKEND.format(package=package, version=version))
    pins = work / "pins.txt"
    pins.write_text(f"{package}=={version} --hash=sha256:{sha256}\n")
    env = dict(os.environ, PYTHONPATH=str(backend.parent), PIP_USE_PEP517="1", SETUPTOOLS_USE_DISTUTILS="stdlib")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--no-build-isolation",
               "--only-binary" if is_wheel else "--no-binary", package, "--disable-pip-version-check", "--quiet",
               "--dest", str(work), "--requirement", str(pins)]
    for attempt in (1, 2, 3):
        # A download cut short leaves a bad entry in pip's cache at worst: leave the cache out on a retry.
        subprocess.run(command + (["--no-cache-dir"] if attempt > 1 else []), check=False, env=env, stdout=sys.stderr)
        for archive in work.glob("*.whl" if is_wheel else "*.tar.gz"):
            if digest(archive) == sha256:
                return archive
            archive.unlink()
        print(f"fetch: download failed (attempt {attempt} of 3)", file=sys.stderr)
    fail(f"pip could not fetch {package} {version} with the SHA-256 {sha256}; check the network and run this again, "
         "or put the archive into a folder and name that folder in PIP_FIND_LINKS")
