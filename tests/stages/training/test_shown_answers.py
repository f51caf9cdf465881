"""What the end of a run keeps for its page is what `evaluate` finds of the same student."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from stage_fakes import student_options

from deit_pipe.stages import evaluate, report, train_student
from deit_pipe.stages.options.evaluate import EvaluateOptions
from deit_pipe.stages.options.run_report import RunReportOptions
from deit_pipe.stages.training.shown_answers import KEPT, encoded


def test_it_is_what_evaluate_says_and_the_run_vouches_for_it(cache: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_student.run(student_options(cache, run, epochs=2))
    shown = json.loads((run / "shown.json").read_text())
    found = evaluate.run(EvaluateOptions(run=str(run), per_class=True, device="cpu", workers=0)).facts
    assert found.per_class is not None
    rows = [
        {"class": one.class_, "images": one.images, "right": round(one.top1 * one.images)} for one in found.per_class
    ]
    assert shown["classes"] == rows
    assert sum(row["right"] for row in rows) == round(found.scores[shown["answer"]].top1 * found.images)
    right = [one["said"][shown["answer"]][0] == one["class"] for one in shown["pictures"]]
    assert right == sorted(right)  # wrong ones first
    wrong = sum(row["images"] - row["right"] for row in rows)
    assert right.count(False) == min(KEPT, wrong) > 0
    for one in shown["pictures"]:
        assert set(one["said"]) == {"fused", "class", "dist"}
        assert Image.open(io.BytesIO(base64.b64decode(one["data"]))).size == (32, 32)
    assert " shown.json\n" in (run / "SUMS").read_text()
    report.run(RunReportOptions(run=str(run)))
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.count("<img ") == len(shown["pictures"])
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_small_pictures_lose_nothing_and_large_ones_are_small() -> None:
    pixels = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    kind, data = encoded(pixels)
    assert kind == "png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    noise = torch.randint(0, 256, (384, 384, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    kind, data = encoded(noise.numpy())
    assert (kind, Image.open(io.BytesIO(data)).size) == ("jpeg", (96, 96))
    assert len(data) < 10_000
