"""Beyond the heads: accuracy by class, of neighbours, of a probe, and speed; against computations of their own."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from answering_fakes import write_student

from deit_pipe import DeitPipeError, FeaturesOptions
from deit_pipe.stages import evaluate, features
from deit_pipe.stages.answering.by_class import ClassRow, Counts, confusion_lines, per_class_lines
from deit_pipe.stages.answering.neighbours import Labelled, linear_probe, nearest_neighbours
from deit_pipe.stages.networks.student import load_student
from deit_pipe.stages.options.evaluate import EvaluateOptions
from deit_pipe.stages.teaching.head_fit import logistic_regression


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_student(tmp_path_factory.mktemp("student"), tuple("0123"))


def measure(student: Path, data: Path, **more: Any) -> Any:
    usual: dict[str, Any] = {"split": "test", "device": "cpu", "workers": 0}
    return evaluate.run(EvaluateOptions(run=str(student), data=str(data), **(usual | more)))


@pytest.fixture(scope="module")
def table(student: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("vectors") / "f.parquet"
    features.run(FeaturesOptions(run=str(student), data=str(data), out=str(out), device="cpu", workers=0))
    return pq.read_table(out)


def column(table: Any, name: str, split: str) -> np.ndarray:
    chosen = np.asarray(table["split"].to_pylist()) == split
    return np.stack(table[name].to_numpy())[chosen] if "_" in name else np.asarray(table[name].to_pylist())[chosen]


def test_what_is_taken_for_what(student: Path, data: Path, table: Any, tmp_path: Path) -> None:
    result = measure(student, data, per_class=True, csv=str(tmp_path / "pairs.csv"))
    _, model = load_student(student, torch.device("cpu"))
    with torch.inference_mode():
        own = model.head(torch.from_numpy(column(table, "class_token", "test")))
        dist = model.head_dist(torch.from_numpy(column(table, "dist_token", "test")))
    said = (own + dist).argmax(1).numpy()
    labels = column(table, "label", "test")
    right = Counter(zip(labels.tolist(), said.tolist(), strict=True))
    found = {(int(one["class"]), int(one["said"])): one["images"] for one in result.data["confusion"]}
    assert found == dict(right)
    assert len(set(said.tolist())) > 1
    for row in result.data["per_class"]:
        label = int(row["class"])
        assert row["images"] == (labels == label).sum() == 8
        assert row["top1"] == ((said == label) & (labels == label)).sum() / 8
        wrong = Counter(said[(labels == label) & (said != label)].tolist())
        assert row["often"] == (max(wrong.values()) if wrong else 0)
        assert row["taken_for"] is None if not wrong else wrong[int(row["taken_for"])] == row["often"]
    assert sum(row["top1"] * 8 for row in result.data["per_class"]) == result.data["scores"]["fused"]["top1"] * 32
    rows = list(csv.DictReader((tmp_path / "pairs.csv").read_text().splitlines()))
    assert {(int(row["class"]), int(row["said"])): int(row["images"]) for row in rows} == dict(right)
    assert sum("of 8" in line for line in result.text.splitlines()) == 4


def test_of_many_classes_the_worst_are_shown() -> None:
    rows = [ClassRow(f"c{number}", 10, number / 100, None, 0) for number in range(100)]
    lines = per_class_lines(rows[::-1])
    assert lines[0] == "  the 20 worst of 100 classes; all are in --json"
    assert [line.split()[0] for line in lines[1:]] == [f"c{number}" for number in range(20)]


def test_confusion_is_a_table_of_few_classes_and_the_commonest_mistakes_of_many(student: Path, data: Path) -> None:
    result = measure(student, data, confusion=True)
    matrix = np.zeros((4, 4), int)
    for one in result.facts.confusion:
        matrix[int(one.class_), int(one.said)] = one.images
    head, *rows = result.text.splitlines()[-5:]
    assert head.split() == ["class,", "said:", "0", "1", "2", "3"]
    shown = [[0 if cell == "." else int(cell) for cell in row.split()[2:]] for row in rows]
    assert shown == matrix.tolist()
    assert matrix.sum() == 32
    many = np.diag(np.full(30, 9))
    many[7, 3], many[8, 2] = 5, 6
    names = [f"c{number}" for number in range(30)]
    assert confusion_lines(Counts(names, many)) == [
        "  the 2 commonest of 2 kinds of mistakes; all are in --json and --csv",
        "  c8  6 taken for c2",
        "  c7  5 taken for c3",
    ]
    assert confusion_lines(Counts(names, np.diag(np.full(30, 9)))) == ["  no class is taken for another"]


@pytest.mark.parametrize("k", [1, 7, 500])
def test_neighbours_vote_as_they_are_near(k: int, student: Path, data: Path, table: Any) -> None:
    found = measure(student, data, knn=k).data["knn"]
    assert found["k"] == k
    for name in ("class_token", "dist_token", "patch_mean"):
        known, asked = (column(table, name, split).astype(np.float64) for split in ("train", "test"))
        known, asked = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (known, asked))
        labels, right = column(table, "label", "train"), 0
        for query, true in zip(asked, column(table, "label", "test"), strict=True):
            near = known @ query
            order = near.argsort()[::-1][:k]
            votes = [np.exp(near[order][labels[order] == label] / 0.07).sum() for label in range(4)]
            right += int(np.argmax(votes)) == true
        assert found[name] == pytest.approx(right / 32, abs=1 / 32)  # a tie of rounding at most


def test_the_nearest_of_a_known_vector_is_itself_and_a_probe_finds_what_is_linear() -> None:
    labels = torch.arange(60) % 3
    vectors = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    vectors[:, 0] = labels.float() * 4
    known = Labelled({"class_token": vectors}, labels)
    assert nearest_neighbours(known, known, 1, 3) == {"class_token": 1.0}
    turned = Labelled({"class_token": vectors}, (labels + 1) % 3)
    assert nearest_neighbours(known, turned, 1, 3) == {"class_token": 0.0}

    def fit(own: torch.Tensor, true: torch.Tensor) -> torch.nn.Module:
        return logistic_regression(own, true, 3)

    fresh = torch.randn(300, 8, generator=torch.Generator().manual_seed(1))
    fresh[:, 0] = (torch.arange(300) % 3).float() * 4
    assert linear_probe(known, Labelled({"class_token": fresh}, torch.arange(300) % 3), fit)["class_token"] > 0.95


def test_a_probe_and_speed_in_one_go(student: Path, data: Path) -> None:
    result = measure(student, data, linear_probe=True, speed=True, batch_size=8)
    probe = result.data["linear_probe"]
    assert set(probe) == {"class_token", "dist_token", "patch_mean"}
    assert probe["patch_mean"] > 0.5  # quadrants are bright or not: a random network keeps that
    speed = result.data["speed"]
    _, model = load_student(student, torch.device("cpu"))
    parameters = sum(one.numel() for one in model.parameters())
    assert (speed["parameters"], speed["bytes"], speed["precision"]) == (parameters, 4 * parameters, "float32")
    assert 0 < speed["latency_ms"] < 1000
    blocks = 3 * (18 * 12 * 24 * 24 + 2 * 18 * 18 * 24)  # 18 tokens, 24 wide
    assert speed["GMACs"] == pytest.approx((blocks + 16 * 3 * 8 * 8 * 24 + 2 * 24 * 4) / 1e9)
    assert speed["images_per_second"] > 500 / speed["latency_ms"]
    assert "ms for one image" in result.text
    assert "linear probe of 96 training images: class_token" in result.text


def test_nothing_more_is_done_or_said_unasked(student: Path, data: Path) -> None:
    assert not {"per_class", "confusion", "knn", "linear_probe", "speed"} & set(measure(student, data).data)


def test_training_images_are_no_test_of_their_own_neighbours(student: Path, data: Path) -> None:
    with pytest.raises(DeitPipeError, match="those that neighbours are looked for in") as error:
        measure(student, data, split="train", knn=3)
    assert error.value.exit_code == 2
