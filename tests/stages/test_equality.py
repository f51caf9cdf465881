"""The promise: training from the cache is training with the teacher in the loop, bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stage_fakes import cache_options, student_options

from deit_pipe.stages import cache_teacher, train_student

# Mixup, CutMix, erasing and repeats come with the recipe of the cache
EVERYTHING_ON: dict[str, Any] = {
    "drop_path": 0.2,
    "accumulate": 2,
    "ema": 0.99,
    "clip_grad": 1.0,
    "batch_size": 8,
    "epochs": 5,  # 60 steps, the third and later epochs reuse the two cached ones
    "smoothing": 0.1,
}


def weights(run: Path) -> dict[str, torch.Tensor]:
    pointer = sorted((run / "checkpoints").iterdir())[-2]  # the last is last.json
    return load_file(run / "student.safetensors") | {
        f"ema.{name}": value for name, value in load_file(pointer / "ema.safetensors").items()
    }


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different


@pytest.mark.parametrize("loss", ["hard", "soft"])
def test_cached_training_equals_online_training_bit_for_bit(
    loss: str, cache: Path, data: Path, recipe: Path, tmp_path: Path
) -> None:
    planned = tmp_path / "planned"  # a cache without a single committed block
    cache_teacher.run(cache_options(data, planned, recipe=str(recipe), plan_only=True))
    train_student.run(student_options(cache, tmp_path / "cached", loss=loss, **EVERYTHING_ON))
    train_student.run(
        student_options(planned, tmp_path / "online", loss=loss, online_teacher=True, order_seed=None, **EVERYTHING_ON)
    )
    assert_same(weights(tmp_path / "cached"), weights(tmp_path / "online"))


def test_online_runs_of_another_teacher_end_elsewhere(cache: Path, data: Path, recipe: Path, tmp_path: Path) -> None:
    """Guards the test above: if weights were equal whatever the targets, it would prove nothing."""
    other = tmp_path / "other"
    cache_teacher.run(cache_options(data, other, recipe=str(recipe), seed=0, teacher="test_efficientnet"))
    for name, place in (("a", cache), ("b", other)):
        train_student.run(student_options(place, tmp_path / name, loss="soft", **EVERYTHING_ON))
    one, two = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert any(not torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_the_weights(workers: int, cache: Path, tmp_path: Path) -> None:
    train_student.run(student_options(cache, tmp_path / "none", **EVERYTHING_ON))
    train_student.run(student_options(cache, tmp_path / "some", workers=workers, **EVERYTHING_ON))
    assert_same(weights(tmp_path / "none"), weights(tmp_path / "some"))
