"""Texts to train on and to encode: real ones where they are, else made up, always the same bytes.

tinyshakespeare lies beside the peers' scripts, where these are; the plays of the demo (5 MB) are in a store in which
`pipelines/assistant.yaml` has run. Made-up text has 50,000 words of few syllables, the n-th as often as 1 / n.
"""

import itertools
import random
from pathlib import Path

import measure
import pytorch

ROOT = Path(__file__).resolve().parents[3]
SYLLABLES = [a + b for a in "b c d f g h k l m n p r s t v w st tr".split() for b in "a e i o u en ar ing".split()]
WORDS = 50_000


def made_up(size):
    """Paragraphs of sentences, together at least `size` bytes."""
    draw = random.Random(1337)
    words = ["".join(draw.choices(SYLLABLES, k=1 + n % 4)) for n in range(WORDS)]
    weights = list(itertools.accumulate(1 / (n + 1) for n in range(WORDS)))
    paragraphs, length = [], 0
    while length < size:
        sentences = []
        for _ in range(draw.randint(1, 5)):
            chosen = draw.choices(words, cum_weights=weights, k=draw.randint(4, 16))
            sentences.append(" ".join(chosen).capitalize() + draw.choice(".?!,;"))
        paragraphs.append(" ".join(sentences))
        length += len(paragraphs[-1]) + 2
    return "\n\n".join(paragraphs) + "\n"


def numbered(text, size):
    """The paragraphs of a text over and over, each with a number, until there are `size` bytes."""
    paragraphs = text.strip().split("\n\n")
    found, length = [], 0
    for number in itertools.count():
        if length >= size:
            return "\n\n".join(found) + "\n"
        found.append(f"{number} {paragraphs[number % len(paragraphs)]}")
        length += len(found[-1].encode()) + 2


def plays(bench):
    """The plays of the demo as one text, or none."""
    store = bench.store or ROOT / "artifacts"
    words = ["show", "pipelines/assistant.yaml", "plays", "--path", "--store", str(store.absolute())]
    try:
        folder = Path(measure.run(bench.our("show", words, ROOT)).text.strip().splitlines()[0])
    except (measure.Failed, IndexError):
        return None
    return "\n\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt"))) or None


def small():
    """A text of a megabyte."""
    path = pytorch.tinyshakespeare()
    return path.read_text(encoding="utf-8") if path else made_up(1 << 20)


def large(bench, size):
    """A text of `size` bytes (to a character), and a few words on what it is."""
    if real := plays(bench):
        text, title = real, "the plays of the demo"
    elif path := pytorch.tinyshakespeare():
        text, title = path.read_text(encoding="utf-8"), "tinyshakespeare"
    else:
        text, title = made_up(size), "made-up text"
    if len(text.encode()) < size:
        text, title = numbered(text, size), f"{title}, repeated with numbers"
    return text.encode()[:size].decode(errors="ignore"), title


def stretches(text, count):
    """`count` times some words that follow each other in the text, 6 to 40 of them."""
    words = text.split()
    draw = random.Random(7331)
    for _ in range(count):
        start = draw.randrange(len(words) - 40)
        yield " ".join(words[start:start + draw.randint(6, 40)])
