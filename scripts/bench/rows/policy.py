"""policy-vs-sft: the bytes that the demo's policy takes on a remote that has its SFT model, beside its plain bytes.

All objects that come with the policy count. `after`: the remote has everything else when the policy is sent, as in a
run that has the remote. `push`: one `kiln push` of everything, less one of everything but the policy. `--store
FOLDER` names a store in which `pipelines/assistant.yaml` has run, such as `artifacts`; without it the row runs the
pipeline, which takes minutes. It is measured only when it is asked for by name.
"""

import shutil
from pathlib import Path

import graphs
import measure
import shared
import writers
from result import AtLeast, Result

NAME = "policy-vs-sft"
VARIANTS = ("after", "push")
PEERS = ()
ON_REQUEST = True
ROOT = Path(__file__).resolve().parents[3]
FILE = "pipelines/assistant.yaml"


def store(bench, here):
    """The words that name the store in which the policy is."""
    if not bench.store:
        measure.run(bench.our("run", ["run", FILE, "policy", "--device", "cpu"], here, limit=3600))
        return []
    words = ["--store", str(bench.store.absolute())]
    planned = shared.answer(bench.our("plan", ["plan", FILE, "policy", "--json", *words], here))
    if stale := [stage["name"] for stage in planned["stages"] if stage["state"] != "cached"]:
        raise measure.Failed(f"{bench.store} does not have {', '.join(stale)}; `make demo` runs {FILE} in artifacts/")
    return words


def measure_row(bench):
    folder = bench.fresh("policy")
    here = folder / "here"
    writers.kiln(here, graphs.NOTHING)
    shutil.copytree(ROOT / "pipelines", here / "pipelines")
    where = store(bench, here)
    path = measure.run(bench.our("show", ["show", FILE, "policy", "--path", *where], here)).text.strip()
    plain = shared.bytes_below(Path(path))
    # Everything but the policy, which is made from the reward model and the SFT model.
    rest = shared.pushed(bench, here, folder / "after", FILE, "reward", *where)
    stored = {"after": shared.pushed(bench, here, folder / "after", FILE, "policy", *where),
              "push": shared.pushed(bench, here, folder / "push", FILE, "policy", *where) - rest}
    for variant, count in stored.items():
        if bench.wants(variant):
            yield Result(NAME, variant, count, plain, "a plain copy", unit="MB", target=AtLeast(1 / 0.75),
                         note=f"{100 * count / plain:.1f} % of the plain bytes")
