"""`make bench`: measures our rows of TARGETS beside their peers, in one run on one machine.

    python3 scripts/bench --kiln target/release/kiln [--only name[:variant][,..]] [--skip dvc,..]

Prints a table, writes target/bench.json with what this call measured (all samples included), and
exits with 1 when a row could not be measured. A missed target is printed, not an error.
"""

import argparse
import difflib
import shutil
import sys
from pathlib import Path

sys.dont_write_bytecode = True  # git does not ignore __pycache__ here
sys.path.append(str(Path(__file__).resolve().parents[1]))  # for what is not of the bench alone

import machine
import measure
import result
from bench import Bench
from peers import PINS, Peers
from rows import cold, cold_build, dedup, lookup, near_copy, noop, plan, policy, same_bytes, share, touch
from training import bpe_encode, bpe_train, decode_135m, ladder, memory_135m, ppo_nano, train_135m, train_nano

RUNNER = (noop, cold, same_bytes, touch, plan, near_copy, dedup, lookup, share, policy, cold_build)
WORKER = (bpe_train, bpe_encode, train_nano, train_135m, memory_135m, decode_135m, ppo_nano, ladder)
ROWS = {row.NAME: row for row in (*RUNNER, *WORKER)}
ROOT = Path(__file__).resolve().parent.parent.parent


def arguments():
    parser = argparse.ArgumentParser(prog="bench", description="Measures Kiln beside its peers.")
    parser.add_argument("--kiln", type=Path, default=ROOT / "target/release/kiln", help="the binary to measure")
    parser.add_argument("--only", default="", help=f"rows or row:variant, with commas; rows: {', '.join(ROWS)}")
    parser.add_argument("--skip", default="", help=f"peers not to measure, with commas: {', '.join(PINS)}")
    parser.add_argument("--size", type=int, default=1000, help="stages of a 1,000-stage row (smaller for trials)")
    parser.add_argument("--samples", type=int, help="samples of each contestant, instead of the row's own number")
    parser.add_argument("--store", type=Path, help="a store in which pipelines/assistant.yaml has run, for its row")
    parser.add_argument("--target", type=Path, default=ROOT / "target", help="where results and scratch files go")
    parser.add_argument("--keep", action="store_true", help="keep the scratch files, target/bench")
    return parser.parse_args()


def words(text):
    return [word.strip() for word in text.split(",") if word.strip()]


def selection(only):
    """The rows to measure, each with the variants asked for (None: the usual ones)."""
    chosen = {}
    for word in words(only):
        name, _, variant = word.partition(":")
        if name not in ROWS:
            near = difflib.get_close_matches(name, ROWS, 1)
            sys.exit(f"bench: there is no row `{name}`" + (f"; the nearest is `{near[0]}`" if near else "")
                     + f" (rows: {', '.join(ROWS)})")
        if variant and variant not in ROWS[name].VARIANTS:
            sys.exit(f"bench: row `{name}` has no variant `{variant}` (variants: {', '.join(ROWS[name].VARIANTS)})")
        if variant and chosen.get(name, set()) is not None:
            chosen.setdefault(name, set()).add(variant)
        else:
            chosen[name] = None
    return chosen or {name: None for name, row in ROWS.items() if not row.ON_REQUEST}


def main():
    args = arguments()
    chosen = selection(args.only)
    skipped = words(args.skip)
    if unknown := [name for name in skipped if name not in PINS]:
        sys.exit(f"bench: no peer is called `{unknown[0]}` (peers: {', '.join(PINS)})")
    if not args.kiln.exists():
        sys.exit(f"bench: there is no binary at {args.kiln}; `make build` makes it")
    peers = Peers(args.target.absolute() / "bench-env", skipped)
    bench = Bench(args.kiln.absolute(), peers, args.target.absolute() / "bench", args.size, args.samples,
                  args.store)
    cpu = machine.describe()
    bench.say(f"{cpu['model']}, {cpu['cores']} cores, {' '.join(cpu['flags'])}, load {cpu['load']}")
    trial = args.size != 1000 or args.samples is not None
    results = []
    try:
        for name, variants in chosen.items():
            bench.variants = variants
            try:
                peers.wanted(*ROWS[name].PEERS)
                bench.say(f"{name} ..")
                for found in ROWS[name].measure_row(bench):
                    results.append(found)
            except measure.Failed as error:
                bench.problem(f"{name}: {error}")
            # After each row, so that an interrupted run leaves what it has.
            result.write(args.target / "bench.json", results, cpu, args.size, trial)
    finally:
        if not args.keep:
            shutil.rmtree(bench.folder, ignore_errors=True)
    print(result.table(results, trial))
    if trial:
        print(f"  a trial of size {args.size}, {args.samples or 'the usual number of'} samples: no target is judged")
    for problem in bench.problems:
        print(f"problem: {problem.splitlines()[0]}")
    sys.exit(1 if bench.problems else 0)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)  # target/bench.json holds the rows that were done
