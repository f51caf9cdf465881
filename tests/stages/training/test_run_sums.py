"""A run folder vouches for its files: a flipped bit is refused by whoever reads it, a kill never looks like damage."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stage_fakes import student_options

from deit_pipe.stages import compare, evaluate, export, report, train_student
from deit_pipe.stages.console.errors import Corrupt, Missing
from deit_pipe.stages.networks import durable_files, sums
from deit_pipe.stages.networks.begun_command import begun_command
from deit_pipe.stages.networks.settled_run import kept_checkpoints, last_checkpoint, settle
from deit_pipe.stages.networks.sums import SUMS, check_sums, file_sha256, read_sums, sums_text
from deit_pipe.stages.options.compare import CompareOptions
from deit_pipe.stages.options.evaluate import EvaluateOptions
from deit_pipe.stages.options.export import ExportOptions
from deit_pipe.stages.options.run_report import RunReportOptions
from deit_pipe.stages.training import fit, trainer
from deit_pipe.stages.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, save_weights
from deit_pipe.stages.training.run_folder import begin, put_json

SETTINGS: dict[str, Any] = {"epochs": 2, "checkpoint_steps": 3, "ema": 0.9}
WHOLE = (12, 9)  # steps of the finished run's checkpoints
CUT = (9, 6)  # of the stopped one's


def flip(path: Path, place: float = 0.5) -> None:
    """Flip a bit somewhere in a file, 0 the first byte, 1 the last."""
    data = bytearray(path.read_bytes())
    data[round(place * (len(data) - 1))] ^= 4
    path.write_bytes(data)


def files(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file() and path.name != ".lock")


def train(cache: Path, run: Path, **changed: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "SAVE_SECONDS", 0.0)  # a checkpoint at the end of every epoch
        return train_student.run(student_options(cache, run, **(SETTINGS | changed)))


def stop_in_step(cache: Path, run: Path, number: int) -> None:
    original, done = trainer.Trainer.step, 0

    def stopping(self: trainer.Trainer, *args: Any) -> Any:
        nonlocal done
        done += 1
        if done == number:
            raise RuntimeError("cut")
        return original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Trainer, "step", stopping)
        with pytest.raises(RuntimeError, match="cut"):
            train(cache, run)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "PAUSE", 0.0)


@pytest.fixture(scope="module")
def whole(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 12 steps."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train(cache, run)
    return run


@pytest.fixture(scope="module")
def cut(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, stopped in step 11."""
    run = tmp_path_factory.mktemp("cut") / "run"
    stop_in_step(cache, run, 11)
    return run


def test_sums_names_every_file_and_sha256sum_agrees(whole: Path, cut: Path) -> None:
    assert {*(read_sums(whole) or {}), SUMS} == set(files(whole))
    assert {*(read_sums(cut) or {}), SUMS, "metrics.jsonl"} == set(files(cut))
    for run, steps in ((whole, WHOLE), (cut, CUT)):
        assert kept_checkpoints(run) == [f"{step:08d}" for step in sorted(steps)]
        assert last_checkpoint(run) == f"{max(steps):08d}"
        done = subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=run, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count(": OK\n") == len(read_sums(run) or {})


@pytest.mark.parametrize("place", [0.0, 0.37, 1.0])
def test_a_flipped_bit_in_any_file_of_a_run_is_refused_by_going_on(
    place: float, whole: Path, cut: Path, cache: Path, tmp_path: Path
) -> None:
    for source in (whole, cut):
        for name in files(source):
            if (source, name, place) == (cut, "metrics.jsonl", 1.0):
                continue  # a line after the checkpoint: cut off, whatever it says
            run = shutil.copytree(source, tmp_path / "run")
            flip(run / name, place)
            with pytest.raises(Corrupt) as error:
                train(cache, run)
            lines = str(error.value).splitlines()
            assert str(run / name) in lines[0]
            assert [line.split()[0] for line in lines[1:3]] == ["expected", "got"]
            assert any(word in lines[-1] for word in ("rm ", "restore"))
            shutil.rmtree(run)


