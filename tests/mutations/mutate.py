"""Does a training run refuse a program that makes views otherwise than the one that made its cache?

    python tests/mutations/mutate.py [--only WORDS] [--write]

Copies the package, makes a small cache with the copy, applies each fault of mutations.toml to it in turn, and runs the
real `train-student` on that cache in a process of its own. A fault that is refused ends with exit code 4. What the
probe refuses before the first step is run once more on a cache without a probe, where only its own views can tell.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from results import environment_line, write_section
from stage_fakes import write_idx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
REFUSED = 4
RECIPE = 'base = "deit"\nerase_prob = 0.5\nmix_group = 4\n'
SAMPLES = 256


@dataclass(frozen=True)
class Mutation:
    """One fault; see mutations.toml."""

    part: str
    name: str
    file: str
    old: str
    new: str
    pillow: bool = False


class Outcome(NamedTuple):
    """How a run ended, and the first line of what it said."""

    code: int
    said: str

    @property
    def guard(self) -> str:
        """What refused it."""
        known = {
            "probe differs": "probe",
            "replay differs": "fingerprint",
            "witness differs": "witness",
            "a view was changed": "hand-over",
        }
        found = next((name for text, name in known.items() if self.said.startswith(text)), "")
        return found if self.code == REFUSED and found else f"**exit {self.code}** {self.said}"


def read_mutations() -> list[Mutation]:
    """All faults, in order."""
    with (HERE / "mutations.toml").open("rb") as file:
        return [Mutation(**one) for one in tomllib.load(file)["mutation"]]


class Workshop:
    """A copy of the package, a cache made by it, and the same cache without a probe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = folder / "copy" / "deit_pipe"
        self.package.mkdir(parents=True)
        for name in ("pipeline", "stages", "store", "cli.py", "__init__.py", "py.typed"):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, self.package / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, self.package / name)
        write_idx(folder / "data", train=SAMPLES, val=16, side=20)
        (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
        self.cache, self.unprobed = folder / "cache", folder / "unprobed"
        self._make_cache()

    def _make_cache(self) -> None:
        words = (
            f"cache-teacher --teacher test_resnet --teacher-weights random --data {self.folder / 'data'} "
            f"--recipe {self.folder / 'recipe.toml'} --img-size 32 --epochs 1 --batch-size 32 --set block=32 "
            f"--val-split test --cache {self.cache} --workers 0 --device cpu"
        )
        made = self._run(words.split(), pillow=False)
        assert made.code == 0, made.said
        shutil.copytree(self.cache, self.unprobed)
        path = self.unprobed / "PROVENANCE.json"
        provenance = json.loads(path.read_text())
        del provenance["probe"]
        path.write_text(json.dumps(provenance))

    def train(self, mutation: Mutation | None, *, probed: bool = True) -> Outcome:
        """Train on the cache with a fault in the program, or with none."""
        cache, out = self.cache if probed else self.unprobed, self.folder / "run"
        words = (
            f"train-student --cache {cache} --out {out} --student custom:16x1x1 --epochs 1 --batch-size 32 "
            "--set smoothing=0.1 --workers 0 --device cpu"
        )
        if mutation is None:
            return self._finished(words, out, pillow=False)
        path = self.package / mutation.file
        whole = path.read_text(encoding="utf-8")
        assert whole.count(mutation.old) == 1, f"{mutation.name}: {mutation.old!r} is {whole.count(mutation.old)} times"
        path.write_text(whole.replace(mutation.old, mutation.new), encoding="utf-8")
        try:
            return self._finished(words, out, mutation.pillow)
        finally:
            path.write_text(whole, encoding="utf-8")

    def _finished(self, words: str, out: Path, pillow: bool) -> Outcome:
        try:
            return self._run(words.split(), pillow)
        finally:
            shutil.rmtree(out, ignore_errors=True)

    def _run(self, words: list[str], pillow: bool) -> Outcome:
        environment = {**os.environ, "PYTHONPATH": str(self.package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {"DEIT_PIPE_ENGINE": "pillow"} if pillow else {}
        environment.setdefault("OMP_NUM_THREADS", "1")
        command = [sys.executable, "-m", "deit_pipe.cli", *words]
        done = subprocess.run(
            command, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=600, check=False
        )
        said = done.stderr.strip().splitlines() or [""]
        errors = [line.partition(": ")[2] for line in said if line.startswith("error: ")]
        return Outcome(done.returncode, (errors or said[-1:])[0])


def measure(workshop: Workshop, mutation: Mutation) -> tuple[Outcome, Outcome | None]:
    """How a fault is refused; and, where the probe did it, how without a probe."""
    first = workshop.train(mutation)
    return first, workshop.train(mutation, probed=False) if first.guard == "probe" else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="faults whose part or name has these words")
    parser.add_argument("--write", action="store_true", help="replace this section of RESULTS.md")
    args = parser.parse_args()
    rows, refused, guards = [], 0, Counter[str]()
    chosen = [one for one in read_mutations() if args.only in f"{one.part}: {one.name}"]
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(Path(folder))
        control = workshop.train(None)
        assert control.code == 0, f"without a fault the run must end well: {control}"
        for mutation in chosen:
            first, second = measure(workshop, mutation)
            good = first.code == REFUSED and (second is None or second.code == REFUSED)
            refused += good
            guards[(second or first).guard if good else "not refused"] += 1
            rows.append(f"| {mutation.part} | {mutation.name} | {first.guard} | {second.guard if second else ''} |")
            print(rows[-1], flush=True)
    table = "\n".join(
        [
            environment_line(("numpy", "pillow", "torch", "timm")),
            "",
            "Faults applied one at a time to a copy of the package (tests/mutations/mutations.toml); each copy trains "
            f"a student from a cache of {SAMPLES} views that the unchanged package made (8 blocks of 32, recipe deit "
            "with mix groups of 4 and erasing .5), in its own process. Refused: exit 4, by the guard that is named. "
            "Without a fault the run ends with exit 0.",
            "",
            f"**{refused} of {len(chosen)} refused**, with the probe left out by: "
            + ", ".join(f"{name} {count}" for name, count in guards.most_common())
            + ".",
            "",
            "| part | fault | refused by | without the probe by |",
            "| --- | --- | --- | --- |",
            *rows,
        ]
    )
    print(table)
    if args.write:
        write_section("Mutations", table)
    return 0 if refused == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
