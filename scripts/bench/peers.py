"""The peers: installs those that a row needs into a throw-away environment, and gives their paths.

The environment is `target/bench-env`, a venv; removing the folder is always safe. Versions are pinned
so that figures can be compared; raise them when a peer has become faster.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

PINS = {"ninja": "1.13.2", "dvc": "3.67.1", "snakemake": "9.27.1", "awscli": "1.42.0", "moto": "5.2.5"}
# These need other versions of what they share with the rest.
APART = ("awscli", "moto")
# What is installed under a name, and the program by which it is known, where they differ from the name.
EXTRAS = {"moto": "moto[server]"}
PROGRAMS = {"awscli": "aws", "moto": "moto_server"}


class Peers:
    def __init__(self, folder: Path, skipped=()):
        self.folder = folder
        self.skipped = set(skipped)

    def wanted(self, *names):
        """Installs what is missing of the named peers, but for the skipped ones."""
        missing = [n for n in names if n not in self.skipped and not self._is_there(n)]
        for home in dict.fromkeys(self._home(n) for n in missing):
            self._install([n for n in missing if self._home(n) == home], home)

    def _install(self, missing, home):
        if not (home / "bin" / "python").exists():
            venv.create(home, with_pip=True, clear=True)
        print(f"bench: installing {', '.join(missing)} into {home}", file=sys.stderr)
        pins = [f"{EXTRAS.get(n, n)}=={PINS[n]}" for n in missing]
        pip = [home / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *pins]
        if subprocess.run(pip).returncode != 0:
            skip = f"BENCH_FLAGS='--skip {','.join(missing)}'"
            sys.exit(f"bench: could not install {' '.join(pins)}; to go on without, {skip}")
        for name in missing:
            self._stamp(name).write_text(PINS[name])

    def has(self, name):
        return name not in self.skipped

    def path(self, program):
        """Where a program is, by its own name."""
        apart = [PROGRAMS[name] for name in APART]
        return (self.folder / "apart" if program in apart else self.folder) / "bin" / program

    def title(self, name):
        """Name and version, as the table shows them."""
        return f"{name} {PINS[name]}"

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
        return self.folder / "apart" if name in APART else self.folder

    def _stamp(self, name):
        return self._home(name) / f"{name}.version"

    def _is_there(self, name):
        stamp = self._stamp(name)
        return self.path(PROGRAMS.get(name, name)).exists() and stamp.exists() and stamp.read_text() == PINS[name]
