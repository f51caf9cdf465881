"""The end of a run: against guessing, against the teacher, head against head."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from deit_pipe.pipeline.samples import ArraySamples
from deit_pipe.stages.training.outcome import lower_bound, outcome, result_text


def table(labels: list[int], classes: int) -> ArraySamples:
    pixels = np.zeros((len(labels), 2, 2), np.uint8)
    return ArraySamples("val", pixels, np.array(labels), [str(i) for i in range(classes)])


def result(top1: dict[str, float], split: str = "val", **more: Any) -> dict[str, Any]:
    scores = {name: {"top1": value, "top5": None} for name, value in top1.items()}
    answer = "fused" if "fused" in scores else next(iter(scores))
    return {
        "out": "runs/a",
        "epochs": 3,
        "loss": "hard",
        "answer": answer,
        "selected": split,
        split: scores,
        **more,
    }


@pytest.mark.parametrize(("right", "count"), [(0, 10), (3, 10), (10, 10), (36, 360), (300, 360), (4999, 5000)])
def test_the_bound_is_wilsons(right: int, count: int) -> None:
    expected = stats.binomtest(right, count).proportion_ci(0.90, method="wilson").low  # two-sided 90 %
    assert lower_bound(right / count, count) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("top1", "labels", "classes", "near"),
    [
        (0.10, list(range(10)) * 36, 10, True),
        (0.12, list(range(10)) * 36, 10, True),
        (0.14, list(range(10)) * 36, 10, False),
        (0.12, list(range(10)) * 360, 10, False),  # the same share of more images is clear
        (0.60, [0, 1] * 8, 2, True),  # 16 images tell little
        (0.80, [0] * 80 + [1] * 20, 2, True),  # always the commonest class
        (0.90, [0] * 80 + [1] * 20, 2, False),
        (0.0, list(range(10)) * 36, 10, True),
    ],
)
def test_near_chance_is_what_guessing_could_have_reached(
    top1: float, labels: list[int], classes: int, near: bool
) -> None:
    one = result({"class": top1})
    one |= outcome(one, table(labels, classes))
    assert one["near_chance"] is near
    assert ("WARNING" in result_text(one)) == near
    assert one["chance"] == 1 / classes
    assert one["images"] == len(labels)


def test_unlabelled_images_do_not_count() -> None:
    one = result({"class": 0.5})
    assert outcome(one, table([0, 1, -1, -1, 1], 2))["images"] == 3


def test_the_text_names_split_chance_teacher_and_the_better_head() -> None:
    scores = {"class": 0.95, "dist": 0.97, "fused": 0.96}
    one = result(scores, split="test_ema", teacher_top1=0.991)
    one |= outcome(one, table(list(range(10)) * 36, 10))
    text = result_text(one)
    assert one["split"] == "test"
    assert one["better_head"] == "dist"
    assert "360 test images, chance 10.00%, teacher 99.10%" in text
    assert "the distillation head is better than the class head (97.00% against 95.00%)" in text
    assert "nothing was selected: these are the last epoch's weights" in text
    assert "WARNING" not in text
    other = result(scores | {"class": 0.98})
    assert outcome(other, table([0, 1], 2))["better_head"] == "class"
    assert outcome(result(scores | {"class": 0.97}), table([0, 1], 2))["better_head"] is None


def test_a_result_that_an_older_version_wrote_still_has_a_text() -> None:
    old = {
        "out": "r",
        "student": "custom",
        "loss": "hard",
        "epochs": 2,
        "steps": 12,
        "answer": "fused",
        "selected": "val",
        "best": None,
        "val": {"class": {"top1": 0.5, "top5": 1.0}, "fused": {"top1": 0.75, "top5": 1.0}},
    }
    text = result_text(old)
    assert "fused          top-1  75.00%   top-5 100.00%  <- result" in text
    assert text.endswith("next: deit-pipe evaluate r")


def test_without_images_nothing_is_judged() -> None:
    one = {"out": "r", "epochs": 1, "loss": "hard", "answer": "class", "selected": "val"}
    one |= outcome(one, None)
    assert (one["split"], one["near_chance"]) == (None, None)
    assert "not evaluated: the data has no validation images" in result_text(one)
