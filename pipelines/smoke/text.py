#!/usr/bin/env python3
"""Makes up text for a quick look at the whole ladder: small, seeded, no network.

    text.py --seed N --corpus DIR --validation DIR --demonstrations FILE --prompts FILE --heldout FILE

The outputs are those of assistant/dialogue.py, out of a small world: somebody asks after a thing
("Where is the silver bell, my lord?") and somebody answers ("The silver bell hangs in the tower.").
A good answer speaks of the thing that was asked after. Pages of the corpus are good answers only
now and then, demonstrations most of the time, the held-out answers always: so the base model
rambles, SFT answers better, and there is room left for the reward to teach.
"""

import argparse
import hashlib
import json
import sys
from itertools import product
from pathlib import Path

THINGS = {
    "bell": ("hangs", "in the tower"), "raven": ("sleeps", "upon the wall"), "candle": ("burns", "by the window"),
    "letter": ("lies", "under the stone"), "horse": ("waits", "at the gate"), "crown": ("rests", "within the chest"),
    "sword": ("stands", "behind the door"), "fox": ("hides", "below the bridge"), "ship": ("rocks", "beside the shore"),
    "rose": ("grows", "near the well"), "ring": ("shines", "on the table"), "child": ("plays", "before the fire"),
}
KINDS = ["silver", "old", "little", "black", "golden", "broken", "lost", "fair"]
QUESTIONS = ["Where is the {thing}", "Who has seen the {thing}", "What of the {thing}", "Tell me where the {thing} is",
             "Is the {thing} safe", "Where did you leave the {thing}"]
ANSWERS = ["The {thing} {does} {place}.", "I saw the {thing} {place}.", "It {does} {place}, and the {thing} is safe.",
           "Look for the {thing} {place}."]
RAMBLES = ["I cannot tell.", "It is late and the night is cold.", "Good night to you all", "And so and so it is",
           "We shall see what the morning brings.", "no more of that"]
CALLS = [", my lord", ", good friend", ", I pray you", ""]


class Draws:
    """Choices that depend on the seed and a key alone, the same under every Python."""

    def __init__(self, seed):
        self.seed = seed

    def share(self, *key):
        text = json.dumps([self.seed, *key])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2.0**48

    def pick(self, options, *key):
        return options[int(self.share(*key) * len(options))]


def questions():
    """Every question of this world: (text, kind, thing)."""
    for form, call, kind, thing in product(QUESTIONS, CALLS, KINDS, THINGS):
        end = "." if form.startswith("Tell") else "?"
        yield form.format(thing=f"{kind} {thing}") + call + end, kind, thing


def answer(draws, question, right, *key):
    """An answer that is good with chance `right`; else about another thing, or none at all."""
    text, kind, thing = question
    chance = draws.share("right", text, *key)
    if chance >= right:
        if draws.share("ramble", text, *key) < 0.5:
            return draws.pick(RAMBLES, "rambles", text, *key)
        kind, thing = draws.pick(KINDS, "kind", text, *key), draws.pick(sorted(THINGS), "thing", text, *key)
    does, place = THINGS[thing]
    form = draws.pick(ANSWERS, "answer", text, *key)
    return form.format(thing=f"{kind} {thing}", does=does, place=place)


def write_pages(folder, draws, asked, name, speeches, right):
    """One file of dialogue: questions and answers, a blank line between two speeches."""
    said = []
    for number in range(speeches // 2):
        question = draws.pick(asked, name, number)
        said += [question[0], answer(draws, question, right, name, number)]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_text("\n\n".join(said) + "\n", encoding="utf-8", newline="\n")


def write_lines(path, rows):
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        for row in rows:
            out.write(json.dumps(row) + "\n")


def parse():
    parser = argparse.ArgumentParser(description="Makes up a small world of questions and answers.")
    parser.add_argument("--seed", type=int, default=1337)
    for name in ["corpus", "validation", "demonstrations", "prompts", "heldout"]:
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--speeches", type=int, default=4000, help="speeches of the corpus")
    parser.add_argument("--pairs", type=int, default=800, help="demonstrations")
    parser.add_argument("--bare", type=int, default=800, help="prompts for training")
    parser.add_argument("--held", type=int, default=256, help="held-out prompts")
    parser.add_argument("--corpus-right", type=float, default=0.3, help="share of good answers in the corpus")
    parser.add_argument("--demonstrations-right", type=float, default=0.6, help="share of good demonstrations")
    return parser.parse_args()


def main():
    options = parse()
    draws = Draws(options.seed)
    asked = sorted(questions(), key=lambda question: draws.share("order", question[0]))
    need = options.held + options.pairs + options.bare
    if need > len(asked):
        sys.exit(f"text: {need} prompts asked for, but this world has {len(asked)} questions")
    held, rest = asked[:options.held], asked[options.held:]
    pairs, bare = rest[:options.pairs], rest[options.pairs:options.pairs + options.bare]

    write_pages(options.corpus, draws, rest, "pages", options.speeches, options.corpus_right)
    write_pages(options.validation, draws, held, "heldout", options.speeches // 10, options.corpus_right)
    right = options.demonstrations_right
    write_lines(options.demonstrations, ({"prompt": q[0], "response": answer(draws, q, right, "shown")} for q in pairs))
    write_lines(options.prompts, ({"prompt": q[0]} for q in bare))
    write_lines(options.heldout, ({"prompt": q[0], "response": answer(draws, q, 1.0, "held")} for q in held))


if __name__ == "__main__":
    main()
