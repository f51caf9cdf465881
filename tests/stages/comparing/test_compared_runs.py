"""Lines, columns and refusals of a comparison, from run folders written here."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from deit_pipe.cli import main
from deit_pipe.stages.comparing.compared_runs import compare, differing, images_words
from deit_pipe.stages.comparing.tables import csv_text, table_text
from deit_pipe.stages.console.errors import Mismatch, Missing, UsageProblem
from deit_pipe.stages.pages.compare_page import write_compare_page


def write_run(folder: Path, seed: int, top1: float, **changed: Any) -> str:
    """A finished run with one accuracy for every head."""
    config = {
        "out": str(folder),
        "data": "digits",
        "cache": "c",
        "student": "custom",
        "loss": "hard",
        "tau": 3.0,
        "teacher": "a",
        "epochs": 3,
        "seed": seed,
        "cached_epochs": 1,
        "data_choice": {"subset_seed": 0},
    }
    config |= {key: value for key, value in changed.items() if key in config or key == "lr"}
    heads = {head: {"top1": top1, "top5": None} for head in ("class", "dist", "fused")}
    selected = changed.get("selected", "val")
    result = {
        "loss": config["loss"],
        "answer": "fused" if config["loss"] != "none" else "class",
        "selected": selected,
        selected: heads,
        "images": changed.get("images", 360),
        "steps": 9,
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "result.json").write_text(json.dumps(result))
    return str(folder)


def chosen(folder: Path, seed: int, loss: str, **choice: Any) -> str:
    """A finished run whose cache was made with this choice of images."""
    return write_run(folder, seed, 0.7, loss=loss, data_choice={"subset_seed": 0} | choice)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"val_data": "/one"}, {"val_data": "/two"}),
        ({"val_data": "/one"}, {}),
        ({"val_split": "dev"}, {"val_split": "test"}),
        ({"val_fraction": 0.1}, {"val_fraction": 0.0}),
        ({"val_fraction": 0.1, "subset_seed": 1}, {"val_fraction": 0.1, "subset_seed": 2}),
    ],
)
def test_as_many_images_of_the_same_data_need_not_be_the_same(ours: Any, theirs: Any, tmp_path: Path) -> None:
    runs = [chosen(tmp_path / "ours", 0, "hard", **ours), chosen(tmp_path / "theirs", 0, "soft", **theirs)]
    with pytest.raises(Mismatch, match="these runs were not measured on the same images"):
        compare(runs)


def test_images_held_out_anew_for_each_subset_seed_are_compared_in_pairs(tmp_path: Path) -> None:
    runs = [
        chosen(tmp_path / f"{loss}-{seed}", seed, loss, val_fraction=0.1, subset_seed=seed)
        for loss in ("hard", "soft")
        for seed in (0, 1)
    ]
    lines = compare(runs)
    assert lines[1].difference is not None
    assert lines[1].difference.pairs == 2
    assert "images of digits, 10% held out" in table_text(lines)
    with pytest.raises(Mismatch, match="other images were held out for other subset seeds"):
        compare(runs[:3])


def three_losses(root: Path) -> list[str]:
    scores = {"none": (0.6, 0.62, 0.61), "hard": (0.7, 0.75, 0.71), "soft": (0.8, 0.79, 0.84)}
    return [
        write_run(root / f"{loss}-{seed}", seed, value, loss=loss)
        for loss, values in scores.items()
        for seed, value in enumerate(values)
    ]


def test_runs_that_differ_in_their_seed_are_one_line(tmp_path: Path) -> None:
    lines = compare(three_losses(tmp_path))
    assert [(line.settings["loss"], len(line.runs)) for line in lines] == [("none", 3), ("hard", 3), ("soft", 3)]
    assert differing(lines) == ["loss"]  # a teacher and a temperature follow from it
    hard = lines[1].top1("fused")
    assert hard is not None
    assert hard.mean == pytest.approx(np.mean([0.7, 0.75, 0.71]))
    assert lines[0].top1("dist") is None  # nothing trained it
    assert lines[0].difference is None
    assert lines[2].difference is not None
    assert lines[2].difference.mean == pytest.approx(np.mean([0.2, 0.17, 0.23]))


def test_the_table_and_the_rows_say_the_numbers(tmp_path: Path) -> None:
    lines = compare(three_losses(tmp_path))
    text = table_text(lines)
    assert "top-1 on 360 val images of digits" in text
    (soft,) = [line for line in text.splitlines() if line.split()[:1] == ["soft"]]
    assert "81.00 +- 2.65 *" in soft
    assert "+20.00 [+12.55, +27.45]" in soft  # by hand: 3.0 * 4.303 / sqrt(3)
    rows = list(csv.DictReader(io.StringIO(csv_text(lines))))
    assert len(rows) == 3 + 2 * 3 * 3
    assert [float(row["top1"]) for row in rows if row["loss"] == "soft" and row["counts"] == "1"] == [0.8, 0.79, 0.84]


def test_what_differs_is_a_column_and_two_subsets_are_two_seeds(tmp_path: Path) -> None:
    choice = {"fraction": 0.07, "labelled_fraction": 1.0}
    folders = [
        write_run(tmp_path / f"{lr}-{subset}", 0, 0.5 + lr, lr=lr, data_choice={**choice, "subset_seed": subset})
        for lr in (0.1, 0.2)
        for subset in (0, 1)
    ]
    lines = compare(folders)
    assert [len(line.runs) for line in lines] == [2, 2]
    assert differing(lines) == ["lr"]
    assert lines[1].difference is not None
    assert lines[1].difference.pairs == 2


def test_parts_of_the_images_in_words() -> None:
    assert images_words({}) == "all"
    assert images_words({"fraction": 0.07}) == "7% used"
    assert images_words({"fraction": 0.5, "labelled_fraction": 0.0348}) == "50% used, 3.48% labelled"


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", 0, 0.5)
    with pytest.raises(Mismatch, match="not measured on the same images"):
        compare([first, write_run(tmp_path / "b", 1, 0.5, images=100)])
    with pytest.raises(Mismatch, match="not measured on the same images"):
        compare([first, write_run(tmp_path / "t", 1, 0.5, selected="test")])
    with pytest.raises(Mismatch, match="same settings and the same seed 0"):
        compare([first, write_run(tmp_path / "c", 0, 0.6)])
    with pytest.raises(UsageProblem, match="no run"):
        compare([])
    (tmp_path / "c" / "result.json").unlink()
    with pytest.raises(Missing, match="not finished"):
        compare([first, str(tmp_path / "c")])
    (tmp_path / "c" / "result.json").write_text("{")
    with pytest.raises(Missing, match="not JSON"):
        compare([first, str(tmp_path / "c")])
    with pytest.raises(Missing, match="holds no training run"):
        compare([str(tmp_path)])
    (tmp_path / "c" / "result.json").write_text("{}")
    with pytest.raises(Missing, match="measured on no images"):
        compare([str(tmp_path / "c")])


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    folders = three_losses(tmp_path)
    done = CliRunner().invoke(main, ["compare", *folders, "--csv", str(tmp_path / "rows.csv"), "--json"])
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert data["differing"] == ["loss"]
    assert data["measured"] == {"data": "digits", "split": "val", "images": 360, "weights": "model"}
    assert data["lines"][1]["difference"]["pairs"] == 3
    assert (tmp_path / "rows.csv").read_text().count("\n") == 1 + 3 + 18
    missing = CliRunner().invoke(main, ["compare", str(tmp_path / "nothing")])
    assert missing.exit_code == 3
    nowhere = CliRunner().invoke(main, ["compare", *folders, "--csv", str(tmp_path / "no" / "rows.csv")])
    assert nowhere.exit_code == 2


def test_the_page_has_the_table_and_a_numbered_dot_for_each_line(tmp_path: Path) -> None:
    folders, page = three_losses(tmp_path), tmp_path / "runs.html"
    done = CliRunner().invoke(main, ["compare", *folders, "--report", str(page)])
    assert done.exit_code == 0, done.output
    assert f"page     {page}" in done.output
    text = page.read_text()
    for words in ("81.00 +- 2.65 *", "+20.00 [+12.55, +27.45]", "Line 3: soft", "9 runs in 3 lines"):
        assert words in text
    assert re.findall(r'<text class="tick"[^>]*>(\d)</text>', text) == ["1", "2", "3"]
    heights = [float(y) for y in re.findall(r'<circle class="dot c1" cx="[^"]*" cy="([^"]*)"', text)]
    assert heights[0] > heights[1] > heights[2]  # 61, 72, 81 %: up is less
    assert text.count("<polyline") == 3  # one bar of a deviation each
    assert "throughput" not in text  # nothing was measured


def test_with_costs_accuracy_stands_against_throughput(tmp_path: Path) -> None:
    lines, page = compare(three_losses(tmp_path)), tmp_path / "runs.html"
    costs = [{"parameters": 1e6, "GMACs": 0.1, "img/s": rate, "memory": None} for rate in (100.0, 300.0, 200.0)]
    write_compare_page(page, lines, costs)
    _, chart = page.read_text().split("Accuracy and throughput")
    places = [float(x) for x in re.findall(r'<circle class="dot c1" cx="([^"]*)"', chart)]
    assert places[0] < places[2] < places[1]
    assert "300 images/s" in chart
