"""The graphs that rows measure, as plain lists of steps; how a tool is told of them is `writers.py`.

Every step reads one file and writes one file of distinct bytes with nothing but the shell's own
builtins, so that what is measured is the tool and one shell a step, not `cp`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One step: reads `source` (the name of a source file) or the output of the step `parent`."""

    name: str
    source: str | None
    parent: str | None
    constant: bool = False

    def line(self, read, write):
        """The shell line of the step for these two paths."""
        said = "same" if self.constant else f"$x {self.name}"
        return f'read -r x < {read}; echo "{said}" > {write}'

    def result(self, text):
        """What the step writes when its input holds this line."""
        return "same" if self.constant else f"{text} {self.name}"


@dataclass(frozen=True)
class Graph:
    sources: dict  # name -> the line that the file holds
    steps: list  # parents before children

    def last(self):
        """The steps that no other step reads."""
        read = {s.parent for s in self.steps}
        return [s for s in self.steps if s.name not in read]


def chains(count, length=10):
    """`count` steps in chains of `length`, each chain on a source of its own."""
    sources, steps = {}, []
    for n in range(count):
        chain, place = divmod(n, length)
        if place == 0:
            sources[f"c{chain}"] = f"source {chain}"
            steps.append(Step(f"c{chain}s0", f"c{chain}", None))
        else:
            steps.append(Step(f"c{chain}s{place}", None, f"c{chain}s{place - 1}"))
    return Graph(sources, steps)


def wide(count):
    """`count` steps without edges between them, in groups of 100 that read the same source."""
    sources = {f"w{n}": f"source {n}" for n in range((count + 99) // 100)}
    return Graph(sources, [Step(f"s{n}", f"w{n // 100}", None) for n in range(count)])


def below_one_root(count, length=9):
    """A root whose output never changes, and `count - 1` steps below it in chains of `length`."""
    steps = [Step("root", "seed", None, constant=True)]
    for n in range(count - 1):
        chain, place = divmod(n, length)
        steps.append(Step(f"c{chain}s{place}", None, f"c{chain}s{place - 1}" if place else "root"))
    return Graph({"seed": "seed 0"}, steps)


NOTHING = Graph({}, [])
