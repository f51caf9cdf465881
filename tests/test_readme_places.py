"""Each measured sentence of the README, word for word, made from the very places of the results that it tells.

`test_readme_figures.py` sees a figure that no result has; this sees one that another result happens to have.
"""

import csv
import re
from pathlib import Path

import pytest
from mutations.mutate import read_mutations

from deit_pipe.pipeline.decode import MAX_PIXELS
from deit_pipe.pipeline.recipe import load_recipe
from deit_pipe.stages.measuring.planned_cost import planned_epochs
from deit_pipe.stages.quickstart import IMAGES, LABELS
from deit_pipe.stages.teaching.published import IMAGENET_TOP1
from deit_pipe.stages.training.settings import ENOUGH_STEPS

ROOT = Path(__file__).parent.parent
RESULTS = (ROOT / "tests" / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
FLOAT = r"[-+]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?"


def told(text: str) -> str:
    """Words and figures, however the lines are broken."""
    return " ".join(text.split())


README = told((ROOT / "README.md").read_text(encoding="utf-8"))


def section(name: str) -> str:
    found: str = RESULTS.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert found, name
    return found


def cell(name: str, row: str, column: int | str) -> list[float]:
    """Numbers in a cell of a section: of the first row with these words, by the column's heading or its place."""
    lines = section(name).splitlines()
    (at, *_) = [number for number, line in enumerate(lines) if line.startswith("|") and row in line]
    cells = [one.strip() for one in lines[at].split("|")]
    if isinstance(column, str):
        head = max(number for number in range(at) if lines[number].startswith("| --") or "-: |" in lines[number]) - 1
        column = [one.strip() for one in lines[head].split("|")].index(column)
    return [float(one.replace(",", "")) for one in re.findall(FLOAT, cells[column])]


def text(name: str, pattern: str) -> list[float]:
    """Numbers that a pattern finds in the text of a section."""
    found = re.search(pattern, section(name))
    assert found is not None, (name, pattern)
    return [float(one.replace(",", "")) for one in found.groups()]


def reuse_runs() -> list[float]:
    """Fewest and most cached epochs, and seeds, of the runs of 30 epochs."""
    with (ROOT / "tests" / "benchmarks" / "reuse.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["data"] == "digits" and row["epochs"] == "30"]
    cached = [int(row["cached"]) for row in rows]
    return [min(cached), max(cached), len({row["seed"] for row in rows})]


def reuse(cached: int, kind: str) -> float:
    """Mean difference in points to as many views as are trained, from the runs themselves."""
    with (ROOT / "tests" / "benchmarks" / "reuse.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["data"] == "digits" and row["epochs"] == "30"]
    means = [
        sum(fused) / len(fused)
        for number in (cached, 30)
        if (fused := [float(r["fused"]) for r in rows if (r["kind"], r["cached"]) == (kind, str(number))])
    ]
    return 100 * (means[0] - means[1])


VIEWS, BYTES, SPEED = "views", "Store: bytes, speed", "Store: bytes, speed"
ALL_BYTES, FASHION, REUSE = (
    "Store: bytes and rounding of every format",
    "Fashion-MNIST",
    "Reuse: how many cached epochs",
)
X = "x timm (median of rounds)"
NATIVE = (
    "one JPEG a view: native, AVX2",
    "as trained, 3 repeats a decode: native, AVX2",
    "from raw pixels: native, AVX2",
)
PILLOW = (
    "one JPEG a view: engine Pillow |",
    "as trained, 3 repeats a decode: engine Pillow",
    "from raw pixels: engine P",
)
CLAIMS = [
    (
        "Students of 30 epochs on the digits, trained from {} to {} cached ones (`bench_reuse.py`, {} seeds; bars",
        reuse_runs(),
    ),
    ("against the same step without targets (224 px, CPU) | {:.2f} x |", cell("training", "deit_tiny", "cached/none")),
    (
        "| {:.2f} x quicker, {:.2f} of what leaving the teacher out can give",
        cell("training", "deit_tiny", "online/cached") + cell("training", "deit_tiny", "share"),
    ),
    ("one at a time: refused | {:.0f} of {:.0f} |", text("Mutations", r"\*\*(\d+) of (\d+) refused")),
    ("{:.0f} of {:.0f} faults put into draws", text("Mutations", r"\*\*(\d+) of (\d+) refused")),
    ("{0:.0f} of {0:.0f} faults put into draws", [float(len(read_mutations()))]),
    (
        "native engine (AVX2): {:.1f} x from JPEG, {:.1f} x as trained (3 repeats a decode), {:.1f} x from raw pixels; "
        "with Pillow {:.1f}, {:.1f}, {:.1f} |",
        [cell(VIEWS, row, X)[0] for row in (*NATIVE, *PILLOW)],
    ),
    ("share of a native view | {:.1f} % |", cell(VIEWS, "draw and fingerprint together", "share")),
    (
        "labels only / top-10 / dense, each plus 4 for the fingerprint | {:.2f} / {:.1f} / {:,.0f} |",
        [cell(BYTES, f"| {kind} |", "without fingerprint")[0] for kind in ("none", "topk:10", "dense")],
    ),
    (
        "every byte checked: labels / top-10 / dense | {:.2f} / {:.2f} / {:.2f} ms |",
        [
            cell(BYTES, f"| {kind} | {views}", "contiguous")[0]
            for kind, views in (("none", 2), ("topk:10", 2), ("dense", 6))
        ],
    ),
    (
        "class folders / tar / packed / Parquet in row groups of 100 | {:.3f} / {:.3f} / {:.3f} / {:.3f} ms |",
        [
            cell("Sources at random", f"| {kind} |", 3)[0]
            for kind in ("class folders", "tar, 10 shards", "packed", "Parquet, 4 files, row groups of 100")
        ],
    ),
    (
        "on a ledger of {:,.0f} blocks, whole process | {:.0f} ms |",
        cell("inspect-cache", "facts and outliers", 1) + cell("inspect-cache", "on it, whole process", "median"),
    ),
    (
        "{:.0f} kills of jobs that share a cache, 1 to {:.0f} at once: committed blocks lost or rewritten, "
        "differences | {:.0f}, {:.0f} |",
        [cell("Store: killed jobs, a directory", "| 204 |", place)[0] for place in (1, 3, 8, 9)],
    ),
    (
        "weights {:.0e} apart after {:.0f} steps (another seed: {:.1f})",
        text(
            "Equality",
            r"never rounded \| weights (\S+) apart \(relative\) after (\d+) steps \|\n.*another seed.* weights (\S+) ",
        ),
    ),
    (
        "teacher {:.1f} %) the fused heads reach {:.1f} ± {:.1f} % with hard and {:.1f} ± {:.1f} % with soft "
        "distillation; the student without reaches {:.1f} ± {:.1f} %",
        [
            *text(FASHION, r"from scratch: (\S+) %"),
            *cell(FASHION, "| hard |", "fused"),
            *cell(FASHION, "| soft |", "fused"),
            *cell(FASHION, "| none |", "class head"),
        ],
    ),
    (
        "hard and soft, by {:+.2f} and {:+.2f} points where each is shown 3 times, by {:+.2f} and {:+.2f} at 10 times, "
        "by {:+.2f} and {:+.2f} at 30. Three seeds are few: every 95 % interval",
        [reuse(cached, kind) for cached in (10, 3, 1) for kind in ("hard", "soft")],
    ),
    (
        "reached {:.1f} % in 30 epochs where the usual preset reached {:.1f} %, and {:.1f} % against {:.1f} % in 60.",
        [
            cell(REUSE, f"| digits | {preset}", epochs)[0]
            for epochs in ("30 epochs", "60 epochs")
            for preset in ("patient", "small")
        ],
    ),
    (
        "use `--logits dense8` ({:.0f} bytes a view at 1,000 classes, gradients within .0002 of dense's",
        cell(ALL_BYTES, "| dense8 |", "without fingerprint"),
    ),
    ("or `dense` ({:,.0f}).", cell(ALL_BYTES, "| dense |", "without fingerprint")),
    (
        "its {:.0f} x 1,281,167 views. A cache of 100 epochs needs a third",
        [planned_epochs(1, 1000, 100, 1.0).reuse * 100],
    ),
    ("Of the {:,} training digits {} keep their label", [IMAGES, LABELS]),
    ("fewer than {:,} steps, preset `few`", [ENOUGH_STEPS]),
    ("stay within {} slots", [load_recipe("deit").window]),
    ("images above {:.0f} megapixels", [MAX_PIXELS / 1e6]),
    ("compares with cover {} tags", [len(IMAGENET_TOP1)]),
]


@pytest.mark.parametrize(("sentence", "figures"), CLAIMS, ids=lambda value: str(value)[:40])
def test_the_readme_tells_what_its_place_in_the_results_says(sentence: str, figures: list[float]) -> None:
    assert sentence.format(*figures).replace("e-0", "e-") in README


def test_gradients_of_dense8_are_as_near_as_is_said() -> None:
    """Within .0002 of dense's in cosine, at both temperatures, the mean and the worst of them."""
    worst = min(
        value for column in ("gradient cosine tau 1", "tau 3") for value in cell(ALL_BYTES, "| dense8 |", column)
    )
    assert 0.0001 < 1 - worst <= 0.0002


def test_the_torches_and_threads_that_gave_no_alarm_are_those_named() -> None:
    rows = re.findall(r"\| (2\.\d+)\S* \| (2\.\d+)\S* \| (\d) \| (\d+) of (\d+) \|", section("Proof: other versions"))
    assert {version for row in rows for version in row[:2]} == {"2.13", "2.15"}
    assert {row[2] for row in rows} == {"1", "2"}
    assert all(row[3] == row[4] for row in rows)
    assert "Torch 2.13 and 2.15 with 1 and 2 threads gave no false alarm" in README
