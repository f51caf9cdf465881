from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from stage_fakes import cache_options, student_options

from deit_pipe.stages import cache_teacher, train_student
from deit_pipe.stages.machine.watched_views import watched


class Batch(SimpleNamespace):
    def __len__(self) -> int:
        return 8


def batches(left: list[int]) -> Iterator[Batch]:
    yield from (Batch(left_to_pillow=number) for number in left)


class Clock:
    """Seconds that pass while a batch is made, and while it is used."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(count: int, making: float, using: float, quiet: bool = False, shares_cores: bool = False) -> None:
    clock = Clock()

    def slow() -> Iterator[Batch]:
        clock.now += 100  # start-up, which is no waiting
        for batch in batches([0] * count):
            yield batch
            clock.now += making

    for _ in watched(slow(), "student", 3, shares_cores=shares_cores, quiet=quiet, clock=clock):
        clock.now += using


@pytest.mark.parametrize(("count", "lines"), [(100, 1), (8, 1), (3, 0), (1, 0)])
def test_waiting_is_said_once(count: int, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A batch of 8 takes 0.75 s to make and 0.25 s to use: 8 views a second come, 32 could be used."""
    run(count, 0.75, 0.25)
    said = capsys.readouterr().err
    assert said.count("waiting for views") == lines
    if lines:
        assert "goes into waiting for views: views are the limit: 3 " in said
        assert "deit-pipe bench" in said
    if count == 100:
        assert "note: 75% of the time" in said
        assert " make 8/s, this student takes 32/s" in said


@pytest.mark.parametrize("shares_cores", [True, False])
def test_where_views_and_network_share_the_cores_it_is_said(
    shares_cores: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    run(100, 0.75, 0.25, shares_cores=shares_cores)
    assert ("; they share the cores with the student" in capsys.readouterr().err) == shares_cores


def test_who_hardly_waits_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    run(100, 0.02, 0.98)
    run(100, 0.75, 0.25, quiet=True)
    assert capsys.readouterr().err == ""


def test_views_left_to_pillow_are_said_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(list(watched(batches([0, 2, 1]), "teacher", 2))) == 3
    assert "note: 3 of 24 views were left to Pillow" in capsys.readouterr().err
    assert len(list(watched(batches([0, 0]), "teacher", 2))) == 2
    assert len(list(watched(batches([1]), "teacher", 2, quiet=True))) == 1
    assert capsys.readouterr().err == ""
    closed = watched(batches([5, 5]), "teacher", 2)
    next(closed)
    closed.close()  # type: ignore[attr-defined]
    assert "5 of 8" in capsys.readouterr().err


def test_a_stage_says_what_was_left(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 2 epochs of 96 views each every one, and of one epoch of the student as well."""
    from deit_pipe.pipeline import cells

    real = cells.render_views
    monkeypatch.setattr(cells, "render_views", lambda *given: real(*given) + len(given[1]))
    cache_teacher.run(cache_options(data, tmp_path / "cache", recipe="basic"))
    assert "192 of 192 views were left to Pillow" in capsys.readouterr().err
    train_student.run(student_options(tmp_path / "cache", tmp_path / "run", epochs=1))
    assert "96 of 96 views were left to Pillow" in capsys.readouterr().err
