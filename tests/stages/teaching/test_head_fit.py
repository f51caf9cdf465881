"""A fitted head is measured by its accuracy, and by something else than the product's own measuring."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from teacher_fakes import (
    MODEL,
    NAMES,
    PLACES,
    body,
    digits,
    honest,
    loaded,
    measured_by_hand,
    pixels,
    relabelled,
    run_folder,
    weights_file,
)

from deit_pipe.pipeline.samples import ArraySamples
from deit_pipe.stages import cache_teacher, train_teacher
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.networks.teacher import Teacher, load_teacher
from deit_pipe.stages.networks.weights import read_teacher_run
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.train_teacher import TrainTeacherOptions
from deit_pipe.stages.teaching.head_fit import fit_head
from deit_pipe.store.gates import read_gate


def body_teacher(folder: Path) -> Teacher:
    return loaded(weights_file(folder / "body.safetensors", body()), 1000)


def accuracy(teacher: Teacher, split: str = "val") -> float:
    said = teacher(pixels(split)).argmax(dim=1).numpy()
    return float((said == digits(split).labels).mean())


def options(**changed: object) -> CacheTeacherOptions:
    settings: dict[str, object] = {"teacher": "test_resnet", "epochs": 1, "workers": 0, "device": "cpu"}
    return CacheTeacherOptions(**(settings | changed))


def test_the_body_knows_the_digits_in_another_order() -> None:
    with torch.inference_mode():
        said = body()((pixels("val") - 0.5) / 0.5).argmax(dim=1).numpy()
    assert (said == PLACES[digits("val").labels]).mean() > 0.9
    assert (said == digits("val").labels).mean() < 0.05


def test_a_fitted_head_belongs_to_the_images_it_was_fitted_on(tmp_path: Path) -> None:
    fitted = fit_head(body_teacher(tmp_path), digits("train"), image_size=32, batch_size=100, workers=0)
    assert (fitted.head, fitted.class_names) == ("fitted", NAMES)
    assert accuracy(fitted) > 0.9


def test_unlabelled_images_teach_a_head_nothing(tmp_path: Path) -> None:
    labels = digits("train").labels.copy()
    hidden = np.arange(len(labels)) % 5 > 0
    labels[hidden] = -1
    fitted = fit_head(
        body_teacher(tmp_path), relabelled(digits("train"), labels), image_size=32, batch_size=64, workers=0
    )
    assert accuracy(fitted) > 0.9
    with pytest.raises(Mismatch, match="none of the 1437 images"):
        fit_head(
            body_teacher(tmp_path),
            relabelled(digits("train"), np.full(len(labels), -1)),
            image_size=32,
            batch_size=64,
            workers=0,
        )


def test_cache_teacher_on_the_digits_fits_a_head_to_a_1000_class_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = weights_file(tmp_path / "body.safetensors", body())
    first = cache_teacher.run(options(teacher_weights=str(weights)))
    assert first.data["written"] > 0
    assert measured_by_hand(tmp_path / "teacher-run") > 0.9
    gate = read_gate("teacher-cache", MODEL)
    assert gate is not None
    assert gate["decision"] == "passed"
    assert gate["accuracy"] == pytest.approx(measured_by_hand(tmp_path / "teacher-run"), abs=0.03)
    assert (gate["head"], gate["body"]) == ("fitted", str(weights))
    assert "reading features" in capsys.readouterr().err
    # the same command again neither fits nor asks again, and finds everything done
    again = cache_teacher.run(options(teacher_weights=str(weights)))
    assert "nothing to do" in again.text
    assert "reading features" not in capsys.readouterr().err
    assert read_gate("teacher-cache", MODEL) == gate


def test_the_first_command_works_with_a_hub_that_is_a_local_folder(tmp_path: Path) -> None:
    """`cache-teacher --teacher X`, no further option, the weights being in the hub's own cache."""
    home = tmp_path / "hub" / f"models--timm--{MODEL}"
    revision = "0123456789abcdef0123456789abcdef01234567"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(revision)
    (home / "snapshots" / revision).mkdir(parents=True)
    weights_file(home / "snapshots" / revision / "model.safetensors", body())
    work = tmp_path / "work"
    work.mkdir()
    environment = {
        **os.environ,
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run(
        [sys.executable, "-m", "deit_pipe.cli", "cache-teacher", "--teacher", "test_resnet", "--epochs", "1"],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert measured_by_hand(work / "teacher-run") > 0.9
    assert f"timm hub, {MODEL}" in done.stderr
    assert "blocks written" in done.stdout


def test_a_head_on_a_random_body_is_fitted_when_it_is_asked_for_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cache_teacher.run(options(teacher_weights="random", fit_head=True, recipe="eval"))
    facts = read_teacher_run(tmp_path / "teacher-run")
    assert facts is not None
    assert (facts.head, facts.body) == ("fitted", "random weights, seed 0")
    gate = read_gate("teacher-cache", MODEL)
    assert gate is not None
    assert (gate["head"], gate["body"]) == ("fitted", "random weights, seed 0")
    assert gate["decision"] != "not gated"
    assert gate["accuracy"] > 0.3  # random features know something
    assert measured_by_hand(tmp_path / "teacher-run") == pytest.approx(gate["accuracy"], abs=0.08)
    assert "fitted head on random weights, seed 0" in capsys.readouterr().err


def test_head_only_gives_a_teacher_that_knows_the_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = train_teacher.run(
        TrainTeacherOptions(
            teacher="test_resnet",
            fit_head=True,
            workers=0,
            device="cpu",
            init=str(weights_file(tmp_path / "body.safetensors", body())),
        )
    )
    assert result.data["val_top1"] > 0.9
    assert measured_by_hand(tmp_path / "teacher-run") == pytest.approx(result.data["val_top1"], abs=0.02)


def test_a_fitted_head_never_replaces_a_trained_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_folder(tmp_path / "teacher-run", honest())
    kept = (tmp_path / "teacher-run" / "model.safetensors").read_bytes()
    weights = weights_file(tmp_path / "body.safetensors", body())
    cache_teacher.run(options(teacher_weights=str(weights), recipe="eval"))
    assert (tmp_path / "teacher-run" / "model.safetensors").read_bytes() == kept
    assert measured_by_hand(tmp_path / "teacher-run-test_resnet") > 0.9
    run_folder(tmp_path / "teacher-run-test_resnet", honest())
    with pytest.raises(Mismatch, match="no place for the fitted head"):
        cache_teacher.run(options(teacher_weights=str(weights), recipe="eval"))


def test_a_head_fitted_on_other_samples_is_fitted_again(tmp_path: Path) -> None:
    """The folder of an earlier run is used only for the same body, samples and size."""
    from deit_pipe.stages.networks.teacher_head import facts_of
    from deit_pipe.stages.networks.weights import write_teacher_run
    from deit_pipe.stages.teaching.fitted_folders import was_fitted_from

    body_of = body_teacher(tmp_path)
    small = ArraySamples(
        "some", np.stack([digits("train").read(i) for i in range(200)]), digits("train").labels[:200], NAMES
    )
    fitted = fit_head(body_teacher(tmp_path), small, image_size=32, batch_size=64, workers=0)
    write_teacher_run(tmp_path / "run", facts_of(fitted, 32, None), fitted.model)
    assert was_fitted_from(tmp_path / "run", body_of, small, 32)
    assert not was_fitted_from(tmp_path / "run", body_of, digits("train"), 32)
    assert not was_fitted_from(tmp_path / "run", body_of, small, 48)
    other = load_teacher(MODEL, weights="random", num_classes=10, class_names=NAMES, device=torch.device("cpu"))
    assert not was_fitted_from(tmp_path / "run", other, small, 32)
