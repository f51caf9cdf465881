"""The README's Python is true: each snippet runs from its text, in a folder with a cache."""

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from answering_fakes import write_student
from stage_fakes import cache_options, write_idx

from deit_pipe.stages import cache_teacher, features
from deit_pipe.stages.options.use.features import FeaturesOptions

MODEL = "deit_tiny_distilled_patch16_224"
README = Path(__file__).parent.parent / "README.md"


def snippet(heading: str) -> str:
    """The fenced Python below a heading of the README."""
    text = README.read_text(encoding="utf-8")
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert found, f"the README has no heading {heading!r}"
    blocks = re.findall(r"```python\n(.*?)```", found[1], flags=re.DOTALL)
    assert len(blocks) == 1, f"one snippet below {heading!r}, not {len(blocks)}"
    code: str = blocks[0]
    return code


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `teacher-cache`: two epochs of 96 images."""
    root = tmp_path_factory.mktemp("readme")
    data = write_idx(root / "data")
    cache_teacher.run(cache_options(data, root / "teacher-cache"))
    return root


@pytest.mark.parametrize("heading", ["In your own loop", "In timm's tasks"])
def test_it_runs_and_trains(heading: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = snippet(heading)
    monkeypatch.chdir(place)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(compile(code, f"README.md, {heading}", "exec"), names)
    student, cache = names["student"], names["cache"]
    torch.manual_seed(0)
    fresh = timm.create_model(MODEL, img_size=cache.image_size, num_classes=len(cache.class_names)).state_dict()
    trained = student.state_dict()
    moved = [name for name, value in fresh.items() if not torch.equal(value, trained[name])]
    assert {"head.weight", "head_dist.weight", "dist_token"} <= set(moved)
    assert all(bool(torch.isfinite(value).all()) for value in trained.values())


def test_the_search_finds_a_picture_itself_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "student").mkdir()
    run = write_student(place / "student", tuple("0123"))
    out = str(place / "photos.parquet")
    features.run(FeaturesOptions(run=str(run), data=str(place / "data"), out=out, device="cpu", workers=0))
    monkeypatch.chdir(place)
    names: dict[str, Any] = {}
    exec(compile(snippet("Search by picture"), "README.md, Search by picture", "exec"), names)
    found = names["found"]
    assert len(set(found)) == 5
    assert found[0] == names["table"]["key"][0].as_py()
