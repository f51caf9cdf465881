"""What an inspection of the golden cache says, word for word and value for value, is what it said before."""

import json
from pathlib import Path
from typing import Any

import pytest
from golden.regenerate_inspection import CASES, EXPECTED, collect

WHOLE = json.loads(EXPECTED.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return collect(tmp_path_factory.mktemp("golden"))


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Every single value with its path; an empty list or dictionary is a value too."""
    if isinstance(value, dict) and value:
        return {k: v for key, part in value.items() for k, v in flat(part, f"{name}/{key}").items()}
    if isinstance(value, list) and value:
        return {k: v for i, part in enumerate(value) for k, v in flat(part, f"{name}/{i}").items()}
    return {name: value}


@pytest.mark.parametrize("case", CASES)
def test_nothing_that_a_person_or_a_program_sees_has_changed(case: str, found: dict[str, Any]) -> None:
    now, then = flat(found[case]), flat(WHOLE[case])
    assert list(now) == list(then)  # keys, and their order
    for name, value in then.items():
        # sums of floats may differ in their last bit on another processor
        assert now[name] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value), name


def test_the_cases_differ(tmp_path: Path) -> None:
    """A file that says nothing would be equal too."""
    assert [WHOLE[case]["exit"] for case in CASES] == [0, 0, 5, 5, 0, 0, 0, 0, 0, 0, 4, 0, 5]
    assert len(flat(WHOLE)) > 1500
