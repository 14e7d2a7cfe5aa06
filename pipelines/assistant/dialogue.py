#!/usr/bin/env python3
"""Turns plays into what the ladder trains on: pages of dialogue, and a speech with its answer.

    dialogue.py PLAYS --corpus DIR --validation DIR --demonstrations FILE --prompts FILE --heldout FILE

PLAYS is a folder of plays as text: a paragraph a speech, its first line the speaker ("HAMLET."),
stage directions in brackets, headings for acts and scenes. Out come

  corpus          the speeches of most scenes as pages of dialogue: a speech a line, a blank line
                  between two, nothing else (for the tokenizer and the base model)
  validation      the same of the scenes that are held out, one in ten
  demonstrations  {"prompt", "response"}: a short speech and the short speech that answers it
  prompts         {"prompt"}: speeches that no demonstration starts from
  heldout         {"prompt", "response"} of the held-out scenes: prompts for the evaluation, and
                  what a person answered

What is held out is decided by a hash of the scene's place, so that nothing depends on the order of
files; the JSON lines stand in the order of a hash as well, so that the first n are a fair sample.
"""

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

HEADING = re.compile(r"\s*(ACT|SCENE|PROLOGUE|EPILOGUE|INDUCTION)\b(\s*[IVX0-9]+\b|\s+\w+(TH|ST|RD|ND)\b|\s*\.|\s*:|\s*$)",
                     re.IGNORECASE)
SPEAKER_CAPITALS = re.compile(r"(?=.*[A-Z]{2}|[A-Z]\.)[A-Z0-9]([A-Z0-9 ,.'&-]| and ){0,38}")
SPEAKER_WITHIN = re.compile(r"(\d )?[A-Z]{2}([A-Z '&-]| and )*\.\s*([\[{(].*)?")
SPEAKER_TITLE = re.compile(r"[0-9A-Z][a-z]*(\.? ([A-Z][a-z']*|of|and|the|[12345])){0,3}\.")
NUMERAL = re.compile(r"[IVXLC]+\.?|\*.*|THE END\.?", re.IGNORECASE)
DIRECTION = re.compile(r"[\[{][^\]}]*([\]}]|$)|\([^)]*\baside\b[^)]*\)", re.IGNORECASE)
STRAY = re.compile(r"[0-9()*\[\]{}]|[A-Z]{3}|\. \.")
SENTENCE_END = (".", "!", "?")


def share(*parts):
    """A number in [0, 1) that depends on the parts alone."""
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:6], "big") / 2.0**48


def tidy(text):
    """One line of prose: no stage directions, no dashes glued to words, single spaces."""
    text = DIRECTION.sub(" ", text)
    text = re.sub(r"([.,;:!?])\s*--+", r"\1 ", text)
    text = re.sub(r"\s*--+\s*", " -- ", text.replace("_", "").replace('"', ""))
    return re.sub(r"\s+", " ", text).strip()


def is_speaker(line):
    line = re.sub(r"[\[{].*?[\]}]|\(.*?\)", "", line).strip().rstrip(",")
    if not line or HEADING.match(line) or len(line.split()) > 6:
        return False
    return bool(SPEAKER_CAPITALS.fullmatch(line) or SPEAKER_TITLE.fullmatch(line))


def turns(lines):
    """The speeches of one paragraph as (speaker or none, lines); most paragraphs hold one."""
    found = [(lines[0], [])] if is_speaker(lines[0]) and len(lines) > 1 else [(None, [lines[0]])]
    for line in lines[1:]:
        if SPEAKER_WITHIN.fullmatch(line.strip()):
            found.append((line, []))
        else:
            found[-1][1].append(line)
    return [(who and re.sub(r"[\[{(].*", "", who).strip(" ."), tidy(" ".join(said))) for who, said in found]


def scenes(text):
    """The scenes of a play: lists of (speaker, speech). What comes before the first heading is skipped."""
    current, found, started = [], [], False
    for paragraph in re.split(r"\n\s*\n", text):
        lines = paragraph.strip("\n").split("\n")
        if HEADING.match(lines[0]):
            found.append(current)
            current, started = [], True
        elif started and not NUMERAL.fullmatch(lines[0].strip()):
            for speaker, speech in turns(lines):
                if speaker:
                    current.append((speaker, speech))
                elif current and speech and not lines[0].lstrip().startswith("["):
                    # A song, a letter, or what follows a stage direction: the same speaker goes on.
                    current[-1] = (current[-1][0], f"{current[-1][1]} {speech}".strip())
    found.append(current)
    return [[(who, speech) for who, speech in scene if speech] for scene in found if scene]


