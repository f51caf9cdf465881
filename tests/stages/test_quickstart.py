from pathlib import Path

import pytest
from PIL import Image

from deit_pipe.stages import quickstart
from deit_pipe.stages.options.quickstart import QuickstartOptions


def test_quickstart_does_the_whole_job_and_a_second_call_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quickstart, "TEACHER", "test_resnet")
    monkeypatch.setattr(quickstart, "TEACHER_EPOCHS", 3)  # one epoch teaches too little to pass the gate
    monkeypatch.setattr(quickstart, "CACHED_EPOCHS", 1)
    options = QuickstartOptions(out=str(tmp_path / "q"), seeds=2, epochs=1, device="cpu")
    result = quickstart.run(options)
    rows = {(row["loss"], row["head"]): row for row in result.data["students"]}
    assert set(rows) == {
        ("none", "class"),
        *((loss, head) for loss in ("hard", "soft") for head in ("class", "dist", "fused")),
    }
    assert all(0 <= row["top1_mean"] <= 1 and row["seeds"] == 2 for row in rows.values())
    assert result.data["cache"]["complete"]
    with Image.open(tmp_path / "q" / "predictions.png") as picture:
        assert picture.size[0] > 900
    for text in ("teacher", "distillation has nothing to add", "next: deit-pipe inspect-cache"):
        assert text in result.text
    again = quickstart.run(options)
    assert again.data["students"] == result.data["students"]


def test_spread_is_mean_and_half_range() -> None:
    scores = [{"class": {"top1": value}} for value in (0.9, 0.96, 0.93)]
    mean, half = quickstart.spread(scores, "class")
    assert mean == pytest.approx(0.93)
    assert half == pytest.approx(0.03)
