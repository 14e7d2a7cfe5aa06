"""What every row is handed: the binary, the peers, a folder to work in, the size and number of samples."""

import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import measure
import peers
import writers


@dataclass
class Bench:
    kiln: Path
    peers: peers.Peers
    folder: Path
    size: int = 1000
    samples: int | None = None  # instead of each row's own number, for trials
    store: Path | None = None  # a store in which the demo has run
    variants: set | None = None  # those asked for; None: all but those that run only when asked for
    problems: list = field(default_factory=list)
    kept: dict = field(default_factory=dict)  # what rows share

    @property
    def worker(self):
        """The binary with the training stages, beside ours."""
        return self.kiln.with_name("kiln-stages")

    def rounds(self, usual):
        return self.samples or usual

    def wants(self, variant, on_request=False):
        """True when this variant of the row is to be measured."""
        return not on_request if self.variants is None else variant in self.variants

    def once(self, name, make):
        """What `make()` gives, made by the first row that asks for it under this name."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    def fresh(self, name):
        """A place in the work folder where nothing is yet; the parent folder exists."""
        place = self.folder / name
        if place.exists():
            shutil.rmtree(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def our(self, name, words, folder, **more):
        """A contestant that is our binary, with these words, in a project folder."""
        return measure.Contestant(name, [self.kiln, *words], folder, writers.kiln_environment(), **more)

    def peer(self, name, words, folder, **more):
        """A contestant that is a peer: the first word is its program."""
        argv = [self.peers.path(words[0]), *words[1:]]
        return measure.Contestant(name, argv, folder, self.peers.environment(), **more)

    def say(self, text):
        print(f"bench: {text}", file=sys.stderr, flush=True)

    def problem(self, text):
        """Something that was to be measured and was not; it is printed at once and again at the end."""
        self.say(text)
        self.problems.append(text)


def counts(ran, cached):
    """A check that Kiln's summary line counts this many stages."""

    def check(sample):
        said = {word: int(n.replace(",", "")) for n, word in re.findall(r"([\d,]+) (ran|cached)\b", sample.text)}
        if said.get("ran", 0) != ran or said.get("cached", 0) != cached:
            expected = f"kiln was to count {ran} stages that ran and {cached} cached ones; it says"
            raise measure.Failed(f"{expected}:\n    {measure.ends(sample.text)}")

    return check


def json_cached(cached):
    """A check that Kiln's answer with `--json` calls this many stages cached, and the outcome ok."""

    def check(sample):
        found = len(re.findall(r'"state":\s*"cached"', sample.text))
        if found < cached or not re.search(r'"outcome":\s*"ok"', sample.text):
            raise measure.Failed(f"{cached} cached stages expected in kiln's JSON, {found} found:\n"
                                 f"    {measure.ends(sample.text)}")

    return check


def says(words):
    """A check that the program printed these words."""

    def check(sample):
        if words not in sample.text:
            raise measure.Failed(f"`{words}` is missing in what was printed:\n    {measure.ends(sample.text)}")

    return check
