"""What a run folder accepts, keeps and refuses."""

import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file
from stage_fakes import cache_options, student_options, write_idx

from deit_pipe import DeitPipeError
from deit_pipe.stages import cache_teacher, train_student
from deit_pipe.stages.console.errors import Mismatch, Missing, TrainingDiverged, UsageProblem
from deit_pipe.stages.networks.durable_files import write_partial
from deit_pipe.stages.networks.sums import commit
from deit_pipe.stages.training import trainer
from deit_pipe.stages.training.decisions import teacher_weights
from deit_pipe.stages.training.run_folder import (
    Metrics,
    begin,
    begun_config,
    json_bytes,
    only_writer,
    teachers_text,
)
from deit_pipe.store import stored_cache
from deit_pipe.store.ledger import ledger_of, want_epochs
from deit_pipe.store.manifest import list_teachers
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.removal import remove_teacher


def test_a_usage_error_leaves_the_folder_free_for_the_corrected_command(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageProblem):
        train_student.run(student_options(cache, tmp_path / "run", optimizer="nonsense"))
    result = train_student.run(student_options(cache, tmp_path / "run", epochs=1))
    assert result.data["steps"] == 6


def test_weights_that_are_not_finite_never_replace_the_good_checkpoint(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    original = trainer.Trainer.step

    def poisoning(self: trainer.Trainer, *args: Any) -> Any:
        times = original(self, *args)
        if self.optimizer.state_dict()["state"][0]["step"] == 12:  # the last step of the second epoch
            with torch.no_grad():
                next(self.student.parameters()).fill_(torch.nan)
        return times

    monkeypatch.setattr(trainer.Trainer, "step", poisoning)
    with pytest.raises(TrainingDiverged, match="a weight is not finite after step 12"):
        train_student.run(student_options(cache, run))
    folder = json.loads((run / "checkpoints" / "last.json").read_text())["folder"]
    kept = load_file(run / "checkpoints" / folder / "model.safetensors")
    assert folder == "00000006"
    assert all(torch.isfinite(value).all() for value in kept.values())


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original = trainer.Trainer.step
    done = 0

    def stopping(self: trainer.Trainer, *args: Any) -> Any:
        nonlocal done
        done += 1
        if done > steps:
            raise KeyboardInterrupt
        return original(self, *args)

    monkeypatch.setattr(trainer.Trainer, "step", stopping)


def test_a_run_does_not_go_on_with_another_teacher_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, place = write_idx(tmp_path / "data"), tmp_path / "cache"
    cache_teacher.run(cache_options(data, place, recipe="small", seed=5, name="t"))
    with monkeypatch.context() as patch:
        stop_after(8, patch)
        with pytest.raises(KeyboardInterrupt):
            train_student.run(student_options(place, tmp_path / "run"))
    remove_teacher(place, "t")
    (place / "teachers" / "t.removed").unlink()  # by hand: the program never uses a name again
    cache_teacher.run(cache_options(data, place, recipe="small", seed=5, name="t", batch_size=32))
    with pytest.raises(Mismatch, match="teacher-digests"):
        train_student.run(student_options(place, tmp_path / "run"))


def test_a_cache_extended_in_the_middle_of_a_run_does_not_change_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_idx(tmp_path / "data")
    for name in ("a", "b"):
        cache_teacher.run(cache_options(data, tmp_path / name, recipe="small", epochs=2))
    train_student.run(student_options(tmp_path / "a", tmp_path / "whole", epochs=4))
    with monkeypatch.context() as patch:
        stop_after(8, patch)
        with pytest.raises(KeyboardInterrupt):
            train_student.run(student_options(tmp_path / "b", tmp_path / "cut", epochs=4))
    cache_teacher.run(cache_options(data, tmp_path / "b", recipe="small", epochs=4))
    train_student.run(student_options(tmp_path / "b", tmp_path / "cut", epochs=4))
    one, other = (load_file(tmp_path / name / "student.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_cache_that_is_being_extended_serves_the_epochs_that_are_there(cache: Path, tmp_path: Path) -> None:
    """Weights of a run beside the extension are those of one that knew nothing of it; the small files are read once."""
    extended = shutil.copytree(cache, tmp_path / "extended")
    (name,) = list_teachers(extended)
    want_epochs(open_location(extended), name, 5)  # what another job does first
    read = mock.Mock(side_effect=ledger_of)
    train_student.run(student_options(cache, tmp_path / "undisturbed", epochs=2))
    with mock.patch.object(stored_cache, "ledger_of", read):
        train_student.run(student_options(extended, tmp_path / "beside", epochs=2))
    assert read.call_count == 1
    one, two = (load_file(tmp_path / run / "student.safetensors") for run in ("undisturbed", "beside"))
    assert all(torch.equal(value, two[weight]) for weight, value in one.items())


def test_a_folder_is_trained_into_by_one_process(tmp_path: Path) -> None:
    with (
        only_writer(tmp_path / "run"),
        pytest.raises(Missing, match="is in use"),
        only_writer(tmp_path / "run"),
    ):
        pass
    with only_writer(tmp_path / "run"):
        pass


def test_lines_after_the_checkpoint_are_cut_and_a_short_file_is_not_padded(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, 0)
    metrics.write("step", 1, {"loss": 1.0})
    size = metrics.size
    metrics.write("step", 2, {"loss": 2.0})
    metrics.close()
    Metrics(tmp_path, size).close()
    assert (tmp_path / "metrics.jsonl").stat().st_size == size
    Metrics(tmp_path, size + 1000).close()
    assert (tmp_path / "metrics.jsonl").stat().st_size == size


def test_validation_images_of_other_classes_are_refused(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(DeitPipeError, match="classes") as caught:
        train_student.run(student_options(cache, tmp_path / "run", val_data="digits"))
    assert caught.value.exit_code == 4


def test_the_online_teacher_takes_the_seed_of_random_weights_from_the_cache(tmp_path: Path) -> None:
    data, place = write_idx(tmp_path / "data"), tmp_path / "cache"
    cache_teacher.run(cache_options(data, place, recipe="small", seed=7, epochs=1))
    for name, online in (("a", False), ("b", True)):
        train_student.run(student_options(place, tmp_path / name, online_teacher=online, epochs=1))
    one, other = (load_file(tmp_path / name / "student.safetensors") for name in ("a", "b"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("weights", "text"),
    [("2,1", "a:2,b:1"), ("1,1", "a,b"), ("0,0.5", "a:0,b:0.5"), (f"{1 / 3},1", f"a:{1 / 3},b:1")],
)
def test_a_run_begun_with_the_old_spelling_of_weights_goes_on_as_the_same_run(
    weights: str, text: str, tmp_path: Path
) -> None:
    numbers = [float(part) for part in weights.split(",")]
    now = {"teacher": teachers_text(["a", "b"], numbers), "epochs": 2}
    write_partial(tmp_path / "config.json", json_bytes({**now, "teacher": "a,b", "teacher_loss_weights": weights}))
    write_partial(tmp_path / "result.json", json_bytes({}))
    commit(tmp_path, ["config.json", "result.json"], fresh=True)
    begun = begun_config(tmp_path)
    assert begun is not None
    assert begun["teacher"] == now["teacher"] == text
    options = student_options(tmp_path, tmp_path)
    assert teacher_weights(options, ["a", "b"], begun) == (numbers if "a," not in text else [1.0, 1.0])
    begin(tmp_path, now, given=["teacher"])
    with pytest.raises(Mismatch, match="teacher"):
        begin(tmp_path, {**now, "teacher": "a:5,b:1"}, given=["teacher"])
