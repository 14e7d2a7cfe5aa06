#!/usr/bin/env python3
"""Writes datasets with the libraries that people use, reads them with Kiln, and demands the same rows.

Purpose: every container and shape of `kiln_formats::records` against `datasets`, pandas and pyarrow as writers: JSON lines, JSON
as records, columns, lists, table and data, CSV and TSV with every quoting, Parquet with every codec, page version, encoding and
row group size, each also with gzip (several members) and zstd (several frames).
Invariant: the rows are made from a fixed seed, so a failure repeats.
Usage: records.py PROGRAM, where PROGRAM is `target/debug/examples/records`. A virtual environment with pinned packages is made
under target/ on the first call (network: PyPI). `records.py --fixtures` writes those of formats/src/records/tests/data/ anew.
"""
import csv
import gzip
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True  # git does not ignore __pycache__ here
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import pinned  # noqa: E402

PINS = ["datasets==4.8.5", "pandas==3.1.1", "pyarrow==26.0.1", "zstandard==0.25.0"]

WORDS = "the a bird sings over naïve 日本語 😀 \" ' , ; \t \n \r\n \\ {} [] null N/A NaN 1e5 true \u2028 \u00a0 é ß # //".split(" ")


def text(draw, most=12):
    """Text that says something, with whatever a container may stumble over."""
    words = draw.choices(WORDS, k=draw.randint(0, most)) + ["word"]
    draw.shuffle(words)
    return " ".join(words)


def turns(draw, system=True):
    messages = [{"role": "system", "content": text(draw)}] if system and draw.random() < 0.4 else []
    for _ in range(draw.randint(1, 3)):
        messages += [{"role": "user", "content": text(draw)}, {"role": "assistant", "content": text(draw)}]
    return messages


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


# Each shape: a row as it is published, and the example that it is.

def a_text(draw):
    row = {"text": text(draw, 40)}
    return row, row


def a_messages(draw):
    row = {"messages": turns(draw)}
    return row, row


def a_conversations(draw):
    messages = turns(draw)
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return ({"conversations": [{"from": names[m["role"]], "value": m["content"]} for m in messages]},
            {"messages": messages})


def a_prompt_completion(draw):
    prompt, completion = text(draw), text(draw)
    return ({"prompt": prompt, "completion": completion},
            {"prompt": [user(prompt)], "completion": [assistant(completion)]})


def a_conversational_completion(draw):
    messages = turns(draw)
    row = {"prompt": messages[:-1], "completion": messages[-1:]}
    return row, row


def a_demonstration(draw):
    row, example = a_prompt_completion(draw)
    return {"prompt": row["prompt"], "response": row["completion"]}, example


def an_instruction(draw):
    instruction, given, output = text(draw), draw.choice(["", text(draw)]), text(draw)
    asked = f"{instruction}\n\n{given}" if given else instruction
    return ({"instruction": instruction, "input": given, "output": output, "text": "### Instruction: .."},
            {"prompt": [user(asked)], "completion": [assistant(output)]})


def a_preference(draw):
    prompt, chosen, rejected = text(draw), text(draw), text(draw)
    return ({"prompt": prompt, "chosen": chosen, "rejected": rejected},
            {"prompt": [user(prompt)], "chosen": [assistant(chosen)], "rejected": [assistant(rejected)]})


def extract_prompt(example):
    """TRL's extract_prompt, for lists of messages."""
    for idx in range(min(len(example["chosen"]), len(example["rejected"]))):
        if example["chosen"][idx] != example["rejected"][idx]:
            break
    return {"prompt": example["chosen"][:idx], "chosen": example["chosen"][idx:], "rejected": example["rejected"][idx:]}


def an_implicit_preference(draw):
    messages = turns(draw)
    row = {"chosen": messages, "rejected": messages[:-1] + [assistant(text(draw) + " no")]}
    return row, extract_prompt(row)


def a_binarized_preference(draw):
    row, example = an_implicit_preference(draw)
    scores = {"score_chosen": draw.randint(2, 20) / 2, "score_rejected": 0.5}
    asked = next(m["content"] for m in row["chosen"] if m["role"] == "user")
    return {"prompt": asked, "prompt_id": "x", **row, "messages": row["chosen"], **scores}, {**example, **scores}


