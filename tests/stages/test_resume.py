"""A run that was stopped at any step ends in the same weights as one that was not."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from stage_fakes import student_options

from deit_pipe.stages import train_student
from deit_pipe.stages.console.errors import Mismatch, Terminated
from deit_pipe.stages.options.set_values import settable
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.training import building, trainer
from deit_pipe.stages.training.checkpoint import load_checkpoint

SETTINGS: dict[str, Any] = {
    "epochs": 3,
    "drop_path": 0.2,
    "accumulate": 2,
    "ema": 0.9,
    "select": "ema",
    "checkpoint_steps": 1,
}
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


def after_step(patch: pytest.MonkeyPatch, number: int, do: Callable[[], None]) -> None:
    """Do something when this many steps of the run are done, before the loop looks whether it was asked to stop."""
    original = trainer.Trainer.step
    done = 0

    def counting(self: trainer.Trainer, *args: Any) -> Any:
        nonlocal done
        times = original(self, *args)
        done += 1
        if done == number:
            do()
        return times

    patch.setattr(trainer.Trainer, "step", counting)


def cut() -> None:
    raise Cut


@settings(max_examples=4, deadline=None)
@given(step=st.integers(1, STEPS - 1))
def test_stopped_at_any_step_and_resumed_is_the_uninterrupted_run(
    step: int, cache: Path, uninterrupted: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = tmp_path_factory.mktemp("cut") / "run"
    with pytest.MonkeyPatch.context() as patch:
        after_step(patch, step, cut)
        with pytest.raises(Cut):
            train_student.run(student_options(cache, run, **SETTINGS))
    train_student.run(student_options(cache, run, **SETTINGS))
    assert_same_run(run, uninterrupted)


def test_sigterm_saves_names_the_step_and_exits_143(cache: Path, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        after_step(patch, 8, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Terminated, match="after step 8") as stopped:
            train_student.run(student_options(cache, run, **{**SETTINGS, "checkpoint_steps": 0}))
    assert stopped.value.exit_code == 143
    train_student.run(student_options(cache, run, **{**SETTINGS, "checkpoint_steps": 0}))
    assert_same_run(run, uninterrupted)


# The command itself, held at the instant its pointer names the checkpoint of a step: it says so and waits for its end.
HELD = """
import sys
from deit_pipe.stages.training import checkpoint
commit = checkpoint.commit
def holding(run, names, **more):
    commit(run, names, **more)
    if checkpoint.last_checkpoint(run) == sys.argv[1]:
        print("saved", flush=True)
        sys.stdin.read()
checkpoint.commit = holding
from deit_pipe.cli import main
main(sys.argv[2:])
"""


def test_sigkill_of_the_command_loses_no_step_that_was_saved(cache: Path, uninterrupted: Path, tmp_path: Path) -> None:
    run, step = tmp_path / "run", 7  # the first of the second epoch
    given = {name.replace("_", "-"): value for name, value in {**SETTINGS, "log_steps": 1}.items()}
    keys = settable(TrainStudentOptions)
    words = [f"--set={name}={value}" if name in keys else f"--{name}={value}" for name, value in given.items()]
    command = [
        sys.executable,
        "-c",
        HELD,
        f"{step:08d}",
        "train-student",
        f"--cache={cache}",
        f"--out={run}",
        "--batch-size=16",
        "--student=custom:16x2x2",
        "--workers=0",
        "--device=cpu",
        *words,
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.kill()
    assert (said, process.returncode) == ("saved\n", -signal.SIGKILL)
    saved = load_checkpoint(run)
    assert saved is not None
    assert saved.state["total"] == step
    train_student.run(student_options(cache, run, **SETTINGS))
    assert_same_run(run, uninterrupted)


def begun(cache: Path, run: Path) -> dict[str, Any]:
    """Begin a run and stop it; its config, as it lies in the folder."""
    with pytest.MonkeyPatch.context() as patch:
        after_step(patch, 2, cut)
        with pytest.raises(Cut):
            train_student.run(student_options(cache, run, **SETTINGS))
    config: dict[str, Any] = json.loads((run / "config.json").read_text())
    return config


def test_an_option_that_came_after_a_run_was_begun_does_not_keep_it_from_going_on(
    cache: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    config = begun(cache, run)
    assert config.pop("kd_reduction") == "batchmean"  # as if an earlier version had not had these
    assert config.pop("clip_grad") == 0.0
    (run / "config.json").write_text(json.dumps(config))
    (run / "SUMS").unlink()
    with pytest.raises(Mismatch, match="kd-reduction: there None   given deit"):
        train_student.run(student_options(cache, run, **{**SETTINGS, "kd_reduction": "deit"}))
    train_student.run(student_options(cache, run, **SETTINGS))
    assert_same_run(run, uninterrupted)


def test_the_same_command_again_is_a_no_op_that_says_so(cache: Path, uninterrupted: Path) -> None:
    before = (uninterrupted / "metrics.jsonl").read_bytes()
    result = train_student.run(student_options(cache, uninterrupted, **SETTINGS))
    assert "nothing to do" in result.text
    assert (uninterrupted / "metrics.jsonl").read_bytes() == before


def test_another_run_in_the_same_folder_is_refused_with_the_differing_options(cache: Path, uninterrupted: Path) -> None:
    with pytest.raises(Mismatch) as error:
        train_student.run(student_options(cache, uninterrupted, **{**SETTINGS, "lr": 0.5}))
    assert "lr: there 0.003   given 0.5" in str(error.value)
    assert "drop-path" not in str(error.value)


def test_a_run_goes_on_with_as_many_threads_as_it_had(
    cache: Path,
    uninterrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        after_step(patch, 8, cut)
        with pytest.raises(Cut):
            train_student.run(student_options(cache, run, **SETTINGS))
    assert '"threads": 1' in next((run / "checkpoints").glob("*/state.json")).read_text()
    # another machine, where torch would take two
    monkeypatch.setattr(building, "choose_threads", lambda options, student: 2)
    used: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        after_step(patch, 1, lambda: used.append(torch.get_num_threads()))
        train_student.run(student_options(cache, run, **SETTINGS))
    assert used == [1]
    assert "1 CPU threads, as the run had, and not 2" in capsys.readouterr().err
    assert_same_run(run, uninterrupted)
