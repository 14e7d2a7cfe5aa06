#!/usr/bin/env python3
"""Encodes the same text with Kiln and with Hugging Face, and demands the same ids.

Purpose: our tokenizer against the real libraries. For both split patterns: Kiln trains
on mixed text; `tokenizers` loads the folder; both encode 10 MB whole and cut into thousands of
pieces; `transformers` renders the chat template. Prints speeds beside, for comparison.
Invariant: the text is made from a fixed seed, so a failure repeats.
Usage: huggingface.py PROGRAM.. [--text FILE], where PROGRAM.. (say `target/release/kiln-stages
tokenizer`) takes the arguments of stages/src/bpe/cli.rs. A virtual environment with pinned packages is
made under target/ on the first call (network: PyPI).
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import unicodedata
from pathlib import Path

sys.dont_write_bytecode = True  # git does not ignore __pycache__ here
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import pinned  # noqa: E402

PINS = ["tokenizers==0.23.3", "transformers==5.23.0", "jinja2==3.1.6"]
TARGET = Path(__file__).resolve().parents[2] / "target"
SPECIALS = ["<|endoftext|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"]


# Text that reaches every alternative of the patterns, and the borders between them.

SYLLABLES = "ba ke lo mi nu ra se to vi wo an er ing ou sh th str é ü ñ".split()
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n", "\n ", "\r", "\x0b", "\x0c", "\x1c", "\x1f",
          "\x85", "\u00a0", "\u2003", "\u2028", "\u3000", "\u200b", "\ufeff", " \t \n\n  \t", "        "]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'vE", "'M", "'LL", "'D",
                "'\u017f", "\u2019s", "'x", "''", "'r", "'l", "'", " 's", "'ll'd"]
NUMBERS = ["7", "42", "1999", "3.14159", "12345678", "\u0665\u0666\u0667\u0668", "\u00b2\u00bd", "\u2167",
           "\u4e00", "0x1F", "1e-5", "\U0001d7d8\U0001d7d9"]
PHRASES = ["日本語のテキスト。", "中文没有空格", "한국어 문장", "नमस्ते दुनिया", "مرحبا بالعالم", "שלום", "Привет, мир!", "ภาษาไทย",
           "e\u0301te\u0308", "Ünïcödé", "ǅungla", "ﬁn", "ß", "𝔘𝔫𝔦", "𓀀𓀁", "😀😃", "👩‍👩‍👧‍👦", "🇩🇪🇫🇷", "👍🏽", "❤️", "☃", "…—“”",
           "<|endoftext|>", "<|user|>", "<|end|>", "<|", "|>", "$%&/()=", "...", "!!!\n", "?\r\n\r\n", "\x00", "\x7f"]
CODE = ["def f(x):\n    return x  # ok\n", "if (a != b) {\r\n\t\tc++;\r\n\t}\r\n", "let v: Vec<u32> = vec![1, 2];\n",
        "<div class=\"a\">\n  <p>&amp;</p>\n</div>\n", "SELECT * FROM t WHERE x >= 10;\n\n\n", "a_b-c/d\\e::f->g"]
# Characters that Unicode 3.2 knew: the same list with every Python.
OLD = [chr(c) for c in range(0x20, 0x30000) if unicodedata.ucd_3_2_0.category(chr(c)) not in ("Cn", "Cs", "Co")]


def mixed_text(size, seed):
    draw = random.Random(seed)
    parts, total = [], 0
    while total < size:
        kind = draw.random()
        if kind < 0.62:
            word = "".join(draw.choices(SYLLABLES, k=draw.randint(1, 4)))
            part = draw.choice(["", " ", " ", " ", "\n"]) + draw.choice([word, word, word.upper(), word.title()])
        elif kind < 0.97:
            part = draw.choice(draw.choice([SPACES, CONTRACTIONS, NUMBERS, PHRASES, CODE]))
        elif kind < 0.999:
            part = "".join(draw.choices(OLD, k=draw.randint(1, 6)))
        else:
            part = draw.choice(["a", " ", "\n", "ab", "!", "9", "é", "\t \n"]) * draw.randint(50, 400)
        parts.append(part)
        total += len(part.encode())
    return "".join(parts)


def cut(text, seed):
    """The text in pieces of 0 to 120 characters, borders anywhere."""
    draw, pieces, at = random.Random(seed), [""], 0
    while at < len(text):
        end = at + draw.randint(1, 120)
        pieces.append(text[at:end])
        at = end
    return pieces


class Kiln:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def run(self, text, *arguments):
        done = subprocess.run([*self.program, *arguments], input=text.encode(), stdout=subprocess.PIPE, check=True)
        return done.stdout.decode()

    def train(self, text, pattern, size):
        options = ["--pattern", pattern, "--vocab-size", str(size), "--out", self.folder]
        return self.run(text, "train", *options).strip()

    def encode(self, text, form="text"):
        return [int(i) for i in self.run(text, "encode", "--tokenizer", self.folder, "--as", form).split()]

    def encode_lines(self, texts):
        lines = "\n".join(json.dumps(text) for text in texts)
        answer = self.run(lines, "encode", "--tokenizer", self.folder, "--lines", "yes")
        return [[int(i) for i in line.split()] for line in answer.split("\n")[:-1]]


def same(ours, theirs, tokens, what):
    if ours == theirs:
        return
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    show = lambda ids: [tokens.id_to_token(i) for i in ids[max(0, at - 3):at + 4]]
    sys.exit(f"FAILED {what}: ids differ from place {at} on: kiln {show(ours)}, tokenizers {show(theirs)}")


def check_text(kiln, text, pattern):
    import tokenizers
    tokens = tokenizers.Tokenizer.from_file(str(Path(kiln.folder) / "tokenizer.json"))
    # Kiln never reads a special token out of text; this asks the same of tokenizers.
    tokens.encode_special_tokens = True
    started = time.perf_counter()
    theirs = tokens.encode(text, add_special_tokens=False).ids
    seconds = time.perf_counter() - started
    ours = kiln.encode(text)
    same(ours, theirs, tokens, f"{pattern}, whole text")
    if tokens.decode(ours, skip_special_tokens=False) != text:
        sys.exit(f"FAILED {pattern}: tokenizers does not decode the ids to the text")
    pieces = cut(text, 7)
    batch = tokens.encode_batch(pieces, add_special_tokens=False)
    ours_of_pieces = kiln.encode_lines(pieces)
    if len(ours_of_pieces) != len(pieces):
        sys.exit(f"FAILED {pattern}: {len(pieces)} texts gave {len(ours_of_pieces)} answers")
    for piece, mine, theirs in zip(pieces, ours_of_pieces, batch):
        same(mine, theirs.ids, tokens, f"{pattern}, {piece!r}")
    megabytes = len(text.encode()) / 1e6
    print(f"{pattern}: {megabytes:.2f} MB whole and in {len(pieces)} pieces: the same {len(ours)} ids; "
          f"tokenizers {megabytes / seconds:.1f} MB/s")


def check_chat(kiln, pattern):
    import transformers
    transformers.logging.set_verbosity_error()
    theirs = transformers.AutoTokenizer.from_pretrained(kiln.folder)
    names = [theirs.bos_token, theirs.pad_token, theirs.eos_token]
    if names != ["<|endoftext|>", "<|pad|>", "<|end|>"]:
        sys.exit(f"FAILED {pattern}: bos, pad and eos are {names}")
    specials = [len(theirs) - len(SPECIALS) + i for i in range(len(SPECIALS))]
    if theirs.convert_tokens_to_ids(SPECIALS) != specials:
        sys.exit(f"FAILED {pattern}: the special tokens are not the last ids")
    render = lambda turns, prompt: theirs.apply_chat_template(
        turns, add_generation_prompt=prompt, tokenize=True, return_dict=False)
    for text in ["What say you?", "", " spaces  \n\n", "\ttab\r\n", "naïve 日本 😀", "It's {{ 'jinja' }} {% if %}"]:
        user = {"role": "user", "content": text}
        answer = {"role": "assistant", "content": text}
        prompt, response = kiln.encode(text, "prompt"), kiln.encode(text, "response")
        same(prompt, render([user], True), theirs._tokenizer, f"{pattern}, prompt {text!r}")
        same(prompt + response, render([user, answer], False), theirs._tokenizer, f"{pattern}, answer {text!r}")
        twice = prompt + response + prompt
        same(twice, render([user, answer, user], True), theirs._tokenizer, f"{pattern}, turns {text!r}")
    print(f"{pattern}: the chat template of transformers gives the same ids")


def main():
    pinned.enter("huggingface-venv", PINS)
    parser = argparse.ArgumentParser()
    parser.add_argument("program", nargs="+")
    parser.add_argument("--text", type=Path, action="append", default=[], help="more text, UTF-8")
    arguments = parser.parse_args()
    text = mixed_text(10_000_000, 1) + "".join(file.read_bytes().decode() for file in arguments.text)
    for pattern in ["gpt2", "gpt4"]:
        with tempfile.TemporaryDirectory() as folder:
            kiln = Kiln(arguments.program, folder)
            print(f"{pattern}: {kiln.train(mixed_text(1_000_000, 2), pattern, 4096)}")
            check_text(kiln, text, pattern)
            check_chat(kiln, pattern)


if __name__ == "__main__":
    main()
