#!/usr/bin/env python3
"""Runs stages as jobs of a real Slurm on this machine.

Purpose: start a cluster for each scenario of `jobs/` and try it there.
Usage: slurm.py KILN [NAME..]. Without Slurm it says so and ends well. Names are those of the functions; without one the
quick ones run.
Must not know: what a scenario tries.
"""

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True  # git does not ignore __pycache__ here
sys.path.insert(0, str(ROOT / "scripts"))
import pinned  # noqa: E402

import cluster as clusters  # noqa: E402
import remotes  # noqa: E402
from jobs import days, ends, runners, sites, stores  # noqa: E402
from jobs.world import World  # noqa: E402

QUICK = [
    days.same_digests, days.a_day, days.attach_and_cancel, days.interrupted, days.asked_on_a_terminal, days.trial,
    days.jobs_at_a_time, days.changed_meanwhile, stores.a_remote_that_is_gone, ends.out_of_memory, ends.cancelled_by_hand, ends.forced, ends.stopped_by_a_signal,
    ends.ended_while_nobody_was_there, ends.another_key, stores.two_stores, stores.a_checkpoint_from_elsewhere, stores.secrets_of_the_node,
    stores.kept_for_jobs, stores.a_lost_input, runners.two_runners, runners.a_silent_controller, sites.words_of_sites,
    sites.odd_paths, sites.a_login_node, sites.a_prologue_that_fails, sites.jobs_that_cannot_be_cancelled,
    sites.a_controller_that_hangs, sites.short_and_large_stages,
    sites.one_empty_answer, sites.another_program,
]
LONG = [ends.over_its_time, ends.a_node_that_dies, ends.preempted, runners.killed_runners, runners.two_thousand]
KINDS = {one.__name__: one for one in QUICK + LONG}
CORES = {"two_thousand": 16}


def main():
    program, *wanted = sys.argv[1:]
    lacks = clusters.missing()
    if lacks:
        print(f"Slurm is not here ({', '.join(lacks)}), so nothing was run on it; `apt-get install slurm-wlm munge` installs it",
              flush=True)
        return
    # The server of S3.
    pinned.enter("servers-venv", remotes.PINS)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name in list(KINDS) if wanted == ["all"] else wanted or [one.__name__ for one in QUICK]:
            began = time.monotonic()
            (folder / name).mkdir()
            with clusters.slurm(folder / name / "slurm", CORES.get(name, 2)) as cluster:
                KINDS[name](World(str(Path(program).resolve()), folder / name, cluster))
            print(f"slurm: {name.replace('_', ' ')}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
