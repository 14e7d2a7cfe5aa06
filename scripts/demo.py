#!/usr/bin/env python3
"""What `make demo` shows after the run: the same prompts answered by every rung, and what to try next.

Reads the report that the pipeline's `report` stage made; calls kiln only to ask where it is.
"""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

NEXT = """\
Try next:
  {kiln} plan {file}                       nothing is stale
  {kiln} plan {file} --set stages.policy.learning_rate=1e-4
                                           only the policy and the report would run again
  {kiln} why {file} policy                 why a stage is fresh or stale
  {kiln} chat {file} policy                talk to it
  {kiln} show {file} report                the whole report
"""


def main():
    kiln, file = sys.argv[1], sys.argv[2]
    where = subprocess.run([kiln, "show", file, "report", "--path"], capture_output=True, text=True)
    if where.returncode != 0:
        sys.exit(f"demo: kiln does not know where the report is: {where.stderr.strip()}")
    report = json.loads((Path(where.stdout.strip()) / "report.json").read_text())
    print("\nGold reward on held-out prompts, with 95 % intervals:")
    for model in report["models"]:
        gold = model["gold"]
        print(f"  {model['name']:<7} {gold['value']:6.3f}   [{gold['low']:.3f}, {gold['high']:.3f}]")
    for sample in report["samples"][:3]:
        print("\n" + textwrap.fill(sample["prompt"], 96, initial_indent="> ", subsequent_indent="  "))
        for name, text, gold in sample["replies"]:
            text = " ".join(text.split())
            print(textwrap.fill(text, 96, initial_indent=f"  {name:<7} {gold:5.2f}  ", subsequent_indent=" " * 17))
    print("\n" + NEXT.format(kiln=kiln, file=file), end="")


if __name__ == "__main__":
    main()
