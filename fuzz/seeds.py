#!/usr/bin/env python3
"""Writes the seeds of the targets `parquet`, `records` and `shards`, and one each of `chat_template`,
`model_config` and `tokenizer`, to fuzz/corpus/, from nothing but the standard library.

Purpose: one small valid input for each container, compression and shape; and inputs near the bounds of time and size, from which
a fuzzer soon gets beyond them. Those of Parquet and zstd are the fixtures of
formats/src/records/tests/data/, which `formats/tests/records.py --fixtures` writes. What a fuzzer found lies beside them under
a name that says what it is, and is not written anew.
Invariant: the same bytes on every call.
Usage: python3 fuzz/seeds.py
"""
import gzip
import json
import struct
from pathlib import Path

FUZZ = Path(__file__).resolve().parent
DATA = FUZZ.parent / "formats/src/records/tests/data"
# The first byte of a seed of `records` chooses the container.
JSONL, JSON, CSV, TSV, TEXT, GUESS = b"0", b"1", b"2", b"3", b"4", b"5"

TURNS = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
CALL = [
    {"role": "user", "content": "Add 2 and 3."},
    {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 3}}}]},
    {"role": "tool", "name": "add", "content": "5"},
    {"role": "assistant", "content": "5"},
]
SHAPES = {
    "rankings": {"prompt": "a", "completions": ["x", "y"], "ranks": [2, 1], "annotator": "me", "seconds": 1.5, "flags": ["odd"]},
    "ultrafeedback": {"instruction": "a", "completions": [{"response": "x", "overall_score": 7.5}, {"response": "y", "overall_score": 2}]},
    "completions": {"prompt": "a", "completions": ["x", {"text": "y", "finished": False, "tokens": [1, 2]}]},
    "hh": {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
    "preference": {"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 5, "score_rejected": 1.5},
    "preference_turns": {"chosen": TURNS, "rejected": TURNS[:2] + [{"role": "assistant", "content": "No."}]},
    "messages": {"messages": TURNS},
    "tools": {"messages": CALL, "tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]},
    "conversations": {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes?"}]},
    "prompt_completion": {"prompt": TURNS[:2], "completion": TURNS[2:]},
    "instruction": {"instruction": "Add", "input": "2 and 3", "output": "5"},
    "text": {"text": "naïve \U0001f600 \u0000 words"},
    "prompts": {"prompt": "2 + 3", "response": "5"},
}


def line(row):
    return (json.dumps(row) + "\n").encode()


def records():
    for name, row in SHAPES.items():
        yield f"{name}.jsonl", JSONL + line(row) * 2
    yield "array.json", JSON + json.dumps([SHAPES["messages"], SHAPES["messages"]], indent=1).encode()
    yield "columns.json", JSON + (DATA / "text-columns.json").read_bytes()
    yield "labels.json", JSON + b'{"prompt": {"0": "a", "1": "b"}, "response": {"0": "c", "1": null}}'
    yield "data.json", JSON + b'{"version": 1, "data": [{"text": "a"}, {"text": "b"}]}'
    yield "one_after_another.json", JSON + b'{"text": "a"}\n{"text":\n"b"}'
    yield "mark.jsonl", JSONL + b"\xef\xbb\xbf" + line(SHAPES["text"])
    yield "quoted.csv", CSV + b'id,prompt,completion\r\n1,"a ""b"",\r\nc",d\r\n\r\n2,"",e\r\n'
    yield "messages.csv", CSV + b'messages\n"' + json.dumps(TURNS).replace('"', '""').encode() + b'"\n'
    yield "text.tsv", TSV + (DATA / "text.tsv").read_bytes()
    yield "words.txt", TEXT + b"One two three.\n\nFour."
    yield "guess.csv", GUESS + b"instruction,output\nAdd,5\n"
    yield "guess.json", GUESS + b'[{"text": "a"}]'
    yield "text.jsonl.gz", JSONL + gzip.compress(line(SHAPES["text"]), mtime=0) + gzip.compress(line(SHAPES["text"]), mtime=0)
    yield "text.jsonl.zst", JSONL + (DATA / "text.jsonl.zst").read_bytes()
    # Nearly the most that the target lets a file have, after decompression. The blocks of zstd are a byte that is repeated.
    blocks = [(131_072, 0), (130_000, 0), (100, 1)]
    repeated = b"".join((size << 3 | 1 << 1 | last).to_bytes(3, "little") + b"a" for size, last in blocks)
    yield "large.txt.zst", TEXT + bytes.fromhex("28b52ffd0038") + repeated
    yield "large.txt.gz", TEXT + gzip.compress(b"word " * 50_000, mtime=0)
    # Without the bound on rows, the target would see one that is larger than any that it lets pass.
    for name, container, content in [
        ("jsonl", JSONL, line({"text": "word " * 20_000})),
        ("json", JSON, b"[" + line({"text": "word " * 20_000}) + b"]"),
        ("csv", CSV, b"text\n" + b"word " * 20_000 + b"\n"),
    ]:
        yield f"long_row.{name}.gz", container + gzip.compress(content, mtime=0)
    yield "large.jsonl.gz", JSONL + gzip.compress(line({"text": "word " * 750}) * 60, mtime=0)


def parquet():
    for path in DATA.glob("*.parquet"):
        yield path.stem, path.read_bytes()


def shard(vocab, documents, mask, parts=1):
    """An index and its shard; several parts are the same shard again."""
    tokens = sum(map(len, documents))
    head = {"format": "kiln.tokens/1", "dtype": "u16" if vocab <= 1 << 16 else "u32", "documents": len(documents), "tokens": tokens}
    head |= {"mask": mask is not None, "vocab_size": vocab, "tokenizer": "0123456789abcdef" * 4}
    files = [{"file": f"{part:05}.tokens", "documents": len(documents), "tokens": tokens} for part in range(parts)]
    index = json.dumps(head | {"documents": len(documents) * parts, "tokens": tokens * parts, "shards": files}).encode()
    ids = b"".join(struct.pack("<H" if vocab <= 1 << 16 else "<I", token) for document in documents for token in document)
    starts = [sum(map(len, documents[:place])) for place in range(len(documents) + 1)]
    body = json.dumps(head).encode().ljust(1023) + b"\n" + ids + bytes(-len(ids) % 8) + struct.pack(f"<{len(starts)}Q", *starts)
    return struct.pack("<H", len(index)) + index + body + (mask or b"")


def shards():
    documents = [[5, 2, 9], [0], list(range(11)), [7, 7]]
    yield "short", shard(300, documents, None)
    yield "masked", shard(300, documents, b"\xa5\xff\x01")
    yield "long", shard(100_000, [[99_999, 1], [65_536]], None)
    yield "two", shard(300, documents, b"\0\xf0\x01", parts=2)
    yield "none", shard(300, [], None, parts=0)


def chat_template():
    # Some ten thousand steps; the most are six million.
    loops = "".join(f"{{% for {name} in range(20) %}}" for name in "abc")
    yield "loops", (loops + "{{ a * b }}" + "{% endfor %}" * 3).encode()
    yield "repeated", b"{{ ('ab' * 8000000)|length }}{{ ([1] * 9000)|length }}"


def model_config():
    # As large as can be, but for the positions, for RoPE makes a table of them.
    sizes = {"vocab_size": 1 << 20, "hidden_size": 1 << 16, "intermediate_size": 1 << 18, "num_hidden_layers": 1 << 10}
    heads = {"num_attention_heads": 1 << 10, "num_key_value_heads": 1 << 10, "max_position_embeddings": 1 << 17}
    yield "largest", json.dumps({"model_type": "llama", **sizes, **heads}).encode()


def tokenizer():
    mark = {"id": 3, "content": "<s>", "special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    around = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [3], "tokens": ["<s>"]}},
    }
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
    file = {"version": "1.0", "added_tokens": [mark], "normalizer": None, "pre_tokenizer": None, "post_processor": around, "decoder": None}
    yield "template", json.dumps(file | {"model": model}).encode() + b"\0ab<s>a"


for target in (chat_template, model_config, parquet, records, shards, tokenizer):
    folder = FUZZ / "corpus" / target.__name__
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in target():
        (folder / name).write_bytes(content)
