import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from stage_fakes import cache_options, student_options

from deit_pipe.pipeline.native import engine
from deit_pipe.stages import cache_teacher, train_student
from deit_pipe.stages.machine.engine_words import engine_line, say_what_is_left
from deit_pipe.stages.opened.cache import open_cache


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    engine._choose.cache_clear()
    monkeypatch.delenv(engine.VARIABLE, raising=False)
    yield
    engine._choose.cache_clear()


def test_the_line_names_engine_and_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(engine.VARIABLE, "pillow")
    assert engine_line(2) == "view engine Pillow (DEIT_PIPE_ENGINE says so), 2 processes"
    assert engine_line(1).endswith(", 1 process")
    assert engine_line(0).endswith(", in the main process")


@pytest.mark.skipif(engine._views is None, reason="the native engine is not built")
def test_the_first_line_of_both_stages_says_it_and_the_cache_records_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    identities = []
    for choice in ("sse2", "pillow"):
        monkeypatch.setenv(engine.VARIABLE, choice)
        cache = tmp_path / choice
        cache_teacher.run(cache_options(data, cache, recipe="basic", workers=1))
        said = "native, SSE2, 1 thread" if choice == "sse2" else "Pillow (DEIT_PIPE_ENGINE says so), 1 process"
        assert capsys.readouterr().err.splitlines()[0] == f"view engine {said}"
        train_student.run(student_options(cache, tmp_path / f"run-{choice}", epochs=1, workers=1))
        assert capsys.readouterr().err.splitlines()[0] == f"view engine {said}"
        opened = open_cache(str(cache))
        assert opened.provenance["engine"] == ("native sse2" if choice == "sse2" else "pillow")
        identities.append(opened.manifest.digest)
    assert identities[0] == identities[1]


def test_views_left_to_pillow_are_said_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    class Batch(SimpleNamespace):
        def __len__(self) -> int:
            return 8

    def batches(left: list[int]) -> Iterator[Batch]:
        yield from (Batch(left_to_pillow=number) for number in left)

    assert len(list(say_what_is_left(batches([0, 2, 1])))) == 3
    assert "note: 3 of 24 views were left to Pillow" in capsys.readouterr().err
    assert len(list(say_what_is_left(batches([0, 0])))) == 2
    assert len(list(say_what_is_left(batches([1]), quiet=True))) == 1
    assert capsys.readouterr().err == ""
    closed = say_what_is_left(batches([5, 5]))
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


def test_the_version_does_not_import_torch() -> None:
    program = "import sys; import deit_pipe.stages.machine.engine_words; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
