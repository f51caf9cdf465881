import json
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
    for (loss, head), row in rows.items():  # the mean and half the range of what the runs' own folders say
        folders = [tmp_path / "q" / f"student-{loss}-{seed}" for seed in range(2)]
        top1 = [json.loads((one / "result.json").read_text())["val"][head]["top1"] for one in folders]
        assert row["top1_mean"] == pytest.approx(sum(top1) / 2)
        assert row["top1_spread"] == pytest.approx(abs(top1[0] - top1[1]) / 2)
        assert row["seeds"] == 2
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