READERS: dict[str, tuple[Callable[[Path, Path], Any], set[str]]] = {
    "evaluate": (
        lambda run, out: evaluate.run(EvaluateOptions(run=str(run), device="cpu", workers=0)),
        {"config.json", "student.json", "student.safetensors"},
    ),
    "evaluate best": (
        lambda run, out: evaluate.run(EvaluateOptions(run=str(run), device="cpu", workers=0, weights="best")),
        {"config.json", "student.json", "best.safetensors"},
    ),
    "evaluate last": (
        lambda run, out: evaluate.run(EvaluateOptions(run=str(run), device="cpu", workers=0, weights="last")),
        {"config.json", "student.json", "checkpoints/last.json", "checkpoints/00000012/model.safetensors"},
    ),
    "export": (
        lambda run, out: export.run(ExportOptions(run=str(run), out=str(out / "s"))),
        {"config.json", "result.json", "student.json", "student.safetensors"},
    ),
    "compare": (lambda run, out: compare.run(CompareOptions(runs=(str(run),))), {"config.json", "result.json"}),
    "report": (
        lambda run, out: report.run(RunReportOptions(run=str(run), out=str(out / "page.html"))),
        {"config.json", "result.json", "metrics.jsonl", "shown.json"},
    ),
}


@pytest.mark.parametrize("command", READERS)
def test_a_flipped_bit_in_what_a_command_reads_is_refused_by_it(command: str, whole: Path, tmp_path: Path) -> None:
    read, needed = READERS[command]
    refused = set()
    for name in files(whole):
        run = shutil.copytree(whole, tmp_path / "run")
        flip(run / name)
        try:
            read(run, tmp_path)
        except Corrupt as error:
            if str(run / name) in error.what:
                refused.add(name)
        shutil.rmtree(run)
    assert refused == needed | {SUMS}


def test_another_run_does_not_start_from_flipped_weights(cache: Path, data: Path, whole: Path, tmp_path: Path) -> None:
    source = shutil.copytree(whole, tmp_path / "source")
    export.run(ExportOptions(run=str(source)))
    for place, name in (
        ("", "student.safetensors"),
        ("", "student.json"),
        ("best.safetensors", "best.safetensors"),
        ("student.safetensors", "student.safetensors"),
        ("export/timm", "export/timm/model.safetensors"),
        ("export/timm", "export/timm/config.json"),
        ("export/timm", "export/timm/SUMS"),
        ("export/timm/model.safetensors", "export/timm/model.safetensors"),
    ):
        run = shutil.copytree(source, tmp_path / "run")
        flip(run / name, 0.9)
        with pytest.raises(Corrupt, match=name):
            train(cache, tmp_path / "next", init_from=str(run / place))
        with pytest.raises(Corrupt, match=name):
            evaluate.run(EvaluateOptions(run=str(run / place), data=str(data), device="cpu", workers=0, split="test"))
        shutil.rmtree(run)


