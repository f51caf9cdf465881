import dataclasses
from pathlib import Path

import numpy as np
import pytest
from inspect_fakes import BASIC, MIXED, make_cache

from deit_pipe.stages.inspect_cache import run
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions


def test_the_same_views_are_compared_answer_by_answer(tmp_path: Path) -> None:
    one = make_cache(tmp_path / "a")
    two = make_cache(tmp_path / "b", data=one.data, seed=5, epochs=2, name="other")
    result = run(InspectCacheOptions(cache=str(one.cache), diff=str(two.cache)))
    assert result.exit_code == 0
    assert result.data["same_views"] is True
    (pair,) = result.data["pairs"]
    assert (pair["here"], pair["there"]) == ("known", "other")
    assert [row["field"] for row in pair["identity"]] == ["name"]
    labels = [np.concatenate([made.logits[e].argmax(axis=1) for e in range(2)]) for made in (one, two)]
    halves = [np.concatenate([made.logits[e] for e in range(2)]).astype(np.float16) for made in (one, two)]
    far = np.abs(halves[0].astype(np.float32) - halves[1].astype(np.float32)).max()
    answers = pair["answers"]
    assert (answers["cells"], answers["fingerprints_equal"]) == (80, 80)
    assert answers["labels_equal"] == (labels[0] == labels[1]).sum()
    assert answers["largest_difference"] == pytest.approx(far)
    assert f"{answers['labels_equal'] / 80:.2%} of 80 labels agree" in result.text.plain


def test_other_views_are_named_field_by_field_and_not_compared(tmp_path: Path) -> None:
    one = make_cache(tmp_path / "a", recipe=BASIC)
    two = make_cache(tmp_path / "b", recipe=MIXED, data=one.data)
    result = run(InspectCacheOptions(cache=str(one.cache), diff=str(two.cache)))
    assert (result.exit_code, result.data["same_views"]) == (4, False)
    fields = {row["field"]: (row["here"], row["there"]) for row in result.data["manifest"]}
    assert fields["recipe.repeats"] == (1, 2)
    assert fields["recipe.mix_group"] == (1, 4)
    assert "seed" not in fields
    assert result.data["pairs"][0]["answers"] is None
    assert "recipe.mix_group" in result.text.plain


def test_only_cells_that_both_have_are_compared(tmp_path: Path) -> None:
    one = make_cache(tmp_path / "a", blocks=7)
    two = make_cache(tmp_path / "b", data=one.data, block=4, blocks=3)
    answers = run(InspectCacheOptions(cache=str(one.cache), diff=str(two.cache))).data["pairs"][0]["answers"]
    assert (answers["cells"], answers["labels_equal"], answers["largest_difference"]) == (12, 12, 0.0)


def test_teachers_of_one_side_only_are_named(tmp_path: Path) -> None:
    one = make_cache(tmp_path / "a")
    from deit_pipe.store.writer import TargetWriter

    with TargetWriter.open(one.cache, dataclasses.replace(one.teacher, name="second"), epochs=1):
        pass
    two = make_cache(tmp_path / "b", data=one.data)
    text = run(InspectCacheOptions(cache=str(one.cache), diff=str(two.cache))).text.plain
    assert f"teacher     second only in {one.cache}" in text
