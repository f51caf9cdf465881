"""What a worker fingerprinted and what arrived: about one view in a hundred is compared, always the same ones."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from inspect_fakes import MIXED

from deit_pipe.pipeline.errors import ViewChanged
from deit_pipe.pipeline.loader import ViewBatch, load_views
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.proof import recheck as rechecking
from deit_pipe.pipeline.proof.recheck import chosen, fingerprint_again, recheck, rechecked
from deit_pipe.pipeline.recipe import PRESETS, Recipe
from deit_pipe.pipeline.samples import ArraySamples

COUNT = 64


def views(recipe: Recipe = MIXED, workers: int = 0, epochs: int = 1, size: int = 24) -> Iterator[ViewBatch]:
    random = np.random.Generator(np.random.Philox(4))
    pixels = random.integers(0, 256, (COUNT, 30, 30, 3), dtype=np.uint8)
    table = ArraySamples("made", pixels, np.arange(COUNT) % 3, "abc")
    plan = ViewPlan.for_recipe(COUNT, recipe, 5)
    cells = (Cells(epoch, np.arange(COUNT)) for epoch in range(epochs))
    return load_views(table, recipe, plan, cells, image_size=size, workers=workers)


@pytest.mark.parametrize("size", [24, 27, 35])
@pytest.mark.parametrize("recipe", [MIXED, PRESETS["deit"], PRESETS["deit3"], PRESETS["basic"]])
def test_every_fingerprint_follows_from_the_batch_alone(recipe: Recipe, size: int) -> None:
    for batch in views(recipe, epochs=4, size=size):
        found = [fingerprint_again(batch, place) for place in range(COUNT)]
        assert found == batch.fingerprints.tolist()


def test_one_cell_in_a_hundred_is_chosen_whatever_the_batch() -> None:
    slots = np.arange(200_000)
    every = chosen(3, slots, 7)
    assert 0.0095 < every.mean() < 0.0105
    np.testing.assert_array_equal(every[500:700], chosen(3, slots[500:700], 7))
    for other in (chosen(4, slots, 7), chosen(3, slots, 8)):
        assert 0 < (other & every).sum() < 100
    assert chosen(0, slots[:1000], (1 << 63) - 1).sum() < 30


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("pixels", lambda batch: batch.pixels.flip(0)),
        ("pixels", lambda batch: batch.pixels ^ 1),
        ("erase", lambda batch: batch.erase + 1),
        ("noise_seed", lambda batch: batch.noise_seed + 1),
        ("partner", lambda batch: torch.arange(COUNT)),
        ("lam", lambda batch: batch.lam - 2**-10),
        ("mix_box", lambda batch: batch.mix_box + torch.tensor([1, 0, 0, 0], dtype=torch.int32)),
        ("slots", lambda batch: batch.slots * 3),
    ],
)
def test_what_changes_on_the_way_is_named(name: str, change: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rechecking, "ONE_IN", 1)
    batch = next(views())
    recheck(batch, 0)
    with pytest.raises(ViewChanged, match=r"epoch 0, slot \d+, sample \d+\n  expected  fingerprint") as caught:
        recheck(replace(batch, **{name: change(batch)}), 0)  # type: ignore[operator]
    assert caught.value.exit_code == 4


def test_only_chosen_views_are_looked_at() -> None:
    batch = next(views())
    seed = next(s for s in range(1000) if chosen(0, batch.slots, s).sum() == 1)
    (place,) = np.flatnonzero(chosen(0, batch.slots, seed)).tolist()
    spoilt = batch.pixels.clone()
    spoilt[(place + 1) % COUNT] ^= 255
    recheck(replace(batch, pixels=spoilt), seed)
    spoilt[place, 3, 3, 1] ^= 1
    with pytest.raises(ViewChanged, match=f"slot {place},"):
        recheck(replace(batch, pixels=spoilt), seed)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_pass_and_closing_ends_the_workers(workers: int) -> None:
    assert len(list(rechecked(views(workers=workers, epochs=2), 5))) == 2
    inner = views(workers=workers, epochs=9)
    outer = rechecked(inner, 5)
    next(outer)
    outer.close()  # type: ignore[attr-defined]
    assert next(inner, None) is None