def test_a_damaged_last_checkpoint_is_said_and_the_one_before_gives_the_same_student(
    cache: Path, whole: Path, cut: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(cut, tmp_path / "run")
    flip(run / "checkpoints" / "00000009" / "optimizer.safetensors")
    with pytest.raises(Corrupt) as error:
        train(cache, run)
    assert error.value.cure is not None
    told = error.value.cure.partition("go on from the checkpoint of step 6: ")[2].partition(" && ")[0]
    assert told == f"rm -r {run}/checkpoints/00000009"
    subprocess.run(told, shell=True, check=True)
    train(cache, run)
    assert "00000009 was removed: going on from step 6" in capsys.readouterr().err
    one, other = (load_file(folder / "student.safetensors") for folder in (whole, run))
    assert all(torch.equal(one[name], other[name]) for name in one)
    check_sums(run, files(run)[1:])  # all but SUMS itself


def test_without_any_checkpoint_left_the_way_back_to_the_start_is_said(cut: Path, cache: Path, tmp_path: Path) -> None:
    run = shutil.copytree(cut, tmp_path / "run")
    for step in CUT:
        shutil.rmtree(run / "checkpoints" / f"{step:08d}")
    with pytest.raises(Missing, match="has no checkpoint left") as error:
        train(cache, run)
    assert f"rm -r {run}/checkpoints && deit-pipe train-student" in str(error.value)
    shutil.rmtree(run / "checkpoints")
    assert train(cache, run).data["steps"] == 12


def test_a_lost_pointer_is_made_again_and_never_a_new_start(cut: Path, tmp_path: Path) -> None:
    run = shutil.copytree(cut, tmp_path / "run")
    (run / "checkpoints" / "last.json").unlink()
    settle(run)
    assert last_checkpoint(run) == "00000009"


def test_a_damaged_student_is_made_again_from_the_last_checkpoint(cache: Path, whole: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    flip(run / "student.safetensors")
    with pytest.raises(Corrupt, match="make it again") as error:
        train(cache, run)
    assert error.value.cure is not None
    subprocess.run(error.value.cure.partition(": ")[2].partition(" && ")[0], shell=True, check=True)
    train(cache, run)
    assert file_sha256(run / "student.safetensors") == file_sha256(whole / "student.safetensors")


def test_a_folder_of_an_earlier_version_goes_on_and_is_vouched_for_from_then_on(
    cache: Path, cut: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(cut, tmp_path / "run")
    (run / SUMS).unlink()
    shutil.rmtree(run / "checkpoints" / "00000006")
    train(cache, run)
    assert f"{run} has no SUMS" in capsys.readouterr().err
    assert {*(read_sums(run) or {}), SUMS} == set(files(run))
    assert file_sha256(run / "student.safetensors") == file_sha256(whole / "student.safetensors")


def test_a_finished_folder_of_an_earlier_version_is_read_and_left_as_it_is(
    cache: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    (run / SUMS).unlink()
    assert "nothing to do" in train(cache, run).text
    export.run(ExportOptions(run=str(run)))
    assert capsys.readouterr().err.count("has no SUMS") == 1
    assert not (run / SUMS).exists()


def test_checkpoints_of_a_finished_run_may_be_thrown_away(cache: Path, whole: Path, tmp_path: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    assert "nothing to do" in train(cache, run).text


def test_lost_metrics_can_be_done_without_and_that_is_said(
    cache: Path, cut: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(cut, tmp_path / "run")
    flip(run / "metrics.jsonl")
    with pytest.raises(Corrupt, match="go on without the lines so far: rm"):
        train(cache, run)
    (run / "metrics.jsonl").unlink()
    train(cache, run)
    assert "goes on without its lines up to step 9" in capsys.readouterr().err
    assert '"step": 10' in (run / "metrics.jsonl").read_text().splitlines()[0]


class Killed(BaseException):
    """Nothing after it is done, as nothing is after a kill."""


def tiny(value: float) -> Checkpoint:
    return Checkpoint(
        model={"w": torch.full((4,), value)},
        optimizer={"state": {}, "param_groups": []},
        ema=None,
        random={"cpu.0": torch.zeros(8, dtype=torch.uint8)},
        state={"total": value},
    )


def short_run(run: Path) -> None:
    """What a run writes, in its order, without its training."""
    begin(run, {"lr": 1.0, "command": "deit-pipe train-student"})
    put_json(run, "student.json", {"model": "custom"})
    for step in (1, 2, 3, 4):
        if step % 2:
            save_weights(run, "best.safetensors", {"w": torch.full((4,), float(step))})
        save_checkpoint(run, tiny(float(step)), f"{step:08d}")


def killing(patch: pytest.MonkeyPatch, after: int) -> Callable[[], int]:
    """Kill at the event of this number: events are fsyncs, renames and removals; returns how many there were."""
    events = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def do(*args: Any, **more: Any) -> Any:
            nonlocal events
            events += 1
            if events > after:
                raise Killed
            return original(*args, **more)

        return do

    patch.setattr(durable_files.os, "fsync", counted(lambda handle: None))
    patch.setattr(Path, "replace", counted(Path.replace))
    patch.setattr(Path, "unlink", counted(Path.unlink))
    patch.setattr(shutil, "rmtree", counted(shutil.rmtree))
    return lambda: events


def test_a_kill_at_any_instant_never_looks_like_damage_and_loses_no_saved_step(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        count = killing(patch, 10**6)
        short_run(tmp_path / "all")
        total = count()
    assert total > 80
    reached = 0
    for after in range(total):
        run = tmp_path / f"{after}"
        with pytest.MonkeyPatch.context() as patch:
            killing(patch, after)
            with pytest.raises(Killed):
                short_run(run)
        begin(run, {"lr": 1.0, "command": "deit-pipe train-student"})
        loaded = load_checkpoint(run)
        step = 0 if loaded is None else int(loaded.state["total"])
        assert reached <= step
        reached = step
        if loaded is not None:
            assert torch.equal(loaded.model["w"], torch.full((4,), float(step)))
            assert not [name for name in files(run) if name.endswith(".partial")]
            settle(run)  # twice is the same
    assert reached >= 3


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_every_file_has_the_mode_that_the_umask_gives(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        short_run(tmp_path / "run")
        modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "run").rglob("*") if path.is_file()}
    finally:
        os.umask(before)
    assert modes == {0o666 & ~mask}


def test_a_link_in_a_strangers_folder_leads_nowhere(cache: Path, cut: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    for name in (".lock", "metrics.jsonl", "config.json.partial", "SUMS.partial", "best.safetensors.partial"):
        run = shutil.copytree(cut, tmp_path / f"run-{name}")
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(outside)
        with contextlib.suppress(Corrupt, OSError):
            train(cache, run)
        assert outside.read_text() == "precious"


def test_a_pipe_is_refused_and_not_waited_for(cut: Path, cache: Path, tmp_path: Path) -> None:
    for name in ("config.json", "SUMS", "best.safetensors"):
        run = shutil.copytree(cut, tmp_path / f"run-{name}")
        (run / name).unlink()
        os.mkfifo(run / name)
        with pytest.raises((Corrupt, OSError), match=name):
            train(cache, run)


def test_sums_that_lead_out_of_the_folder_or_repeat_a_name_are_refused(tmp_path: Path) -> None:
    good = {"a": "0" * 64}
    for text in (
        sums_text({"../a": "0" * 64}),
        sums_text({"/etc/passwd": "0" * 64}),
        sums_text({"a\x1b]0;x": "0" * 64}),
        sums_text(good).replace("a\n", "b\n", 1),
        sums_text(good)[:-1],
        sums_text(good) + "\n",
        "",
        "\n" * 100,
    ):
        (tmp_path / SUMS).write_text(text)
        with pytest.raises(Corrupt, match="SUMS is damaged"):
            read_sums(tmp_path)
    (tmp_path / SUMS).write_text(sums_text(good))
    assert read_sums(tmp_path) == good


def test_a_command_that_is_shown_for_pasting_is_only_ever_our_own(tmp_path: Path) -> None:
    own = "deit-pipe train-student --out 'a b'"
    for command, shown in (
        (own, own),
        ("rm -rf ~", f"deit-pipe train-student --out {tmp_path}"),
        ("deit-pipe train-student; rm -rf ~", f"deit-pipe train-student --out {tmp_path}"),
        ("deit-pipe train-student --out $(rm x)", f"deit-pipe train-student --out {tmp_path}"),
        ("deit-pipe train-student \x1b]0;x", f"deit-pipe train-student --out {tmp_path}"),
    ):
        put_json(tmp_path, "config.json", {"command": command})
        assert begun_command(tmp_path) == shown


def test_all_of_the_bits_are_covered(whole: Path, tmp_path: Path) -> None:
    """Flips all over one small file and SUMS, each seen."""
    run = shutil.copytree(whole, tmp_path / "run")
    random = np.random.default_rng(0)
    for name in ("config.json", SUMS):
        before = (run / name).read_bytes()
        for place in random.integers(0, len(before), 60).tolist():
            data = bytearray(before)
            data[place] ^= 1 << int(random.integers(8))
            (run / name).write_bytes(data)
            with pytest.raises(Corrupt, match=name):
                check_sums(run, ["config.json"])
        (run / name).write_bytes(before)
    check_sums(run, ["config.json"])


def test_metrics_that_grow_again_after_a_run_was_finished_are_no_damage(
    cache: Path, whole: Path, tmp_path: Path
) -> None:
    """Its end and its last checkpoint were removed: it goes on, is stopped, and goes on again."""
    run = shutil.copytree(whole, tmp_path / "run")
    for name in ("student.safetensors", "result.json"):
        (run / name).unlink()
    shutil.rmtree(run / "checkpoints" / "00000012")
    stop_in_step(cache, run, 3)
    assert "metrics.jsonl" not in (read_sums(run) or {})
    train(cache, run)
    assert file_sha256(run / "student.safetensors") == file_sha256(whole / "student.safetensors")


def test_a_new_start_vouches_for_nothing_of_the_old_run(cut: Path, tmp_path: Path) -> None:
    run = shutil.copytree(cut, tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    begin(run, {"lr": 1.0})
    assert set(read_sums(run) or {}) == {"config.json"}
