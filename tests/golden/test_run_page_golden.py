"""What `report` says of the golden run and of made-up ones, value for value, is what it said before."""

import json
from pathlib import Path

from golden.regenerate_run_page import CASES, EXPECTED, collect


def test_nothing_that_a_person_or_a_program_sees_of_a_run_has_changed(tmp_path: Path) -> None:
    then, now = json.loads(EXPECTED.read_text(encoding="utf-8")), collect(tmp_path)
    assert list(now) == list(then)
    for case, parts in then.items():
        for name, part in parts.items():
            assert json.dumps(now[case][name], indent=1) == json.dumps(part, indent=1), f"{case}: {name}"


def test_the_cases_differ() -> None:
    """A file that says nothing would be equal too."""
    data = {case: parts["data"]["run"] for case, parts in json.loads(EXPECTED.read_text(encoding="utf-8")).items()}
    assert list(data) == list(CASES)
    assert [len(str(one["best"])) > 4 for one in data.values()] == [False, True, True, False, False]
    assert data["nothing selected"]["test"]["dist"] == {"top1": 0.25, "top5": 0.75}
