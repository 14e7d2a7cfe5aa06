"""Projects for tests of the binary: a folder of its own, with a file of a user of its own.

Purpose: call `kiln` in a project with the variables that a remote needs, and nothing of the caller's.
Must not know: what is tested, which servers there are.
"""

import json
import os
import subprocess


class Project:
    """A project in a new folder; `env` says which remotes it has."""

    def __init__(self, program, folder, env):
        self.program, self.folder, self.env = program, folder, env
        folder.mkdir()

    def write(self, name, text):
        (self.folder / name).write_text(text)
        return self

    def ask(self, *words, env=None, typed=""):
        """Runs a command; `env` replaces the variables of the project, `typed` is what comes on standard input."""
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "AZURE_", "KILN_"))}
        env = plain | (self.env if env is None else env) | {"KILN_CONFIG": str(self.folder / "config.yaml")}
        return subprocess.run([self.program, *words], cwd=self.folder, env=env, capture_output=True, text=True,
                              input=typed)

    def json(self, *words, **more):
        answer = self.ask(*words, "--json", **more)
        try:
            return json.loads(answer.stdout)
        except ValueError:
            raise SystemExit(f"{words}: {answer.stdout}{answer.stderr}") from None

    def states(self, *words):
        """`stage -> state` of the plan."""
        return {stage["name"]: stage["state"] for stage in self.json("plan", *words)["stages"]}

    def outcomes(self, *words):
        """`stage -> outcome` of a run."""
        return {stage["name"]: stage["outcome"] for stage in self.json("run", *words)["stages"]}

    def bytes_here(self):
        """The bytes of all blobs in the store."""
        return sum(file.stat().st_size for file in (self.folder / "artifacts/blobs").glob("*/*"))
