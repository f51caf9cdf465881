"""A run that was stopped at any step ends in the same weights as one that was not."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from stage_fakes import student_options

from deit_pipe.stages import fit, train_student
from deit_pipe.stages.checkpoint import load_checkpoint
from deit_pipe.stages.errors import Mismatch, Terminated

SETTINGS: dict[str, Any] = {
    "epochs": 3, "drop_path": 0.2, "accumulate": 2, "ema": 0.9, "select": "ema", "checkpoint_steps": 1,
}  # fmt: skip
STEPS = 18  # 96 slots in batches of 16, three times


@pytest.fixture(scope="module")
def uninterrupted(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    train_student.run(student_options(cache, run, **SETTINGS))
    return run


class Cut(Exception):
    pass


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("student.safetensors", "best.safetensors"):
        a, b = load_file(one / name), load_file(other / name)
        assert all(torch.equal(a[key], b[key]) for key in a), name
    a, b = (json.loads((run / "result.json").read_text()) for run in (one, other))
    assert {**a, "out": ""} == {**b, "out": ""}
    kept = ("loss", "lr", "agreement", "val", "val_ema", "epoch")

    def history(run: Path) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return [{key: line[key] for key in ("kind", "step", *kept) if key in line} for line in lines]

    assert history(one) == history(other)


@settings(max_examples=4, deadline=None)
@given(cut=st.integers(1, STEPS - 1))
def test_stopped_at_any_step_and_resumed_is_the_uninterrupted_run(
    cut: int, cache: Path, uninterrupted: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = tmp_path_factory.mktemp("cut") / "run"
    original = fit.Fit._stop_if_asked

    def cutting(self: fit.Fit, stop: fit.StopRequest) -> None:
        if self.position.total == cut:
            raise Cut
        original(self, stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit.Fit, "_stop_if_asked", cutting)
        with pytest.raises(Cut):
            train_student.run(student_options(cache, run, **SETTINGS))
    train_student.run(student_options(cache, run, **SETTINGS))
    assert_same_run(run, uninterrupted)


def test_sigterm_saves_names_the_step_and_exits_143(cache: Path, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    original = fit.Fit._stop_if_asked

    def terminating(self: fit.Fit, stop: fit.StopRequest) -> None:
        if self.position.total == 8:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        original(self, stop)

    assert threading.current_thread() is threading.main_thread()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit.Fit, "_stop_if_asked", terminating)
        with pytest.raises(Terminated, match="after step 8") as stopped:
            train_student.run(student_options(cache, run, **{**SETTINGS, "checkpoint_steps": 0}))
    assert stopped.value.exit_code == 143
    train_student.run(student_options(cache, run, **{**SETTINGS, "checkpoint_steps": 0}))
    assert_same_run(run, uninterrupted)


def test_sigkill_of_the_command_loses_no_epoch(cache: Path, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    command = [
        sys.executable, "-m", "deit_pipe.cli", "train-student", f"--cache={cache}", f"--out={run}", "--batch-size=16",
        "--width=16", "--depth=2", "--heads=2", "--workers=0", "--device=cpu", "--log-steps=1", *words,
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (run / "checkpoints" / "last.json").exists():
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert load_checkpoint(run) is not None
    train_student.run(student_options(cache, run, **SETTINGS))
    assert_same_run(run, uninterrupted)


def test_the_same_command_again_is_a_no_op_that_says_so(cache: Path, uninterrupted: Path) -> None:
    before = (uninterrupted / "metrics.jsonl").read_bytes()
    result = train_student.run(student_options(cache, uninterrupted, **SETTINGS))
    assert "nothing to do" in result.text
    assert (uninterrupted / "metrics.jsonl").read_bytes() == before


def test_another_run_in_the_same_folder_is_refused_with_the_differing_options(
    cache: Path, uninterrupted: Path
) -> None:
    with pytest.raises(Mismatch) as error:
        train_student.run(student_options(cache, uninterrupted, **{**SETTINGS, "lr": 0.5}))
    assert "lr: there 0.003   given 0.5" in str(error.value)
    assert "drop-path" not in str(error.value)
