from pathlib import Path

import numpy as np
import pytest
from inspect_fakes import BASIC, MIXED, Made, make_cache, write_images
from PIL import Image, ImageOps
from store_fakes import flip_bit

from deit_pipe import DeitPipeError
from deit_pipe.pipeline import render
from deit_pipe.stages.console.errors import Missing, UsageProblem
from deit_pipe.stages.inspect_cache import run
from deit_pipe.stages.inspection.replay import chosen_cells, parse_cells
from deit_pipe.stages.opened import replay
from deit_pipe.stages.opened.arrays import CachedArrays
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
from deit_pipe.store.errors import CacheCorrupt, CacheMismatch


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_cache(tmp_path_factory.mktemp("mixed"), recipe=MIXED, count=64, block=16, epochs=2)


def replayed(made: Made, asked: str, **options: str) -> tuple[int, dict, str]:
    result = run(InspectCacheOptions(cache=str(made.cache), replay=asked, **options))
    return result.exit_code, result.data["replay"], result.text.plain


def test_replay_of_all_cells_finds_every_fingerprint_equal(mixed: Made) -> None:
    code, found, text = replayed(mixed, "all")
    assert (code, found["checked"], found["equal"], found["different"]) == (0, 128, 128, 0)
    assert (found["cause"], found["examples"], found["equal_to_cache"]) == (None, [], True)
    assert "replayed 128 views: every fingerprint is the cached one" in text


def test_replay_of_some_cells_takes_whole_groups_and_other_ones_each_time(mixed: Made) -> None:
    arrays = [CachedArrays(str(mixed.cache), "known")]
    seen = []
    for _ in range(4):
        cells = list(chosen_cells("9", arrays, mixed.views.plan))
        count = sum(len(c.slots) for c in cells)
        assert 9 <= count <= 36
        assert all(len(c.slots) % 4 == 0 for c in cells)
        seen.append([(c.epoch, c.slots.tolist()) for c in cells])
    assert any(one != seen[0] for one in seen)


def test_replay_of_a_range_takes_its_groups(mixed: Made) -> None:
    arrays = [CachedArrays(str(mixed.cache), "known")]
    (cells,) = chosen_cells("1/5-9", arrays, mixed.views.plan)
    assert (cells.epoch, cells.slots.tolist()) == (1, list(range(4, 12)))
    with pytest.raises(UsageProblem):
        list(chosen_cells("7/0-5", arrays, mixed.views.plan))


def test_replay_of_a_partial_cache_checks_what_is_there(tmp_path: Path) -> None:
    made = make_cache(tmp_path, blocks=3)
    code, found, _ = replayed(made, "all")
    assert (code, found["checked"], found["different"]) == (3, 24, 0)
    with pytest.raises(Missing):
        replayed(made, "2/0-7")


@pytest.mark.parametrize("text", ["", "none", "3", "3/", "a/1", "3/1-x", "0"])
def test_cells_that_cannot_be_read_are_a_usage_error(text: str) -> None:
    with pytest.raises(UsageProblem):
        parse_cells(text, "--cell")