def a_transcript(draw):
    def said(messages):
        names = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: "}
        return "".join(names[m["role"]] + m["content"] for m in messages)
    strip = lambda messages: [{**m, "content": m["content"].strip()} for m in messages]
    messages = turns(draw, system=False)
    chosen, rejected = messages, messages[:-1] + [assistant(text(draw) + " no")]
    return ({"chosen": said(chosen), "rejected": said(rejected)},
            extract_prompt({"chosen": strip(chosen), "rejected": strip(rejected)}))


def an_ultrafeedback(draw):
    instruction, completions, answers = text(draw), [], []
    for _ in range(4):
        score, ratings = draw.choice([None, 2.5, 7.0]), [draw.choice(["3", "4", "5", "N/A"]), "4"]
        aspects = {name: {"Rating": rating, "Rationale": text(draw)} for name, rating in zip(["honesty", "truthfulness"], ratings)}
        response = text(draw)
        completions.append({"annotations": aspects, "model": "m", "overall_score": score, "response": response})
        numbers = [float(rating) for rating in ratings if rating != "N/A"]
        answers.append({"response": response, "score": score if score is not None else sum(numbers) / len(numbers)})
    return ({"source": "s", "instruction": instruction, "models": ["m"], "completions": completions},
            {"prompt": [user(instruction)], "completions": answers})


def a_ranking(draw):
    prompt = text(draw)
    completions = [{"text": text(draw), "finished": draw.random() < 0.5, "tokens": [draw.randint(0, 9), 7]} for _ in range(3)]
    rest = {"ranks": [2, 1, 2], "annotator": "ann", "seconds": 1.5, "flags": ["unsure"]}
    return {"prompt": prompt, "completions": completions, **rest}, {"prompt": prompt, "completions": completions, **rest}


SHAPES = {
    "text": [a_text], "messages": [a_messages], "conversations": [a_conversations],
    "prompt-completion": [a_prompt_completion, a_conversational_completion, a_demonstration],
    "instruction": [an_instruction],
    "preference": [a_preference, an_implicit_preference, a_binarized_preference],
    "hh-transcripts": [a_transcript], "ultrafeedback": [an_ultrafeedback], "rankings": [a_ranking],
}


# Each container: a name for the file, and what writes it. A writer of flat rows takes strings and numbers alone.

def parquet_writers():
    import pyarrow as pa
    import pyarrow.parquet as pq

    def writer(**options):
        return lambda rows, path: pq.write_table(pa.Table.from_pylist(rows), path, **options)

    yield "datasets", lambda rows, path: data(rows).to_parquet(path)
    yield "pandas", lambda rows, path: frame(rows).to_parquet(path)
    yield "one-row-groups", writer(row_group_size=1)
    yield "dictionary-then-plain", writer(dictionary_pagesize_limit=256, data_page_size=128, write_batch_size=2)
    yield "plain", writer(use_dictionary=False, data_page_size=64, write_batch_size=1)
    yield "old-lists", writer(use_compliant_nested_type=False, version="1.0")
    yield "no-statistics", writer(write_statistics=False, store_schema=False, write_page_index=True)
    for codec in ["none", "snappy", "gzip", "brotli", "lz4", "zstd"]:
        for version in ["1.0", "2.0"]:
            yield f"{codec}-pages-{version}", writer(compression=codec, data_page_version=version, data_page_size=200)
    for encoding in ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"]:
        for version in ["1.0", "2.0"]:
            yield f"{encoding.lower()}-pages-{version}", lambda rows, path, e=encoding, v=version: pq.write_table(
                pa.Table.from_pylist(rows), path, use_dictionary=False, column_encoding=encodings(rows, e), data_page_version=v)


def encodings(rows, of_strings):
    """The encoding of each column of Parquet, at any depth."""
    import pyarrow as pa

    def walk(kind, path):
        if pa.types.is_struct(kind):
            for field in kind:
                yield from walk(field.type, f"{path}.{field.name}")
        elif pa.types.is_list(kind):
            yield from walk(kind.value_type, f"{path}.list.element")
        elif pa.types.is_string(kind):
            yield path, of_strings
        elif pa.types.is_integer(kind):
            yield path, "DELTA_BINARY_PACKED"
        elif pa.types.is_floating(kind):
            yield path, "BYTE_STREAM_SPLIT"
    return dict(pair for field in pa.Table.from_pylist(rows).schema for pair in walk(field.type, field.name))


