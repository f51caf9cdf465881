"""A stranger's cache: one line of error, little memory and time, nothing written, nothing obeyed by a terminal."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hostile_caches import HOSTILE, OF_THE_LAYOUT, good_cache

ALL = HOSTILE | OF_THE_LAYOUT
MOST_BYTES, MOST_SECONDS = 256_000_000, 5.0
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def tree(place: Path) -> dict[str, Any]:
    """Everything below a folder: content of files (long ones by size), targets of links."""
    found: dict[str, Any] = {}
    for path in sorted(place.rglob("*")):
        if path.is_symlink():
            found[str(path)] = path.readlink()
        elif path.is_file():
            size = path.stat().st_size
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if size < 1 << 30 else size
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What `inspect-cache` makes of each."""
    root = tmp_path_factory.mktemp("hostile")
    good = good_cache(root / "good")
    jobs: list[tuple[str, list[str]]] = [("good", ["inspect-cache", str(good), "--verify", "hash"])]
    for number, (name, hostile) in enumerate(ALL.items()):
        place = root / f"{number}" / "cache"
        shutil.copytree(good, place)
        hostile.change(place)
        shutil.rmtree(place / "copies")  # what is there twice would be read from there
        jobs.append((name, ["inspect-cache", str(place), *hostile.words]))
    before = tree(root)
    program = Path(__file__).parent.parent / "hostile_process.py"
    done = subprocess.run([sys.executable, str(program)], input=json.dumps(jobs), stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    found = dict(json.loads(line) for line in done.stdout.splitlines())
    assert found.keys() == {"good", *ALL}
    assert tree(root) == before  # nothing was written, inside or outside
    return found


def test_the_good_one_is_good(results: dict[str, dict[str, Any]]) -> None:
    assert results["good"]["code"] == 0, results["good"]["output"]


def test_there_are_forty() -> None:
    assert len(HOSTILE) >= 40


@pytest.mark.parametrize("name", ALL)
def test_a_hostile_cache_is_told_in_a_line_within_bounds(name: str, results: dict[str, dict[str, Any]]) -> None:
    hostile, found = ALL[name], results[name]
    output = found["output"]
    assert found["code"] == hostile.code, output
    assert hostile.says in output
    assert "Traceback" not in output
    assert OBEYED.search(output) is None
    assert max(map(len, output.splitlines())) < 5000
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    damage = [line for line in output.splitlines() if line.startswith("damaged ")]
    assert len(errors) + len(damage) >= (1 if hostile.code else 0), output
    assert len(errors) <= 1
    assert found["seconds"] < MOST_SECONDS
    assert found["memory"] < MOST_BYTES