def test_a_changed_library_function_is_refused_and_named(mixed: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every view with Invert differs, no other does; the libraries' versions alone would tell nothing."""
    with_invert = sum(
        any(op.name == "Invert" for op in view.ops)
        for epoch in range(2)
        for view in mixed.views.render(epoch, np.arange(64)).views
    )
    assert with_invert > 2
    monkeypatch.setenv("DEIT_PIPE_ENGINE", "pillow")
    monkeypatch.setitem(render.OPS, "Invert", lambda image, values, view: ImageOps.flip(image))
    code, found, text = replayed(mixed, "all")
    assert code == 4
    assert (found["different"], found["equal"]) == (with_invert, 128 - with_invert)
    assert found["cause"] == "every differing view uses Invert; of views that do, 100% differ, of others none"
    assert found["cause"] in text
    assert "replay differs" in text
    assert len(found["examples"]) == min(5, with_invert)
    example = found["examples"][0]
    cached = mixed.fingerprints[example["epoch"]][example["slot"]]
    assert example["cached"] == f"{cached:08x}" != example["replayed"]
    assert example["key"] == mixed.table.keys[example["sample"]]


def test_another_library_version_is_named_on_a_mismatch(mixed: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    now = replay.library_versions()
    monkeypatch.setattr(replay, "library_versions", lambda: {**now, "pillow": "99.1"})
    monkeypatch.setenv("DEIT_PIPE_ENGINE", "pillow")
    _, found, text = replayed(mixed, "16")
    assert found["versions"] == {"pillow": [now["pillow"], "99.1"]}
    assert "although libraries differ" in text
    monkeypatch.setitem(render.FILTERS, "bicubic", Image.Resampling.BILINEAR)
    code, found, text = replayed(mixed, "16")
    assert code == 4
    assert f"libraries that differ from the cache's: pillow {now['pillow']} -> 99.1" in text
    assert found["cause"].startswith("nearly all views differ")


def test_a_changed_image_is_told_from_a_changed_library(tmp_path: Path) -> None:
    made = make_cache(tmp_path)
    path = made.data / made.table.keys[11]
    with Image.open(path) as image:
        ImageOps.invert(image).save(path)
    code, found, text = replayed(made, "all")
    assert (code, found["different"]) == (4, 3)
    assert found["cause"] == "all views of 1 sample differ and no others: image files were changed"
    assert "an image file was changed" in text
    assert {one["sample"] for one in found["examples"]} == {11}


def test_other_images_are_refused_before_anything_is_rendered(mixed: Made, tmp_path: Path) -> None:
    other = write_images(tmp_path / "other", 60)
    with pytest.raises(CacheMismatch, match="num_samples") as caught:
        replayed(mixed, "all", data=str(other))
    assert "--data" in str(caught.value)


def test_a_damaged_fingerprint_object_is_corruption_not_drift(tmp_path: Path) -> None:
    made = make_cache(tmp_path)
    flip_bit(made.cache, "known", "fingerprint", 1, 2)
    with pytest.raises(CacheCorrupt, match="known: fingerprint, epoch 1, slots 16") as caught:
        replayed(made, "all")
    assert caught.value.exit_code == 5


def test_arrays_read_by_block_equal_what_was_written(tmp_path: Path) -> None:
    made = make_cache(tmp_path, recipe=BASIC)
    arrays = CachedArrays(str(made.cache), "known")
    slots = np.array([39, 0, 17, 8, 8])
    assert arrays.rows("fingerprint", 2, slots).tolist() == made.fingerprints[2][slots].tolist()
    assert arrays.rows("teacher_label", 2, slots).tolist() == made.logits[2].argmax(axis=1)[slots].tolist()
    targets = arrays.targets(2, slots)
    np.testing.assert_array_equal(targets.logits, made.logits[2][slots].astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(("asked", "got"), [("99/0-5", "epoch 99, slot 0"), ("1/64", "epoch 1, slot 64")])
def test_cells_that_the_cache_cannot_have_are_no_missing_blocks(asked: str, got: str, mixed: Made) -> None:
    with pytest.raises(UsageProblem, match="the cache has no such cell") as error:
        replayed(mixed, asked)
    assert error.value.expected == "an epoch from 0 to 1, a slot from 0 to 63"
    assert error.value.got == got
    assert "cache-teacher" not in str(error.value)


def test_an_unknown_teacher_is_refused_whatever_is_asked(mixed: Made) -> None:
    for asked in ({}, {"replay": "3"}, {"cell": "0/3"}):
        with pytest.raises(DeitPipeError, match="no teacher 'unknown'") as error:
            run(InspectCacheOptions(cache=str(mixed.cache), teacher="unknown", **asked))
        assert "teachers here: known" in str(error.value)
