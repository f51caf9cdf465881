import io
import sys

import pytest

from deit_pipe.stages.console.progress import Progress, progress
from deit_pipe.stages.console.words import human_bytes, human_duration


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1536, "1.5 kB"),
        (999_600, "1.0 MB"),
        (123_456_789, "123 MB"),
        (5e16, "50.0 PB"),
    ],
)
def test_bytes_read_well(count: float, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.26, "0.3 s"),
        (59, "59 s"),
        (75, "1 min 15 s"),
        (3700, "1 h 1 min"),
        (200_000, "2 d 7 h"),
        (float("inf"), "unknown"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_in_a_log_file_progress_is_plain_lines_and_always_a_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(Progress, "LOG_SECONDS", 0.0)
    with progress("caching", 100, "views", done=40) as shown:
        shown.advance(30, "loss 1.0")
        shown.advance(30)
    lines = log.getvalue().splitlines()
    assert lines[0].startswith("caching: 70/100 views (70%), ")
    assert lines[0].endswith("left  loss 1.0")
    assert lines[-1].startswith("caching: 100/100 views in ")
    assert "\x1b" not in log.getvalue()


def test_quiet_progress_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with progress("x", 3, "views", quiet=True) as shown:
        shown.advance(3)
    assert log.getvalue() == ""


def test_what_an_earlier_run_did_is_not_in_the_rate() -> None:
    shown = Progress("x", 10, "views", done=9, quiet=True)
    assert shown.rate == 0
