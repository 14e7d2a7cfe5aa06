"""The peers: installs those that a row needs into a throw-away environment, and gives their paths.

The environment is `target/bench-env`, a venv; removing the folder is always safe. Versions are pinned
so that figures can be compared; raise them when a peer has become faster. `pytorch` stands for all peers
in Python that `pytorch.py` tells of; it is there only where their scripts are.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytorch

PINS = {"ninja": "1.13.2", "dvc": "3.67.1", "snakemake": "9.27.1", "awscli": "1.42.0", "moto": "5.2.5",
        "pytorch": pytorch.VERSIONS["torch"]}
# These need other versions of what they share with the rest, and are in a folder of their own.
APART = {"awscli": "apart", "moto": "apart", "pytorch": "pytorch"}
# What is installed under a name, and the program by which it is known, where they differ from the name.
EXTRAS = {"moto": "moto[server]"}
PROGRAMS = {"awscli": "aws", "moto": "moto_server", "pytorch": "python"}


class Peers:
    def __init__(self, folder: Path, skipped=()):
        self.folder = folder
        self.skipped = set(skipped)

    def wanted(self, *names):
        """Installs what is missing of the named peers, but for the skipped ones."""
        missing = [n for n in names if self.has(n) and not self._is_there(n)]
        for home in dict.fromkeys(self._home(n) for n in missing):
            self._install([n for n in missing if self._home(n) == home], home)

    def _install(self, missing, home):
        if not (home / "bin" / "pip").exists():  # put there after all else that pip needs
            venv.create(home, with_pip=True, clear=home != self.folder)  # the other homes lie in that folder
        print(f"bench: installing {', '.join(missing)} into {home}", file=sys.stderr)
        pins = [f"{EXTRAS.get(n, n)}=={PINS[n]}" for n in missing]
        words = pytorch.WORDS if missing == ["pytorch"] else pins
        pip = [home / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *words]
        if subprocess.run(pip).returncode != 0 or missing == ["pytorch"] and not pytorch.finish(home):
            skip = f"BENCH_FLAGS='--skip {','.join(missing)}'"
            sys.exit(f"bench: could not install {' '.join(pins)}; to go on without, {skip}")
        for name in missing:
            self._stamp(name).write_text(self._version(name))

    def has(self, name):
        return name not in self.skipped and (name != "pytorch" or pytorch.scripts_are_there())

    def path(self, program):
        """Where a program is, by its own name."""
        apart = {PROGRAMS[name]: self._home(name) for name in APART}
        return apart.get(program, self.folder) / "bin" / program

    def title(self, name):
        """Name and version, as the table shows them."""
        return f"{name} {PINS.get(name) or pytorch.VERSIONS[name]}"

    def environment(self):
        """The environment of a peer: no caches outside of ours, no questions to the network."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        path = f"{self.folder / 'bin'}:{env.get('PATH', os.defpath)}"
        more = {"PATH": path, "DVC_NO_ANALYTICS": "1", "XDG_CACHE_HOME": str(self.folder / "cache"), "NO_COLOR": "1"}
        return env | more

    def dvc_init(self, folder: Path):
        """Makes the folder a DVC project that neither asks for updates nor reports its use."""
        folder.mkdir(parents=True, exist_ok=True)
        for words in (["init", "--no-scm", "-q"], ["config", "core.analytics", "false"],
                      ["config", "core.check_update", "false"]):
            subprocess.run([self.path("dvc"), *words], cwd=folder, env=self.environment(), check=True,
                           stdout=subprocess.DEVNULL)

    def _home(self, name):
        return self.folder / APART.get(name, "")

    def _version(self, name):
        """What is written down beside a peer that was installed."""
        return "\n".join(pytorch.WORDS) if name == "pytorch" else PINS[name]

    def _stamp(self, name):
        return self._home(name) / f"{name}.version"

    def _is_there(self, name):
        stamp = self._stamp(name)
        there = self.path(PROGRAMS.get(name, name)).exists() and stamp.exists()
        return there and stamp.read_text() == self._version(name)
