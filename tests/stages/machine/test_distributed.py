"""Two processes on the CPU (gloo) do what one does."""

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stage_fakes import cache_options, student_options
from two_processes import run_on_two

from deit_pipe.stages import cache_teacher, train_student
from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.machine.distributed import choose_device
from deit_pipe.store.reader import TargetReader


def test_two_processes_write_the_cache_of_one(cache: Path, data: Path, recipe: Path, tmp_path: Path) -> None:
    place = tmp_path / "c"
    run_on_two(cache_teacher.run, cache_options(data, place, recipe=str(recipe)))
    slots = np.arange(96)
    for epoch in range(2):
        one, two = TargetReader(cache).read(epoch, slots), TargetReader(place).read(epoch, slots)
        np.testing.assert_array_equal(one.fingerprint, two.fingerprint)
        np.testing.assert_array_equal(one.logits, two.logits)


@pytest.mark.parametrize("loss", ["hard", "none"])
def test_two_processes_train_the_student_of_one_within_rounding(loss: str, cache: Path, tmp_path: Path) -> None:
    """The same global batches; drop path is 0, since its masks are drawn by each process."""
    one, two = tmp_path / "one", tmp_path / "two"
    settings: dict[str, Any] = {
        "loss": loss,
        "drop_path": 0.0,
        "epochs": 2,
        "accumulate": 2,
        "clip_grad": 1.0,
    }
    train_student.run(student_options(cache, one, **settings))
    run_on_two(train_student.run, student_options(cache, two, **settings))
    a, b = load_file(one / "student.safetensors"), load_file(two / "student.safetensors")
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=2e-5)


def fails_alone(options: Any) -> None:
    if os.environ["RANK"] == "1":
        raise SystemExit(3)
    threading.Event().wait()


def test_a_rank_that_fails_is_seen_while_the_other_waits_for_it() -> None:
    with pytest.raises(AssertionError):
        run_on_two(fails_alone, None)


def test_a_batch_that_two_processes_cannot_share_is_refused(cache: Path, tmp_path: Path) -> None:
    from deit_pipe.pipeline.errors import PlanError

    with pytest.raises(PlanError, match="choose a global batch of 8 or 16"):
        train_student.run(student_options(cache, tmp_path / "run", batch_size=12, accumulate=2))


def test_devices_are_checked() -> None:
    assert choose_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(UsageProblem, match="no CUDA GPU"):
            choose_device("cuda")
