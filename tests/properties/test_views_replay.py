"""Whatever delivers a cell, it is the same view: workers, batches, groups, start points, world sizes."""

from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deit_pipe.pipeline.cells import render_cells
from deit_pipe.pipeline.loader import ViewBatch, load_views
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.recipe import PRESETS, Recipe
from deit_pipe.pipeline.samples import ArraySamples

SIDE = 12
PIXELS = np.random.default_rng(0).integers(0, 256, (61, 9, 11, 3), dtype=np.uint8)


def table(count: int) -> ArraySamples:
    return ArraySamples("noise", PIXELS[:count], np.arange(count) % 3, list("abc"))


def recipes(group: int, repeats: int) -> list[Recipe]:
    # A group of one does not mix, whatever the alphas say.
    return [replace(PRESETS[name], mix_group=group, repeats=repeats, erase_prob=0.5) for name in ("deit", "small")]


Row = tuple[int, ...]


def rows(batches: list[ViewBatch]) -> dict[tuple[int, int], Row]:
    """Everything that makes a view, by cell; the partner as a slot."""
    found: dict[tuple[int, int], Row] = {}
    for b in batches:
        for i, slot in enumerate(b.slots.tolist()):
            row = (
                int(b.samples[i]),
                int(b.fingerprints[i]),
                int(b.labels[i]),
                int(b.noise_seed[i]),
                *b.erase[i].tolist(),
                *b.mix_box[i].tolist(),
                float(b.lam[i]).hex(),
                int(b.slots[int(b.partner[i])]),
                hash(b.pixels[i].numpy().tobytes()),
            )
            assert (b.epoch, slot) not in found
            found[(b.epoch, slot)] = row
    return found


def reference(count: int, recipe: Recipe, seed: int, epoch: int) -> dict[tuple[int, int], Row]:
    plan = ViewPlan.for_recipe(count, recipe, seed)
    return rows(list(load_views(table(count), recipe, plan, [Cells(epoch, np.arange(count))], image_size=SIDE)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    count=st.integers(1, 61),
    group=st.integers(1, 5),
    repeats=st.integers(1, 4),
    per_rank=st.integers(1, 8),
    world=st.integers(1, 3),
    start=st.integers(0, 3),
    epoch=st.integers(0, 400),
    seed=st.integers(0, 2**63 - 1),
    order_seed=st.one_of(st.none(), st.integers(0, 1000)),
    small=st.booleans(),
)
def test_any_batches_give_the_same_views(
    count: int,
    group: int,
    repeats: int,
    per_rank: int,
    world: int,
    start: int,
    epoch: int,
    seed: int,
    order_seed: int | None,
    small: bool,
) -> None:
    recipe = recipes(group, repeats)[small]
    expected = reference(count, recipe, seed, epoch)
    plan = ViewPlan.for_recipe(count, recipe, seed)
    size = per_rank * group * world
    got: dict[tuple[int, int], Row] = {}
    for rank in range(world):
        cells = plan.batches(
            epoch,
            size,
            rank=rank,
            world=world,
            start=start,
            drop_last=False,
            order_seed=order_seed,
            block_slots=4 * group,
        )
        got |= rows(list(load_views(table(count), recipe, plan, cells, image_size=SIDE)))
    skipped = min(start * size, count)
    assert len(got) == count - skipped
    assert got.items() <= expected.items()


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    workers=st.integers(1, 3),
    per_batch=st.integers(1, 12),
    group=st.integers(1, 4),
    epochs=st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True),
)
def test_any_number_of_workers_gives_the_same_views(
    workers: int, per_batch: int, group: int, epochs: list[int]
) -> None:
    recipe = recipes(group, 3)[0]
    plan = ViewPlan.for_recipe(61, recipe, seed=8)
    cells = [c for epoch in epochs for c in plan.batches(epoch, per_batch * group, drop_last=False)]
    batches = list(load_views(table(61), recipe, plan, cells, image_size=SIDE, workers=workers))
    assert [b.epoch for b in batches] == [c.epoch for c in cells]
    for batch, wanted in zip(batches, cells, strict=True):
        np.testing.assert_array_equal(batch.slots, wanted.slots)
    expected: dict[tuple[int, int], Row] = {}
    for epoch in epochs:
        expected |= reference(61, recipe, 8, epoch)
    assert rows(batches) == expected


def test_workers_0_1_2_and_batches_of_16_64_100_agree_on_every_cell() -> None:
    recipe = replace(PRESETS["deit"], mix_group=4)
    big = ArraySamples("noise", np.concatenate([PIXELS] * 4)[:200], np.arange(200) % 3, list("abc"))
    plan = ViewPlan.for_recipe(200, recipe, seed=0)
    prints = []
    for workers in (0, 1, 2):
        for batch in (16, 64, 100):
            views = load_views(
                big, recipe, plan, plan.batches(2, batch, drop_last=False), image_size=SIDE, workers=workers
            )
            prints.append(np.concatenate([b.fingerprints for b in views]))
    for other in prints[1:]:
        np.testing.assert_array_equal(prints[0], other)
    assert len(np.unique(prints[0])) == 200


@settings(max_examples=30, deadline=None)
@given(slots=st.lists(st.integers(0, 60), min_size=1, max_size=12), epoch=st.integers(0, 2**31))
def test_unmixed_cells_may_be_asked_for_in_any_order(slots: list[int], epoch: int) -> None:
    recipe = PRESETS["small"]
    plan = ViewPlan.for_recipe(61, recipe, seed=4)
    wanted: NDArray[np.int64] = np.asarray(slots)
    cells = render_cells(table(61), recipe, plan, Cells(epoch, wanted), SIDE)
    whole = render_cells(table(61), recipe, plan, Cells(epoch, np.arange(61)), SIDE)
    np.testing.assert_array_equal(cells.fingerprints, whole.fingerprints[wanted])
    np.testing.assert_array_equal(cells.pixels, whole.pixels[wanted])
