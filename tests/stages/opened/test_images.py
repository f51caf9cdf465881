"""Images are opened as chosen, what a cache recorded is taken from it, and a split is never mistaken for another."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stage_fakes import cache_options, student_options, write_idx
from view_images import encoded, photo

from deit_pipe.pipeline.data_set import DataChoice
from deit_pipe.pipeline.samples import ArraySamples
from deit_pipe.stages import cache_teacher, evaluate, inspect_cache, pack, train_student
from deit_pipe.stages.console.errors import Mismatch, Missing, UsageProblem
from deit_pipe.stages.opened.cache import open_cache
from deit_pipe.stages.opened.images import (
    labelled_part,
    open_images,
    pick_split,
)
from deit_pipe.stages.options.evaluate import EvaluateOptions
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
from deit_pipe.stages.options.pack import PackOptions


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
    again = cache_teacher.run(cache_options(data, cache, recipe="small", epochs=2, val_split=None))  # as recorded
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
    table = ArraySamples("x", np.arange(6, dtype=np.uint8).reshape(6, 1, 1), np.asarray([0, -1, 1, -1, 0, 1]), "ab")
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


def folders(root: Path, count: int = 20) -> Path:
    """Three classes of small pictures, without splits."""
    for label, name in enumerate(("ant", "bee", "cat")):
        (root / name).mkdir(parents=True)
        for i in range(count):
            (root / name / f"{i:03}.png").write_bytes(encoded(photo(100 * label + i, 16, 16), "PNG"))
    return root


def measured(run: Path, **given: Any) -> Any:
    return evaluate.run(EvaluateOptions(run=str(run), device="cpu", workers=0, **given)).data


def test_a_run_is_measured_on_the_images_that_it_held_out_or_not_at_all(tmp_path: Path) -> None:
    data, cache, run = folders(tmp_path / "data"), tmp_path / "cache", tmp_path / "run"
    cache_teacher.run(cache_options(data, cache, recipe="small", epochs=1, batch_size=6, block=6))
    train_student.run(student_options(cache, run, epochs=1))
    before = measured(run)
    assert (before["split"], before["images"]) == ("val", 6)
    moved = data.rename(tmp_path / "elsewhere")
    assert measured(run, data=str(moved))["scores"] == before["scores"]
    moved.rename(data)
    (data / "ant" / "0000.png").write_bytes(encoded(photo(7, 16, 16), "PNG"))
    with pytest.raises(Mismatch, match="have changed") as caught:
        measured(run)
    assert caught.value.exit_code == 4


def test_other_validation_images_are_those_that_training_used(tmp_path: Path) -> None:
    data, cache, run = folders(tmp_path / "data"), tmp_path / "cache", tmp_path / "run"
    for split, count in (("val", 4), ("test", 7)):
        folders(tmp_path / "others" / split, count)
    cache_teacher.run(cache_options(data, cache, recipe="small", epochs=1, batch_size=6, block=6))
    done = train_student.run(student_options(cache, run, epochs=1, val_data=str(tmp_path / "others")))
    assert done.data["images"] == 12
    again = measured(run)  # what the cache held out does not stand in the way
    assert again["images"] == 12
    assert again["scores"] == done.data["val"]
    with pytest.raises(Mismatch, match="val-data"):
        train_student.run(student_options(cache, run, epochs=1, val_data=str(folders(tmp_path / "more", 3))))


def test_a_packed_copy_beside_splits_of_other_images_is_refused(tmp_path: Path) -> None:
    for split in ("train", "val"):
        folders(tmp_path / "one" / split, 3)
    folders(tmp_path / "two" / "train", 3)
    pack.run(PackOptions(data=str(tmp_path / "one"), out=str(tmp_path / "packed")))
    with pytest.raises(UsageProblem, match=r"val\.arrow"):
        pack.run(PackOptions(data=str(tmp_path / "two"), out=str(tmp_path / "packed")))
