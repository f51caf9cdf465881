"""A few faults of mutations.toml in real runs; all of them by `python tests/mutations/mutate.py`."""

from collections import Counter
from pathlib import Path

import pytest
from mutations.mutate import REFUSED, ROOT, Workshop, read_mutations

CHOSEN = {  # one for each guard
    "crop area 1 % larger": ("fingerprint", None),
    "lambda of the partner": ("witness", None),
    "std a thousandth lower": ("probe", "witness"),
    "smoothing left out": ("witness", None),
}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


def test_without_a_fault_the_run_ends_well(workshop: Workshop) -> None:
    assert workshop.train(None).code == 0


@pytest.mark.parametrize("name", CHOSEN)
def test_a_fault_is_refused(workshop: Workshop, name: str) -> None:
    (mutation,) = [one for one in read_mutations() if one.name == name]
    guard, unprobed = CHOSEN[name]
    found = workshop.train(mutation)
    assert (found.code, found.guard) == (REFUSED, guard), found
    if unprobed is not None:
        found = workshop.train(mutation, probed=False)
        assert (found.code, found.guard) == (REFUSED, unprobed), found


def test_every_fault_still_applies_and_there_are_enough_of_each_part() -> None:
    mutations = read_mutations()
    assert len(mutations) >= 50
    assert len({(one.part, one.name) for one in mutations}) == len(mutations)
    for one in mutations:
        whole = (ROOT / one.file).read_text(encoding="utf-8")
        assert whole.count(one.old) == 1, one
        assert one.new not in whole or one.old in one.new or one.new in one.old or len(one.new) < 20, one
    parts = Counter(one.part for one in mutations)
    assert set(parts) == {"draw", "render", "loader", "compose", "labels", "normalise"}
    assert min(parts.values()) >= 5


def test_the_copy_is_what_runs(workshop: Workshop, tmp_path: Path) -> None:
    """Guards the tests above: a run that used the installed package would refuse nothing."""
    assert workshop.package.is_relative_to(workshop.folder)
    import os
    import subprocess
    import sys

    found = subprocess.run(
        [sys.executable, "-c", "import deit_pipe; print(deit_pipe.__file__)"],
        env={**os.environ, "PYTHONPATH": str(workshop.package.parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()).is_relative_to(workshop.package)
