"""What the system refuses, in every command: a message with a cure and its exit code, never a traceback."""

import builtins
import errno
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from stage_fakes import cache_options, student_options

from deit_pipe.cli import main
from deit_pipe.stages import cache_teacher, train_student
from deit_pipe.stages.networks import durable_files

QUICK = ["--workers", "0", "--device", "cpu", "--batch-size", "16"]
# what is met -> exit code: 2 this place cannot work, 3 later it may, 5 look at the disk
MET = {errno.ENOSPC: 3, errno.EROFS: 2, errno.EACCES: 2, errno.EIO: 5, errno.ESTALE: 3, errno.EDQUOT: 3}


@pytest.fixture(scope="module")
def run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("done") / "run"
    train_student.run(student_options(cache, folder, epochs=1))
    return folder


def call(words: list[str]) -> Result:
    return CliRunner().invoke(main, words)


def refuse(patch: pytest.MonkeyPatch, below: Path, number: int) -> None:
    """Let every opening of a file below a folder fail."""

    def failing(original: Callable[..., Any]) -> Callable[..., Any]:
        def do(file: Any, *args: Any, **more: Any) -> Any:
            if not isinstance(file, int) and os.fspath(file).startswith(str(below)):
                raise OSError(number, os.strerror(number), os.fspath(file))
            return original(file, *args, **more)

        return do

    for module in (builtins, io, os):
        patch.setattr(module, "open", failing(module.open))


def check(result: Result, code: int) -> None:
    lines = result.stderr.splitlines()
    at = next(place for place, line in enumerate(lines) if line.startswith("error: "))
    assert len(lines) - at >= 2, result.stderr  # and its cure
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit | None)
    assert result.exit_code == code, result.output


COMMANDS: dict[str, list[str]] = {
    "train-student": [
        "train-student",
        "--cache",
        "{cache}",
        "--out",
        "{place}/run",
        "--student",
        "custom:16x2x2",
        *QUICK,
    ],
    "cache-teacher": [
        *["cache-teacher", "--teacher", "test_resnet", "--teacher-weights", "random", "--data", "{data}"],
        *[
            "--cache",
            "{place}/cache",
            "--img-size",
            "32",
            "--epochs",
            "1",
            "--logits",
            "none",
            "--accept-teacher",
            *QUICK,
        ],
    ],
    "train-teacher": [
        *["train-teacher", "--teacher", "test_resnet", "--data", "{data}", "--out", "{place}/t", "--init", "scratch"],
        *["--epochs", "1", *QUICK],
    ],
    "export": ["export", "{run}", "--out", "{place}/s"],
    "compare": ["compare", "{run}", "--csv", "{place}/rows.csv"],
    "report": ["report", "{run}", "--out", "{place}/page.html"],
    "show-views": ["show-views", "{data}", "--out", "{place}/views.png"],
    "inspect-cache": ["inspect-cache", "{place}"],
    "evaluate": ["evaluate", "{place}", "--device", "cpu", "--workers", "0"],
}


def words_of(command: str, **places: Path) -> list[str]:
    return [word.format(**places) for word in COMMANDS[command]]


@pytest.mark.parametrize("number", MET, ids=errno.errorcode.__getitem__)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_place_that_fails_is_named_with_a_cure(
    command: str, number: int, cache: Path, data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    if command == "inspect-cache":
        shutil.copytree(cache, place)
    elif command == "evaluate":
        shutil.copytree(run, place)
    else:
        place.mkdir()
    words = words_of(command, cache=cache, data=data, run=run, place=place)
    with monkeypatch.context() as patch:
        refuse(patch, place, number)
        result = call(words)
    check(result, MET[number])
    assert str(place) in result.stderr


@pytest.mark.parametrize("command", ["train-student", "cache-teacher", "train-teacher", "export", "report"])
def test_an_output_path_that_goes_through_a_file_is_refused(
    command: str, cache: Path, data: Path, run: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.write_text("a file")
    check(call(words_of(command, cache=cache, data=data, run=run, place=place)), 2)
    assert place.read_text() == "a file"


def test_a_disk_that_fills_up_while_a_run_saves_keeps_the_checkpoint_before(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = words_of("train-student", cache=cache, place=tmp_path)
    words += ["--epochs", "2", "--set", "checkpoint-steps=2"]
    sync, count = os.fsync, 0

    def filling(handle: int) -> None:
        nonlocal count
        count += 1
        if count > 30:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(durable_files.os, "fsync", filling)
        result = call(words)
    check(result, 3)
    assert f"no space left for {tmp_path}/run/" in result.stderr  # fsync itself names no file
    assert call(words).exit_code == 0
    assert call([*words[:4], f"{tmp_path}/other", *words[5:]]).exit_code == 0
    one, other = (load_file(tmp_path / name / "student.safetensors") for name in ("run", "other"))
    assert all((one[name] == other[name]).all() for name in one)


def test_a_file_system_that_cannot_sync_folders_or_link_is_no_obstacle(
    cache: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def files_only(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):  # noqa: PTH112
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(handle)

    monkeypatch.setattr(os, "fsync", files_only)
    cache_teacher.run(cache_options(data, tmp_path / "cache", recipe="small", epochs=1, logits="none"))
    assert train_student.run(student_options(cache, tmp_path / "run", epochs=1)).data["steps"] == 6


# -- stdout and stderr


def spoken(redirection: str, *words: str, before: str = "") -> subprocess.CompletedProcess[str]:
    line = " ".join([sys.executable, "-m", "deit_pipe.cli", *words, redirection])
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {before}{line}"], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("words", [["show-recipe", "deit"], ["show-recipe", "deit", "--json"], ["--help"]])
def test_a_full_stdout_is_said(words: list[str]) -> None:
    done = spoken(">/dev/full", *words)
    assert done.returncode == 3
    assert "no space left for" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("words", [["show-recipe", "deit"], ["show-recipe", "deit", "--json"]])
def test_a_reader_that_went_away_is_no_error_worth_a_word(words: list[str]) -> None:
    done = spoken("| true", *words)
    assert done.returncode in (0, 141)  # 0: it was written before the reader went
    assert done.stderr == ""


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "2>/dev/full", "<&- >&-"])
def test_closed_streams_and_a_full_stderr_stop_no_work(redirection: str) -> None:
    assert spoken(redirection, "show-recipe", "deit").returncode == 0


def test_a_limit_that_a_library_meets_is_said_with_the_file(tmp_path: Path) -> None:
    done = spoken("", "pack", "--data", "digits", "--out", str(tmp_path / "packed"), before="ulimit -f 20; ")
    assert done.returncode == 3
    assert f"the file system takes no file as large as {tmp_path}/packed/train.arrow" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_stderr_does_not_hide_an_exit_code(tmp_path: Path) -> None:
    assert spoken("2>/dev/full", "inspect-cache", str(tmp_path)).returncode == 3
