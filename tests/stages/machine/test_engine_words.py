import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from stage_fakes import cache_options, student_options

from deit_pipe.pipeline.native import engine
from deit_pipe.stages import cache_teacher, train_student
from deit_pipe.stages.machine.engine_words import engine_line
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


def test_the_version_does_not_import_torch() -> None:
    program = "import sys; import deit_pipe.stages.machine.engine_words; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