def stanzas(text):
    """A poem's stanzas, one line each."""
    paragraphs = (p for p in re.split(r"\n\s*\n", text) if not NUMERAL.fullmatch(p.strip()))
    return [t for t in map(tidy, paragraphs) if len(t.split()) > 8]


def answers(scene):
    """A speech and the speech that answers it, by another person."""
    for (asker, prompt), (answerer, response) in zip(scene, scene[1:]):
        if asker != answerer:
            yield prompt, response


def fits(text, low, high):
    """True for a whole sentence of that many words, without what the plays' editors left in."""
    whole = text[0].isupper() and text.endswith(SENTENCE_END) and text.isascii()
    return whole and low <= len(text.split()) <= high and not STRAY.search(text)


def read_plays(folder):
    works = {}
    for path in sorted(Path(folder).glob("*.txt")):
        try:
            works[path.stem] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            sys.exit(f"dialogue: {path} is not UTF-8: {error}")
    if not works:
        sys.exit(f"dialogue: no .txt file in {folder}")
    return works


def split(works, heldout_share):
    """Pages (lists of speeches) by work and pairs, each for training and held out."""
    pages = {"training": {}, "heldout": {}}
    pairs = {"training": [], "heldout": []}
    for name, text in works.items():
        acts = scenes(text)
        if not acts:
            pages["training"].setdefault(name, []).append(stanzas(text))
        for number, scene in enumerate(acts):
            part = "heldout" if share("scene", name, str(number)) < heldout_share else "training"
            pages[part].setdefault(name, []).append([speech for _, speech in scene])
            pairs[part].extend(answers(scene))
    return pages, pairs


def select(pairs, options):
    """Pairs of fitting length, one a prompt, in the order of a hash."""
    chosen = {}
    for prompt, response in pairs:
        if fits(prompt, options.least, options.prompt_words) and fits(response, options.least, options.response_words):
            chosen.setdefault(prompt, response)
    return sorted(chosen.items(), key=lambda pair: share("order", *pair))


def write_pages(folder, pages):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, scene_list in pages.items():
        text = "\n\n".join(speech for scene in scene_list for speech in scene) + "\n"
        (folder / f"{name}.txt").write_text(text, encoding="utf-8", newline="\n")


def write_lines(path, rows):
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def parse():
    parser = argparse.ArgumentParser(description="Turns plays into pages of dialogue and pairs of speeches.")
    parser.add_argument("plays")
    for name in ["corpus", "validation", "demonstrations", "prompts", "heldout"]:
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--least", type=int, default=4, help="least words of a speech")
    parser.add_argument("--prompt-words", type=int, default=32, help="most words of a prompt")
    parser.add_argument("--response-words", type=int, default=24, help="most words of a response")
    parser.add_argument("--heldout-share", type=float, default=0.1, help="share of the scenes that are held out")
    parser.add_argument("--prompt-share", type=float, default=0.25, help="share of the pairs kept as bare prompts")
    return parser.parse_args()


def main():
    options = parse()
    pages, pairs = split(read_plays(options.plays), options.heldout_share)
    training, heldout = select(pairs["training"], options), select(pairs["heldout"], options)
    seen = {text for pair in training for text in pair}
    heldout = [(p, r) for p, r in heldout if p not in seen and r not in seen]
    bare = [p for p, _ in training if share("bare", p) < options.prompt_share]
    kept = set(bare)
    demonstrations = [(p, r) for p, r in training if p not in kept]

    write_pages(options.corpus, pages["training"])
    write_pages(options.validation, pages["heldout"])
    write_lines(options.demonstrations, ({"prompt": p, "response": r} for p, r in demonstrations))
    write_lines(options.prompts, ({"prompt": p} for p in bare))
    write_lines(options.heldout, ({"prompt": p, "response": r} for p, r in heldout))
    print(f"dialogue: {len(demonstrations)} demonstrations, {len(bare)} prompts, {len(heldout)} held out", file=sys.stderr)


if __name__ == "__main__":
    main()