def data(rows):
    import datasets
    datasets.disable_progress_bars()
    return datasets.Dataset.from_list(rows)


def frame(rows):
    import pandas
    return pandas.DataFrame(rows)


def dump(make, **options):
    return lambda rows, path: Path(path).write_text(json.dumps(make(rows), **options), encoding="utf-8", newline="")


def lists(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


def lines(rows, path, start="", end="\n", **options):
    Path(path).write_text(start + end.join(json.dumps(row, **options) for row in rows) + end, encoding="utf-8", newline="")


def json_writers():
    yield "datasets.jsonl", lambda rows, path: data(rows).to_json(path)
    yield "datasets.json", lambda rows, path: data(rows).to_json(path)  # JSON lines, whatever the name
    yield "datasets-array.json", lambda rows, path: data(rows).to_json(path, lines=False)
    yield "pandas.ndjson", lambda rows, path: frame(rows).to_json(path, orient="records", lines=True)
    yield "pandas-records.json", lambda rows, path: frame(rows).to_json(path, orient="records", force_ascii=False)
    yield "pandas-indented.json", lambda rows, path: frame(rows).to_json(path, orient="records", indent=2)
    yield "pandas-columns.json", lambda rows, path: frame(rows).to_json(path)
    yield "pandas-table.json", lambda rows, path: frame(rows).to_json(path, orient="table")
    yield "lists.json", dump(lists)
    yield "lists-indented.json", dump(lists, indent=1, ensure_ascii=False)
    yield "data.json", dump(lambda rows: {"version": "1", "data": rows, "more": {"a": [1]}})
    yield "mark.jsonl", lambda rows, path: lines(rows, path, "\ufeff\n\n", "\r\n", ensure_ascii=False)
    yield "blank.jsonl", lambda rows, path: lines(rows, path, "", "\n \n\n")
    yield "unknown-ending", lambda rows, path: lines(rows, path)


def csv_writers():
    yield "datasets.csv", lambda rows, path: data(rows).to_csv(path)
    yield "pandas.csv", lambda rows, path: frame(rows).to_csv(path)  # with its index
    for name, quoting in [("all", csv.QUOTE_ALL), ("minimal", csv.QUOTE_MINIMAL), ("nonnumeric", csv.QUOTE_NONNUMERIC)]:
        yield f"{name}.csv", lambda rows, path, q=quoting: frame(rows).to_csv(path, index=False, quoting=q, encoding="utf-8-sig")
        yield f"{name}.tsv", lambda rows, path, q=quoting: frame(rows).to_csv(path, index=False, quoting=q, sep="\t", lineterminator="\r\n")


def lists_as_json(rows):
    """The rows as a CSV has them: a list is written as JSON."""
    return [{name: json.dumps(value) if isinstance(value, list) else value for name, value in row.items()} for row in rows]


def compressed(path):
    """The file with gzip and with zstd, each in two parts."""
    import zstandard
    content = Path(path).read_bytes()
    half = len(content) // 2
    parts = [content[:half], content[half:]]
    for ending, pack in [("gz", gzip.compress), ("zst", zstandard.ZstdCompressor().compress)]:
        packed = Path(f"{path}.{ending}")
        packed.write_bytes(b"".join(pack(part) for part in parts))
        yield packed


def read(program, path, *options):
    done = subprocess.run([program, path, *options], stdout=subprocess.PIPE, check=True)
    first, *rest = [json.loads(line) for line in done.stdout.decode().split("\n")[:-1]]
    return first, rest


def without_nulls(value):
    if isinstance(value, dict):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def check(program, path, shape, expected):
    first, found = read(program, path, *(["--shape", shape] if shape == "prompts" else []))
    if first.get("shape") != shape:
        sys.exit(f"FAILED {path}: {first}, expected the shape {shape}")
    if len(found) != len(expected):
        sys.exit(f"FAILED {path}: {len(found)} rows, expected {len(expected)}")
    for place, (ours, theirs) in enumerate(zip(found, expected)):
        if ours != without_nulls(theirs):
            sys.exit(f"FAILED {path}: row {place} is\n{ours}\nand was written as\n{theirs}")
    inspected, _ = read(program, path, "--inspect", "yes")
    if inspected["rows"] != len(expected):
        sys.exit(f"FAILED {path}: inspect counts {inspected['rows']} rows, expected {len(expected)}")
    return len(expected)


def main(program):
    files = rows_read = 0
    for shape, makers in SHAPES.items():
        for maker in makers:
            draw = random.Random(f"{shape} {maker.__name__}")
            rows, expected = map(list, zip(*[maker(draw) for _ in range(60)]))
            is_flat = all(not isinstance(value, (list, dict)) for row in rows for value in row.values())
            can_be_csv = is_flat or shape in ("messages", "conversations", "ultrafeedback", "rankings")
            writers = [*json_writers(), *((f"{name}.parquet", write) for name, write in parquet_writers())]
            if can_be_csv:
                writers += [(name, lambda rows, path, w=write: w(lists_as_json(rows), path)) for name, write in csv_writers()]
            with tempfile.TemporaryDirectory() as folder:
                for name, write in writers:
                    path = Path(folder) / name
                    write(rows, str(path))
                    for file in [path, *compressed(path)]:
                        rows_read += check(program, str(file), shape, expected)
                        files += 1
            print(f"{maker.__name__}: {len(writers)} containers, plain, gzip and zstd", flush=True)
    print(f"{files} files, {rows_read} rows: all the same")


def fixtures(folder):
    """A few rows in each container, as small as they get."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import zstandard
    folder.mkdir(exist_ok=True)
    small = {"write_statistics": False, "store_schema": False}
    texts = [{"text": "the sün"}, {"text": "a, \"b\"\nc"}, {"text": "the end " * 4}]
    for codec in ["none", "snappy", "gzip", "brotli", "lz4", "zstd"]:
        pq.write_table(pa.Table.from_pylist(texts), folder / f"text-{codec}.parquet", compression=codec, **small)
    frame(texts).to_csv(folder / "text.csv")
    frame(texts).to_csv(folder / "text.tsv", index=False, sep="\t", quoting=csv.QUOTE_ALL, encoding="utf-8-sig")
    frame(texts).to_json(folder / "text-columns.json")
    frame(texts).to_json(folder / "text-records.json", orient="records", indent=1)
    data(texts).to_json(folder / "text.jsonl")
    content = (folder / "text.jsonl").read_bytes()
    halves = [content[:20], content[20:]]
    (folder / "text.jsonl.gz").write_bytes(b"".join(gzip.compress(half, mtime=0) for half in halves))
    (folder / "text.jsonl.zst").write_bytes(b"".join(zstandard.ZstdCompressor().compress(half) for half in halves))
    chats = [{"messages": [user("hi"), assistant("hello")], "n": 1}, {"messages": [user("2+2?"), assistant("4")] * 2, "n": 2}]
    pq.write_table(pa.Table.from_pylist(chats), folder / "messages.parquet", compression="zstd", data_page_version="2.0", **small)
    rated = [{"instruction": "say it", "completions": [{"response": "yes", "overall_score": 7.5}, {"response": "no", "overall_score": 2.0}]}]
    data(rated).to_json(folder / "ultrafeedback.jsonl")
    pairs = [{"prompt": "p", "chosen": f"good {i}", "rejected": f"good and bad {i}", "score_chosen": i + 0.5, "score_rejected": i} for i in range(3)]
    pq.write_table(pa.Table.from_pylist(pairs), folder / "preference-delta.parquet", compression="none", use_dictionary=False,
                   column_encoding=encodings(pairs, "DELTA_BYTE_ARRAY"), **small)
    pq.write_table(pa.Table.from_pylist(pairs), folder / "preference-lengths.parquet", compression="gzip", use_dictionary=False,
                   column_encoding=encodings(pairs, "DELTA_LENGTH_BYTE_ARRAY"), row_group_size=2, **small)
    print(sum(file.stat().st_size for file in folder.iterdir()), "bytes")


if __name__ == "__main__":
    pinned.enter("records-python", PINS)
    if sys.argv[1] == "--fixtures":
        fixtures(ROOT / "formats" / "src" / "records" / "tests" / "data")
    else:
        main(sys.argv[1])
