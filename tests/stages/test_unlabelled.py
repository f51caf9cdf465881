"""A hundred labelled digits and the others without a label: the teacher's answers teach the student all of them."""

from pathlib import Path
from typing import Any

import pytest

from deit_pipe.stages import cache_teacher, train_student, train_teacher
from deit_pipe.stages.opened.cache import open_cache
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.options.train_teacher import TrainTeacherOptions

TEACHER = "test_resnet"
HUNDRED = 100 / 1437  # of the training digits
HERE: dict[str, Any] = {"device": "cpu", "workers": 0}


def train(cache: Path, out: Path, **given: Any) -> dict[str, Any]:
    options = TrainStudentOptions(cache=str(cache), out=str(out), eval_every=1000, **HERE, **given)
    return train_student.run(options).data


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of the student that learns from a teacher that knows nothing but the hundred."""
    tmp = tmp_path_factory.mktemp("hundred")
    train_teacher.run(
        TrainTeacherOptions(
            teacher=TEACHER,
            init="scratch",
            epochs=100,
            batch_size=20,
            out=str(tmp / "teacher"),
            labelled_fraction=HUNDRED,
            **HERE,
        )
    )
    cache_teacher.run(
        CacheTeacherOptions(
            teacher=TEACHER,
            teacher_weights=str(tmp / "teacher"),
            cache=str(tmp / "cache"),
            epochs=8,
            labelled_fraction=HUNDRED,
            **HERE,
        )
    )
    images = open_cache(str(tmp / "cache")).open_images().train
    assert (len(images), images.num_labelled) == (1437, 100)
    return train(tmp / "cache", tmp / "student", loss="hard", epochs=40)


def test_a_hundred_labels_and_the_teachers_answers_to_all_digits_end_above_90_percent(
    distilled: dict[str, Any],
) -> None:
    assert distilled["images"] == 360
    assert distilled["val"][distilled["answer"]]["top1"] > 0.90
    assert distilled["near_chance"] is False


@pytest.mark.slow
def test_the_hundred_alone_with_as_many_steps_end_clearly_below(distilled: dict[str, Any], tmp_path: Path) -> None:
    cache_teacher.run(
        CacheTeacherOptions(
            teacher=TEACHER,
            teacher_weights="random",
            cache=str(tmp_path / "c"),
            plan_only=True,
            fraction=HUNDRED,
            **HERE,
        )
    )
    # one step of 64 views an epoch
    alone = train(tmp_path / "c", tmp_path / "s", loss="none", epochs=distilled["steps"])
    assert alone["steps"] == distilled["steps"]
    assert alone["val"]["class"]["top1"] < distilled["val"][distilled["answer"]]["top1"] - 0.05
