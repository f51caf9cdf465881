"""The golden views: 200 fingerprints of views of 20 small images, fixed for ever (until VIEWS_VERSION changes).

Check them against the libraries installed here; this needs only NumPy, Pillow and the package itself:

    python -m venv scratch && scratch/bin/pip install numpy "pillow==11.*"
    scratch/bin/pip install --no-deps .
    scratch/bin/python tests/golden/regenerate_views.py --check

Without --check the file is written anew. Do that only together with a higher VIEWS_VERSION and a [cache] line in the
changelog: every cache made before is refused from then on.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.cells import render_cells
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.provenance import library_versions
from deit_pipe.pipeline.recipe import PRESETS, VIEWS_VERSION
from deit_pipe.pipeline.samples import KeyList, SampleTable

HERE = Path(__file__).parent
FILE = HERE / "views_v1.json"
SIZE = 48
SEED = 20_241_121
EPOCHS = {"deit": 5, "deit3": 2, "basic": 1, "small": 1, "eval": 1}


class GoldenSamples(SampleTable):
    """The 20 images beside this file."""

    def __init__(self) -> None:
        self.files = sorted((HERE / "views").iterdir())
        super().__init__("golden", KeyList(file.name for file in self.files), np.zeros(20, np.int64), ["only"])

    def read(self, sample: int) -> bytes:
        return self.files[sample].read_bytes()

    def measure_bytes(self) -> NDArray[np.int64]:
        return np.asarray([file.stat().st_size for file in self.files], dtype=np.int64)


def make_fingerprints() -> dict[str, list[list[str]]]:
    """Return per recipe and epoch the fingerprints of all slots, as eight hexadecimal digits."""
    table = GoldenSamples()
    found = {}
    for name, epochs in EPOCHS.items():
        recipe = PRESETS[name]
        plan = ViewPlan.for_recipe(len(table), recipe, SEED)
        cells = [render_cells(table, recipe, plan, Cells(e, np.arange(len(table))), SIZE) for e in range(epochs)]
        found[name] = [[f"{value:08x}" for value in epoch.fingerprints.tolist()] for epoch in cells]
    return found


def differences() -> list[str]:
    """Return one line for each view that differs from the golden file."""
    golden = json.loads(FILE.read_text())
    lines = []
    if golden["views_version"] != VIEWS_VERSION:
        lines.append(f"views version {golden['views_version']} in the file, {VIEWS_VERSION} in the code")
    keys = GoldenSamples().keys
    for name, epochs in make_fingerprints().items():
        plan = ViewPlan.for_recipe(len(keys), PRESETS[name], SEED)
        for epoch, prints in enumerate(epochs):
            for slot, (ours, fixed) in enumerate(zip(prints, golden["fingerprints"][name][epoch], strict=True)):
                if ours != fixed:
                    image = keys[int(plan.sample_at(epoch)[slot])]
                    lines.append(f"{name} epoch {epoch} slot {slot} ({image}): golden {fixed}, here {ours}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if not parser.parse_args().check:
        content = {
            "views_version": VIEWS_VERSION,
            "size": SIZE,
            "seed": SEED,
            "fingerprints": make_fingerprints(),
        }
        FILE.write_text(json.dumps(content, indent=1) + "\n")
        print(f"wrote {FILE}")
        return 0
    versions = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    lines = differences()
    print("\n".join([*lines, f"{len(lines)} of 200 golden views differ with {versions}"]))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
