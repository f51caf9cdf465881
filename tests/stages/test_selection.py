"""`best` comes from validation images only; test images are for the last word; with neither nothing is measured."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from stage_fakes import student_options

from deit_pipe.pipeline.data_set import open_data
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages import evaluate, train_student
from deit_pipe.stages.console.errors import Mismatch, Missing
from deit_pipe.stages.opened.cache import OpenedCache
from deit_pipe.stages.options.evaluate import EvaluateOptions
from deit_pipe.stages.options.run_report import RunReportOptions
from deit_pipe.stages.report import run as report
from deit_pipe.stages.training.evaluation import evaluate_student
from deit_pipe.stages.training.fit import Fit
from deit_pipe.stages.training.run_folder import weights_file


@pytest.fixture
def splits(data: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Say which split the 32 held-out images are."""

    def choose(role: str) -> None:
        found = open_data(str(data))
        chosen = replace(found, val=found.test if "val" in role else None, test=found.test if "test" in role else None)
        monkeypatch.setattr(OpenedCache, "open_images", lambda *_: chosen)

    return choose


def epochs_of(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "epoch"]


@pytest.mark.parametrize("select", ["model", "ema"])
def test_test_images_are_looked_at_once_and_select_nothing(
    select: str, splits: Any, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits("test")
    looked: list[int] = []
    original = Fit._scores

    def counting(self: Fit, split: str, table: SampleTable) -> Any:
        looked.append(self.position.total)
        return original(self, split, table)

    monkeypatch.setattr(Fit, "_scores", counting)
    run = tmp_path / "run"
    done = train_student.run(student_options(cache, run, epochs=3, ema=0.9, select=select))
    data = done.data
    assert looked == [18]  # by the student and its average, after the last step
    assert "val" not in data
    assert set(data["test"]) == set(data["test_ema"]) == {"class", "dist", "fused", "fused_softmax"}
    assert (data["selected"], data["split"]) == ("test_ema" if select == "ema" else "test", "test")
    assert data["best"] is None
    assert all("val" not in line and "test" not in line for line in epochs_of(run))
    assert "32 test images, chance 25.00%" in done.text
    assert "no validation images, so nothing was selected" in done.text
    assert not (run / "best.safetensors").exists()
    with pytest.raises(Missing, match="has no best weights") as error:
        evaluate.run(EvaluateOptions(run=str(run), weights="best", workers=0, device="cpu"))
    assert "--weights result" in str(error.value).splitlines()[-1]
    page = report(RunReportOptions(run=str(run)))
    assert page.data["run"]["best"] is None
    assert page.data["run"]["test"] == data[data["selected"]]
    assert "test top-1" in page.text
    assert "test images" in (run / "report.html").read_text(encoding="utf-8")


def test_with_validation_images_the_test_images_are_left_alone(splits: Any, cache: Path, tmp_path: Path) -> None:
    splits("val test")
    data = train_student.run(student_options(cache, tmp_path / "run")).data
    assert "test" not in data
    assert (data["selected"], data["split"], data["images"]) == ("val", "val", 32)
    assert data["best"]["top1"] == max(line["val"]["fused"]["top1"] for line in epochs_of(tmp_path / "run"))
    assert load_file(tmp_path / "run" / weights_file(tmp_path / "run", "best"))


def test_with_neither_nothing_is_measured_and_the_page_still_works(splits: Any, cache: Path, tmp_path: Path) -> None:
    splits("none")
    done = train_student.run(student_options(cache, tmp_path / "run"))
    assert "val" not in done.data
    assert "test" not in done.data
    assert (done.data["split"], done.data["near_chance"], done.data["best"]) == (None, None, None)
    assert "not evaluated: the data has no validation images" in done.text
    assert "not evaluated" in report(RunReportOptions(run=str(tmp_path / "run"))).text


def test_a_run_that_stopped_before_its_last_word_says_it_when_it_goes_on(
    splits: Any, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits("test")
    whole = train_student.run(student_options(cache, tmp_path / "whole")).data
    with monkeypatch.context() as patch:
        patch.setattr(Fit, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_student.run(student_options(cache, tmp_path / "cut"))
    assert train_student.run(student_options(cache, tmp_path / "cut")).data["test"] == whole["test"]


def test_test_images_of_other_classes_are_refused(
    data: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = replace(open_data(str(data)), val=None, test=open_data("digits").val)
    monkeypatch.setattr(OpenedCache, "open_images", lambda *_: chosen)
    with pytest.raises(Mismatch, match="has other classes than the cached images"):
        train_student.run(student_options(cache, tmp_path / "run"))


def test_the_teachers_accuracy_is_kept_and_said(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Fit.__init__

    def knowing(self: Fit, **values: Any) -> None:
        original(self, **{**values, "teacher": (0.875, "val")})

    monkeypatch.setattr(Fit, "__init__", knowing)
    done = train_student.run(student_options(cache, tmp_path / "run", epochs=1))
    assert done.data["teacher_top1"] == 0.875
    assert "teacher 87.50%" in done.text


def test_evaluation_skips_images_without_a_label(data: Path, cache: Path, tmp_path: Path) -> None:
    import torch

    from deit_pipe.stages.machine.distributed import Processes
    from deit_pipe.stages.networks.student import load_student
    from deit_pipe.stages.networks.teacher import load_teacher

    cpu = torch.device("cpu")
    alone = Processes(0, 1, cpu)
    train_student.run(student_options(cache, tmp_path / "run", epochs=1))
    facts, model = load_student(tmp_path / "run", cpu)
    table = open_data(str(data)).test
    assert table is not None
    teacher = load_teacher("test_resnet", weights="random", num_classes=4, class_names=table.class_names, device=cpu)
    everything = evaluate_student(model, facts, table, alone, teacher=teacher)
    assert all(values["top5"] is None for values in everything.values())  # of 4 classes
    # images whose answer is right lose their label: what is left is wrong, and the agreement does not change
    with torch.inference_mode():
        from deit_pipe.pipeline.compose import compose, normalise
        from deit_pipe.pipeline.loader import load_views
        from deit_pipe.stages.opened.plain_views import eval_cells, eval_plan, eval_recipe

        recipe = eval_recipe(facts.crop_ratio)
        views = next(iter(load_views(table, recipe, eval_plan(32), eval_cells(32, 32), image_size=facts.image_size)))
        said = model(normalise(compose(views, recipe), facts.mean, facts.std)).argmax(dim=1)
    right = [int(s) for s, ok in zip(views.samples, said == views.labels, strict=True) if ok]
    wrong = [int(s) for s, ok in zip(views.samples, said == views.labels, strict=True) if not ok]
    kept = len(table) - len(right)
    assert 0 < kept < 32
    table.labels = table.labels.copy()
    table.labels[wrong[1:]] = -1
    some = evaluate_student(model, facts, table, alone, batch_size=7)
    assert some["fused"]["top1"] == pytest.approx(len(right) / (len(right) + 1))
    table.labels[right] = -1
    part = evaluate_student(model, facts, table, alone, teacher=teacher, batch_size=5)
    assert part["fused"]["top1"] == 0
    assert part["fused"]["agree"] == everything["fused"]["agree"]
    table.labels[:] = -1
    with pytest.raises(Missing, match="no labelled image to evaluate on"):
        evaluate_student(model, facts, table, alone)
