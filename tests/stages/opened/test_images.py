"""Images are opened as chosen, what a cache recorded is taken from it, and a split is never mistaken for another."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stage_fakes import cache_options, student_options, write_idx

from deit_pipe.pipeline.data_set import DataChoice
from deit_pipe.pipeline.samples import ArraySamples
from deit_pipe.stages import cache_teacher, evaluate, inspect_cache, train_student
from deit_pipe.stages.console.errors import Mismatch, Missing
from deit_pipe.stages.opened.cache import open_cache
from deit_pipe.stages.opened.images import (
    labelled_part,
    open_images,
    pick_split,
)
from deit_pipe.stages.options.evaluate import EvaluateOptions
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions


def test_a_cache_records_the_choice_and_stage_two_opens_the_same_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_idx(tmp_path / "data", train=80, val=32)
    cache, run = tmp_path / "cache", tmp_path / "run"
    chosen = {
        "val_split": None,
        "val_fraction": 0.25,
        "fraction": 0.5,
        "labelled_fraction": 0.5,
        "subset_seed": 3,
    }
    cache_teacher.run(cache_options(data, cache, recipe="small", epochs=1, batch_size=10, block=10, **chosen))
    opened = open_cache(str(cache))
    assert opened.choice == DataChoice(**chosen)
    found = opened.open_images()
    assert (len(found.train), len(found.val or ()), len(found.test or ())) == (30, 20, 32)
    assert int((found.train.labels >= 0).sum()) == 15
    assert inspect_cache.run(InspectCacheOptions(cache=str(cache), replay="all")).exit_code == 0
    capsys.readouterr()
    result = train_student.run(student_options(cache, run, epochs=1, batch_size=10))
    assert "30 images" in capsys.readouterr().err
    assert set(result.data) >= {"val"}
    for split, count in ((None, 20), ("val", 20), ("test", 32), ("train", 30)):
        measured = evaluate.run(EvaluateOptions(run=str(run), split=split, device="cpu", workers=0))
        assert (measured.data["split"], measured.data["images"]) == (split or "val", count)
        assert f"{count} {split or 'val'} images" in measured.text


def test_a_cache_goes_on_with_its_choice_and_refuses_another(tmp_path: Path) -> None:
    data, cache = write_idx(tmp_path / "data"), tmp_path / "cache"
    cache_teacher.run(cache_options(data, cache, recipe="small", epochs=1, val_split=None, fraction=0.5))
    again = cache_teacher.run(
        cache_options(data, cache, recipe="small", epochs=2, val_split=None)
    )  # as recorded
    assert again.data["blocks"] == 4
    with pytest.raises(Mismatch, match=r"--fraction: cached 0\.5 {3}given 0\.25") as caught:
        cache_teacher.run(cache_options(data, cache, recipe="small", epochs=2, val_split=None, fraction=0.25))
    assert caught.value.exit_code == 4


def test_other_images_without_splits_are_measured_whole(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train_student.run(student_options(cache, run, epochs=1))
    others = write_idx(tmp_path / "others", train=24, val=8)
    (others / "t10k-images-idx3-ubyte").unlink()
    (others / "t10k-labels-idx1-ubyte").unlink()
    measured = evaluate.run(EvaluateOptions(run=str(run), data=str(others), device="cpu", workers=0))
    assert (measured.data["split"], measured.data["images"]) == ("train", 24)
    assert "all of its images are used" in capsys.readouterr().err
    with pytest.raises(Missing, match="has no val split"):
        evaluate.run(EvaluateOptions(run=str(run), data=str(others), split="val", device="cpu", workers=0))


def test_what_has_no_label_teaches_no_teacher(capsys: pytest.CaptureFixture[str]) -> None:
    table = ArraySamples(
        "x", np.arange(6, dtype=np.uint8).reshape(6, 1, 1), np.asarray([0, -1, 1, -1, 0, 1]), "ab"
    )
    part = labelled_part(table)
    assert part.labels.tolist() == [0, 1, 0, 1]
    assert [int(np.asarray(part.read(i))[0, 0]) for i in range(4)] == [0, 2, 4, 5]
    assert "4 of 6" in capsys.readouterr().err
    with pytest.raises(Missing, match="no image of x has a label"):
        labelled_part(ArraySamples("x", table.pixels, np.full(6, -1), "ab"))


def test_pick_split_says_what_there_is() -> None:
    found = open_images("digits", DataChoice())
    assert pick_split(found, None)[0] == "val"
    assert pick_split(replace(found, val=None, test=found.val), None)[0] == "test"
    with pytest.raises(Missing, match=r"has no test split\n  splits there: train, val"):
        pick_split(found, "test")
