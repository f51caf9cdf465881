"""The examples in docstrings of what users import give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WITH_EXAMPLES = sorted(
    path.relative_to(ROOT)
    for folder in ("pipeline", "stages", "store")
    for path in (ROOT / folder).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=str)
def test_examples_are_true(path: Path) -> None:
    module = importlib.import_module("deit_pipe." + ".".join(path.with_suffix("").parts))
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_what_users_import_has_examples() -> None:
    assert {str(path) for path in WITH_EXAMPLES} >= {
        "pipeline/plan.py",
        "pipeline/recipe.py",
        "pipeline/sources/open_samples.py",
        "store/formats.py",
    }
