"""One line of the table, how a target is judged, and the two forms in which results are printed."""

import json
import os
from dataclasses import dataclass, field

UNITS = {"s": 1.0, "ms": 1e-3, "CPU-min": 60.0, "MB": 1e6, "tokens/s": 1.0, "MB/s": 1e6}
# The larger, the better; of all other units the smaller.
RATES = ("tokens/s", "MB/s")


@dataclass(frozen=True)
class AtLeast:
    """A target on the ratio: .25 says at most four times the peer's time, 10 at most a tenth of its bytes.

    Where the result names the machine's limit, a figure that reaches `of_limit` of it is enough too.
    """

    ratio: float
    of_limit: float | None = None

    def __str__(self):
        more = "" if self.of_limit is None else f" or {self.of_limit:.0%} of the limit"
        return f"ratio >= {self.ratio:.3g}{more}"

    def met(self, result):
        if self.of_limit is not None and result.limit is not None and result.ours >= self.of_limit * result.limit:
            return True
        return None if result.ratio is None else result.ratio >= self.ratio


@dataclass(frozen=True)
class AtMost:
    """A target on our own figure, in seconds."""

    seconds: float

    def __str__(self):
        return f"ours <= {self.seconds:g} s"

    def met(self, result):
        return result.ours <= self.seconds


@dataclass
class Result:
    """Ours and the peer's figure; the ratio is above 1 where ours is better.

    The figures (medians) are in seconds, in bytes, or in tokens or bytes a second, whatever the unit shows.
    """

    name: str
    variant: str
    ours: float
    peer: float | None = None
    peer_name: str = ""
    unit: str = "ms"
    target: object = None
    limit: float | None = None  # the rate beyond which this machine cannot go, measured in the same rounds
    runs: dict = field(default_factory=dict)  # name of a contestant -> its samples
    note: str = ""

    @property
    def ratio(self):
        if self.peer is None or self.ours <= 0:
            return None
        return self.ours / self.peer if self.unit in RATES else self.peer / self.ours

    def verdict(self):
        met = self.target.met(self) if self.target else None
        return {None: "", True: "met", False: "MISSED"}[met]

    def record(self, cpu, size, trial):
        scale = UNITS[self.unit]
        return {
            "name": self.name,
            "variant": self.variant,
            "ours": round(self.ours / scale, 4),
            "peer": None if self.peer is None else round(self.peer / scale, 4),
            "peer_name": None if self.peer is None else self.peer_name,
            "unit": self.unit,
            "ratio": None if self.ratio is None else round(self.ratio, 4),
            "limit": None if self.limit is None else round(self.limit / scale, 4),
            "target": str(self.target) if self.target else None,
            "met": self.target.met(self) if self.target and not trial else None,
            "trial": trial,
            "note": self.note,
            "size": size,
            "cpu": cpu,
            "runs": {name: [s.numbers() for s in samples] for name, samples in self.runs.items()},
        }


def table(results, trial):
    """The results as lines of text with aligned columns; a trial is not judged."""
    head = ["row", "variant", "ours", "peer", "unit", "ratio", "target", "", "peer's name"]
    lines = [head]
    for r in results:
        scale = UNITS[r.unit]
        peer = "-" if r.peer is None else f"{r.peer / scale:.4g}"
        ratio = "-" if r.ratio is None else f"{r.ratio:.3g}"
        target = str(r.target) if r.target else ""
        verdict = "trial" if trial and r.target else r.verdict()
        title = r.peer_name if r.peer is not None else ""
        lines.append([r.name, r.variant, f"{r.ours / scale:.4g}", peer, r.unit, ratio, target, verdict, title])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    right = {2, 3, 5}
    text = ["  ".join(w.rjust(n) if i in right else w.ljust(n) for i, (w, n) in enumerate(zip(line, widths))).rstrip()
            for line in lines]
    notes = dict.fromkeys(f"{r.name} {r.variant}: {r.note}" for r in results if r.note)
    return "\n".join(text + ["  " + note for note in notes])


def write(path, results, cpu, size, trial):
    """Writes all results to the file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    beside.write_text(json.dumps([r.record(cpu, size, trial) for r in results], indent=1) + "\n")
    os.replace(beside, path)
