"""Writes a graph as a project folder of each tool: Kiln, ninja, DVC, Snakemake.

Every tool gets the same shell line for the same step, sources in `src/`, and (the peers) results in
`out/`. Each project is written the way that is fastest for its tool, as far as we know it.
"""

import hashlib
import json
import os
import subprocess
from pathlib import Path

# The first words of a store's `.gitignore`, as `cas::format::MARKER` has them.
MARKER = "# Kiln's store:"


def sources(folder, graph):
    (folder / "src").mkdir(parents=True)
    for name, line in graph.sources.items():
        (folder / "src" / name).write_text(line + "\n")


def reads(step):
    """The path that a peer's step reads."""
    return f"src/{step.source}" if step.source else f"out/{step.parent}"


def kiln(folder, graph, **extra):
    """A project with `kiln.yaml`; `extra` are further keys of every stage, such as `shell`."""
    sources(folder, graph)
    # A repository and a marked store of its own, or Kiln would take the project around it for the root.
    subprocess.run(["git", "init", "-q", "--template=", str(folder)], check=True)
    (folder / "artifacts").mkdir()
    mark = f"{MARKER} this file marks the project root; keep it.\n/*\n!/.gitignore\n"
    (folder / "artifacts/.gitignore").write_text(mark)
    more = "".join(f", {key}: {json.dumps(value)}" for key, value in extra.items())
    text = ["pipeline: bench", "sources:"]
    text += [f"  {name}: {{ path: src/{name}, type: any }}" for name in graph.sources]
    text += ["stages:"]
    for step in graph.steps:
        run = step.line("{inputs.i}", "{outputs.o}")
        text.append(
            f"  {step.name}: {{ kind: command, inputs: {{ i: {step.source or step.parent} }}, "
            f"run: '{run}', outputs: {{ o: any }}{more} }}"
        )
    (folder / "kiln.yaml").write_text("\n".join(text) + "\n")


def kiln_environment():
    """The caller's environment, without what would change what Kiln does."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("KILN_", "MAKE", "MFLAGS"))}
    return env | {"NO_COLOR": "1"}


def ninja(folder, graph, shell=None):
    """A project with `build.ninja`. ninja runs its lines with `sh -c`; `shell` is one that replaces it."""
    sources(folder, graph)
    text = ["builddir = .", ""]
    if shell:
        start = f"exec {shell} '"
        text += [f"rule step\n  command = {start}read -r x < $in; echo \"$$x $step\" > $out'"]
        text += [f"rule same\n  command = {start}read -r x < $in; echo \"same\" > $out'"]
    else:
        text += ['rule step\n  command = read -r x < $in; echo "$$x $step" > $out']
        text += ['rule same\n  command = read -r x < $in; echo "same" > $out']
    for step in graph.steps:
        rule = "same" if step.constant else "step"
        text.append(f"build out/{step.name}: {rule} {reads(step)}\n  step = {step.name}")
    (folder / "build.ninja").write_text("\n".join(text) + "\n")


def snakemake(folder, graph):
    """A project with one wildcard rule, which Snakemake plans faster than one rule a step (1.1 against 1.4 s)."""
    sources(folder, graph)
    (folder / "inputs.json").write_text(json.dumps({s.name: reads(s) for s in graph.steps}))
    last = [f"out/{s.name}" for s in graph.last()]
    rules = [
        "import json",
        "INPUTS = json.load(open('inputs.json'))",
        f"rule all:\n    input: {last!r}",
        "rule step:\n    input: lambda w: INPUTS[w.name]\n    output: 'out/{name,c.*}'\n"
        "    shell: 'read -r x < {input}; echo \"$x {wildcards.name}\" > {output}'",
        "rule same:\n    input: lambda w: INPUTS['root']\n    output: 'out/root'\n"
        "    shell: 'read -r x < {input}; echo \"same\" > {output}'",
    ]
    (folder / "Snakefile").write_text("\n".join(rules) + "\n")


def dvc(folder, graph):
    """A DVC project in the state after a whole run, without running it.

    DVC rewrites its lock file after each stage, so that a run of 1,000 stages takes half an hour. The
    state it would leave is known: `dvc.lock` names the MD5 and size of each dependency and output, the
    outputs lie in `out/` and in the cache. The first `dvc status` (a warm-up) fills its index of files.
    """
    sources(folder, graph)
    (folder / "out").mkdir()
    known = {f"src/{name}": _dvc_entry(f"src/{name}", line) for name, line in graph.sources.items()}
    lines = dict(graph.sources)
    stages, lock = ["stages:"], ["schema: '2.0'", "stages:"]
    for step in graph.steps:
        out, text = f"out/{step.name}", step.result(lines[step.source or step.parent])
        lines[step.name] = text
        known[out] = _dvc_entry(out, text)
        command = step.line(reads(step), out)
        stages.append(f"  {step.name}:\n    cmd: '{command}'\n    deps: [{reads(step)}]\n    outs: [{out}]")
        lock += [f"  {step.name}:", f"    cmd: {command}", "    deps:", known[reads(step)], "    outs:", known[out]]
        data = (text + "\n").encode()
        (folder / out).write_bytes(data)
        cached = _dvc_cached(folder, data)
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_bytes(data)
        cached.chmod(0o444)
    (folder / "dvc.yaml").write_text("\n".join(stages) + "\n")
    (folder / "dvc.lock").write_text("\n".join(lock) + "\n")


def _dvc_entry(path, line):
    data = (line + "\n").encode()
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return f"    - path: {path}\n      hash: md5\n      md5: {md5}\n      size: {len(data)}"


def _dvc_cached(folder, data) -> Path:
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return folder / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
