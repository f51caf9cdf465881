"""A hundred labelled digits and the others without a label: the teacher's answers teach the student all of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deit_pipe.pipeline.samples import ArraySamples
from deit_pipe.pipeline.sources.open_samples import open_samples
from deit_pipe.stages import cache_teacher, train_student, train_teacher
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.options.train_teacher import TrainTeacherOptions

TEACHER, PER_CLASS = "test_resnet", 10
HERE: dict[str, Any] = {"device": "cpu", "workers": 0}


@pytest.fixture(scope="module")
def digits() -> dict[str, ArraySamples]:
    """The training digits: the hundred, ten of each class; and all of them, of which only the hundred have a label."""
    table = open_samples("digits", "train")
    pixels = np.stack([np.asarray(table.read(i)) for i in range(len(table))])
    random = np.random.default_rng(0)
    members = [random.permutation(np.flatnonzero(table.labels == c)) for c in range(10)]
    chosen = np.concatenate([of_class[:PER_CLASS] for of_class in members])
    labels = np.full(len(table), -1)
    labels[chosen] = table.labels[chosen]
    return {
        "hundred": ArraySamples("hundred", pixels[chosen], table.labels[chosen], table.class_names),
        "all": ArraySamples("all", pixels, labels, table.class_names),
    }


def train(
    digits: dict[str, ArraySamples],
    name: str,
    cache: Path,
    out: Path,
    patch: pytest.MonkeyPatch,
    **given: Any,
) -> dict[str, Any]:
    patch.setattr(
        train_student, "open_splits", lambda *_: (digits[name], open_samples("digits", "val"), None)
    )
    options = TrainStudentOptions(cache=str(cache), out=str(out), eval_every=1000, **HERE, **given)
    return train_student.run(options).data


@pytest.fixture(scope="module")
def distilled(digits: dict[str, ArraySamples], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of the student that learns from a teacher that knows nothing but the hundred."""
    tmp = tmp_path_factory.mktemp("hundred")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_teacher, "open_training", lambda *_: digits["hundred"])
        train_teacher.run(
            TrainTeacherOptions(
                teacher=TEACHER, init="scratch", epochs=100, batch_size=20, out=str(tmp / "teacher"), **HERE
            )
        )
        patch.setattr(cache_teacher, "open_training", lambda *_: digits["all"])
        cache_teacher.run(
            CacheTeacherOptions(
                teacher=TEACHER,
                teacher_weights=str(tmp / "teacher"),
                cache=str(tmp / "cache"),
                epochs=8,
                **HERE,
            )
        )
        return train(digits, "all", tmp / "cache", tmp / "student", patch, loss="hard", epochs=40)


def test_a_hundred_labels_and_the_teachers_answers_to_all_digits_end_above_90_percent(
    distilled: dict[str, Any],
) -> None:
    assert distilled["val"][distilled["answer"]]["top1"] > 0.90
    assert distilled["near_chance"] is False


@pytest.mark.slow
def test_the_hundred_alone_with_as_many_steps_end_clearly_below(
    distilled: dict[str, Any], digits: dict[str, ArraySamples], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache_teacher, "open_training", lambda *_: digits["hundred"])
        cache_teacher.run(
            CacheTeacherOptions(
                teacher=TEACHER, teacher_weights="random", cache=str(tmp_path / "c"), plan_only=True, **HERE
            )
        )
        # one step of 64 views an epoch
        alone = train(
            digits, "hundred", tmp_path / "c", tmp_path / "s", patch, loss="none", epochs=distilled["steps"]
        )
    assert alone["steps"] == distilled["steps"]
    assert alone["val"]["class"]["top1"] < distilled["val"][distilled["answer"]]["top1"] - 0.05
