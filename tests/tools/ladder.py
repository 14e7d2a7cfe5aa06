"""The ladder, climbed once and shared.

Purpose: where the store is empty and a remote has the results, `kiln run` runs nothing and gives the same bytes,
`kiln chat` answers as the maker's does, and a stage that runs all the same fetches what it reads; nothing else comes.
Must not know: which server a remote is on.
"""

import shutil
import time
from pathlib import Path

from project import Project

PIPELINES = Path(__file__).resolve().parents[2] / "pipelines"
PROMPT = "Who is there?\n"
CHAT = ["policy", "--device", "cpu", "--temperature", "0", "--max-tokens", "40"]
# Makes the report alone stale, with little to do.
SHORTER_REPORT = ["--set", "stages.report.prompts=16"]
# What it reads: all of the models, and a part of what the stage with the data makes.
MODELS = {"base", "policy", "reward", "sft"}
DATA = {"assistant": "dialogue", "smoke": "text"}


def digests(run):
    """`stage.output -> digest` of a run."""
    return {f"{stage['name']}.{name}": output["digest"] for stage in run["stages"]
            for name, output in stage["outputs"].items()}


def clock(call):
    """What a call gives, and its seconds."""
    start = time.monotonic()
    return call(), time.monotonic() - start


def megabytes(count):
    return f"{count / 1e6:.2f} MB"


class Maker:
    """The project that runs the pipeline, without a remote."""

    def __init__(self, program, folder, pipeline):
        self.program, self.file = program, f"pipelines/{pipeline}.yaml"
        self.data = DATA[pipeline]
        self.project = self.copy(folder, {})
        self.run, seconds = clock(lambda: self.project.json("run", self.file, "--device", "cpu"))
        outcomes = {stage["name"]: stage["outcome"] for stage in self.run["stages"]}
        assert set(outcomes.values()) == {"ran"}, outcomes
        self.answer = self.chat(self.project)
        print(f"{pipeline}: {len(outcomes)} stages ran in {seconds:.0f} s, {megabytes(self.project.bytes_here())}")

    def copy(self, folder, env):
        """A project with the same pipeline, and a store where nothing is."""
        project = Project(self.program, folder, env)
        shutil.copytree(PIPELINES, folder / "pipelines")
        return project

    def chat(self, project):
        answer = project.ask("chat", self.file, *CHAT, typed=PROMPT)
        assert answer.returncode == 0 and len(answer.stdout.strip()) > 4, answer
        return answer.stdout

    def to_fetch(self, project):
        """`stage -> bytes` that would come if the results of all stages were wanted."""
        stages = project.json("plan", self.file)["stages"]
        return {stage["name"]: stage["remote"]["bytes"] if stage["remote"] else 0 for stage in stages}

    def share(self, folder, remote):
        """Sends all to a remote, and takes it from there."""
        pushed, push_seconds = clock(lambda: self.project.json("push", self.file, env=remote.env)["remotes"][0])
        assert (pushed["new"], pushed["errors"]) == (len(self.run["stages"]), []), (remote.name, pushed)
        reader = self.copy(folder / "reader", remote.env)
        absent = self.to_fetch(reader)
        run, run_seconds = clock(lambda: reader.json("run", self.file, "--device", "cpu"))
        assert run["outcome"] == "ok", (remote.name, run)
        assert {stage["outcome"] for stage in run["stages"]} == {"fetched"}, (remote.name, run["stages"])
        assert digests(run) == digests(self.run), remote.name
        assert self.to_fetch(reader) == absent | {"report": 0}, remote.name
        run_bytes = reader.bytes_here()
        answer, chat_seconds = clock(lambda: self.chat(reader))
        assert answer == self.answer, (remote.name, answer, self.answer)
        assert self.to_fetch(reader) == absent | {"report": 0, "policy": 0}, remote.name
        chat_bytes = reader.bytes_here() - run_bytes
        self.change(folder, remote, absent)
        print(f"{remote.name}: {megabytes(pushed['bytes'])} sent in {push_seconds:.1f} s; elsewhere no stage ran "
              f"({megabytes(run_bytes)} in {run_seconds:.1f} s) and the policy answered ({megabytes(chat_bytes)} in "
              f"{chat_seconds:.1f} s)")

    def change(self, folder, remote, absent):
        """With a change of the report it alone runs, and what it does not read stays in the remote."""
        reader = self.copy(folder / "changed", remote.env)
        outcomes = reader.outcomes(self.file, "--device", "cpu", *SHORTER_REPORT)
        assert [name for name, outcome in outcomes.items() if outcome == "ran"] == ["report"], (remote.name, outcomes)
        left = self.to_fetch(reader)
        assert 0 < left[self.data] < absent[self.data], (remote.name, left)
        assert left == absent | dict.fromkeys(MODELS, 0) | {self.data: left[self.data]}, (remote.name, left)
