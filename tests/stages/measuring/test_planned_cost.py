"""What a cache would cost while there are no images: arithmetic by hand, and bytes from the measured table."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from deit_pipe.cli import main
from deit_pipe.stages.measuring.planned_cost import planned_epochs, stored_bytes

RESULTS = Path(__file__).parents[2] / "benchmarks" / "RESULTS.md"


def section(name: str) -> str:
    """Text of one section of the results."""
    return RESULTS.read_text(encoding="utf-8").partition(f"## {name}\n")[2].partition("\n## ")[0]


def test_imagenet_by_hand() -> None:
    one = planned_epochs(1_281_167, 1000, 100, rate=1000.0)
    assert one.views == 128_116_700
    assert one.teacher_seconds == pytest.approx(35.59 * 3600, rel=1e-3)
    assert (one.reuse, one.pays_after) == (3.0, pytest.approx(1 / 3))
    assert one.bytes["dense"] == pytest.approx(128_116_700 * (1618.23 + 4.03), rel=1e-6)
    assert planned_epochs(10, 10, 300, 7.0).pays_after == pytest.approx(1.0)  # as often as the student: nothing saved


def test_the_bytes_are_the_measured_ones() -> None:
    rows = {
        cells[0]: float(cells[6])
        for line in section("Store: bytes and rounding of every format").splitlines()
        if len(cells := [cell.strip(" *") for cell in line.strip("|").split("|")]) > 7 and cells[6][:1].isdigit()
    }
    for name, size in stored_bytes(1000).items():
        assert size == pytest.approx(rows[name], abs=0.02), name


def test_fewer_classes_take_less_and_no_more_are_kept_than_there_are() -> None:
    few, many = stored_bytes(5), stored_bytes(1000)
    assert few["none"] < many["none"]
    assert few["dense"] == pytest.approx(few["none"] + (many["dense"] - many["none"]) / 200)
    assert few["topk:10"] - few["none"] == pytest.approx((many["topk:10"] - many["none"]) / 2)


def test_the_command_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["cache-teacher", "--teacher", "regnety_160", "--data", "nowhere", "--samples", "1281167"]
    done = CliRunner().invoke(main, [*words, "--estimate", "--epochs", "50", "--set", "teacher-rate=2000", "--json"])
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert (data["samples"], data["classes"]) == (1_281_167, 1000)
    assert [one["epochs"] for one in data["planned"]] == [30, 50, 100, 300]
    assert data["planned"][1]["teacher_seconds"] == pytest.approx(1_281_167 * 50 / 2000)
    assert not list(tmp_path.iterdir())
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 2
    assert "give --estimate too" in refused.output
