"""Stages of our worker as contestants, without the runner around them, and what their events say.

A stage gets the environment and the number of threads that the runner would give it. Its folder holds the request,
the output and the checkpoint; the last two are removed before each run.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import measure
import writers

ARRIVALS = Path(__file__).resolve().with_name("arrivals.py")


def stage(bench, name, folder, kind, output, params, inputs, threads=2, **more):
    """A contestant that is a stage of this kind; its output will be `folder/OUTPUT`."""
    folder.mkdir(parents=True, exist_ok=True)
    places = [folder / output, folder / "checkpoint"]
    request = {
        "kind": kind, "params": params, "inputs": {port: str(path) for port, path in inputs.items()},
        "outputs": {output: str(places[0])}, "checkpoint": str(places[1]), "threads": threads, "device": "cpu",
    }
    (folder / "request.json").write_text(json.dumps(request))

    def prepare():
        for place in places:
            if place.is_dir():
                shutil.rmtree(place)
            place.unlink(missing_ok=True)
        places[1].mkdir()

    argv = [sys.executable, ARRIVALS, bench.worker, folder / "request.json"]
    env = writers.kiln_environment() | {"OMP_NUM_THREADS": str(threads)}
    return measure.Contestant(name, argv, folder, env, prepare=prepare, **more)


def made(bench, folder, kind, output, params, inputs):
    """The path of what a stage makes, run once."""
    measure.run(stage(bench, kind, folder, kind, output, params, inputs))
    return folder / output


def events(sample, kind):
    """The events of this kind, each with the second at which it arrived."""
    found = []
    for line in sample.text.splitlines():
        at, _, text = line.partition(" ")
        if text.startswith("{"):
            event = json.loads(text)
            if event.get("event") == kind:
                found.append((float(at), event))
    return found


def metrics(sample, name):
    """When and at which step a metric of this name arrived, and its value: a list of (second, step, value)."""
    arrived = ((at, event["step"], event["values"].get(name)) for at, event in events(sample, "metric"))
    return [metric for metric in arrived if metric[2] is not None]


def encoded(bench, tokenizer, texts, form):
    """The ids of each text; `form` is text, prompt or response."""
    argv = [bench.worker, "tokenizer", "encode", "--tokenizer", tokenizer, "--as", form, "--lines", "yes"]
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    answer = subprocess.run(argv, input=lines, capture_output=True, text=True, env=writers.kiln_environment())
    if answer.returncode != 0:
        raise measure.Failed(f"`kiln-stages tokenizer encode` failed:\n    {measure.ends(answer.stderr)}")
    return [[int(word) for word in line.split()] for line in answer.stdout.splitlines()]
