"""The plan: permutations, repeats and windows, batches, run orders, random addresses."""

import pickle
import time
import tracemalloc

import numpy as np
import pytest

from deit_pipe.pipeline.errors import PlanError
from deit_pipe.pipeline.plan import MAX_SEED, Cells, Purpose, ViewPlan
from deit_pipe.pipeline.recipe import PRESETS


def test_every_epoch_is_another_permutation() -> None:
    plan = ViewPlan(101, seed=4)
    first, second = plan.sample_at(0), plan.sample_at(1)
    assert sorted(first) == list(range(101)) == sorted(second)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, ViewPlan(101, seed=5).sample_at(0))
    assert not np.array_equal(ViewPlan(101, seed=5).sample_at(0), second)  # seed + epoch would collide here
    np.testing.assert_array_equal(first, ViewPlan(101, seed=4).sample_at(0))


def test_the_order_is_fixed_for_ever() -> None:
    """These numbers may only change together with VIEWS_VERSION."""
    assert ViewPlan(10, seed=0).sample_at(0).tolist() == [5, 3, 7, 8, 2, 4, 1, 0, 6, 9]
    assert ViewPlan(10, seed=0, repeats=3, mix_group=2).sample_at(1).tolist() == [
        0,
        1,
        0,
        4,
        1,
        5,
        1,
        5,
        0,
        5,
    ]
    assert ViewPlan(10, seed=7).stream(3, 2, Purpose.VIEW).word() == 1688793765147364024


@pytest.mark.parametrize("repeats", [2, 3, 4])
@pytest.mark.parametrize("group", [1, 2, 3, 8])
@pytest.mark.parametrize("samples", [48, 96, 97, 143, 239, 1000])
def test_repeats_stay_in_their_window_and_out_of_each_others_groups(repeats: int, group: int, samples: int) -> None:
    plan = ViewPlan(samples, seed=1, repeats=repeats, mix_group=group, window=48)
    for epoch in range(3):
        order = plan.sample_at(epoch)
        assert len(order) == samples
        drawn, counts = np.unique(order, return_counts=True)
        assert len(drawn) == -(-samples // repeats)
        assert (np.sort(counts)[1:] == repeats).all()
        last = max(samples // plan.window - 1, 0)
        for sample in drawn:
            slots = np.flatnonzero(order == sample)
            assert len({min(slot // plan.window, last) for slot in slots}) == 1
            assert len(np.unique(slots // group)) == len(slots)


def test_windows_are_whole_groups_of_whole_samples() -> None:
    assert ViewPlan(10**6, seed=0, repeats=3, mix_group=2, window=1024).window == 1020
    assert ViewPlan(10**6, seed=0, repeats=3, mix_group=256, window=1024).window == 768
    assert ViewPlan(10**6, seed=0, repeats=3, mix_group=512, window=1024).window == 1536


@pytest.mark.parametrize("samples", range(1, 30))
@pytest.mark.parametrize("repeats", [1, 2, 3, 5])
def test_tiny_sets_have_full_epochs(samples: int, repeats: int) -> None:
    """DeiT's own sampler yields nothing below 256 samples."""
    plan = ViewPlan(samples, seed=samples, repeats=repeats, mix_group=2)
    order = plan.sample_at(0)
    assert len(order) == samples
    counts = np.unique(order, return_counts=True)[1]
    assert len(counts) == -(-samples // repeats)
    assert counts.max() <= repeats
    groups = -(-samples // 2)
    together = max(np.unique(order[start : start + 2], return_counts=True)[1].max() for start in range(0, samples, 2))
    if groups > 2 * repeats:
        assert together == 1


def test_partners_vary_between_epochs_and_copies() -> None:
    plan = ViewPlan(600, seed=3, repeats=3, mix_group=2, window=48)
    partners = []
    for epoch in range(100):
        order = plan.sample_at(epoch)
        partners += [int(order[slot ^ 1]) for slot in np.flatnonzero(order == 7)]
    assert len(partners) % 3 == 0
    assert len(partners) > 60
    assert len(set(partners)) > 0.7 * len(partners)
    assert 7 not in partners


def test_batches_are_contiguous_slices_in_plan_order() -> None:
    plan = ViewPlan(100, seed=0, mix_group=2)
    cells = list(plan.batches(3, 16))
    assert len(cells) == plan.batch_count(16) == 6
    assert all(isinstance(c, Cells) and c.epoch == 3 for c in cells)
    np.testing.assert_array_equal(np.concatenate([c.slots for c in cells]), np.arange(96))
    kept = list(plan.batches(3, 16, drop_last=False))
    assert len(kept) == plan.batch_count(16, drop_last=False) == 7
    np.testing.assert_array_equal(kept[-1].slots, np.arange(96, 100))
    assert [len(c.slots) for c in plan.batches(0, 128)] == [100]  # the only batch is kept
    np.testing.assert_array_equal(next(plan.batches(3, 16, start=4)).slots, np.arange(64, 80))
    assert list(plan.batches(3, 16, start=6)) == []


@pytest.mark.parametrize("order_seed", [None, 5])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_global_batches_do_not_depend_on_the_world_size(world: int, order_seed: int | None) -> None:
    plan = ViewPlan(203, seed=0, mix_group=2)
    options = {"order_seed": order_seed, "block_slots": 32, "drop_last": False}
    whole = [c.slots for c in plan.batches(1, 16, **options)]
    ranks = [list(plan.batches(1, 16, rank=rank, world=world, **options)) for rank in range(world)]
    joined = [np.concatenate([c.slots for c in step]) for step in zip(*ranks, strict=True)]
    for a, b in zip(whole, joined, strict=True):
        np.testing.assert_array_equal(a, b)
    for step in ranks[0][:-1]:
        assert len(step.slots) == 16 // world


def test_bad_global_batches_name_the_nearest_good_ones() -> None:
    plan = ViewPlan(100, seed=0, mix_group=4)
    with pytest.raises(PlanError, match="choose a global batch of 8 or 16"):
        next(plan.batches(0, 10, world=2))
    with pytest.raises(PlanError, match=r"choose a global batch of 8$"):
        next(plan.batches(0, 4, world=2))
    with pytest.raises(PlanError, match="rank 2 does not exist"):
        next(plan.batches(0, 8, rank=2, world=2))
    with pytest.raises(PlanError, match="block of 6 slots"):
        next(plan.batches(0, 8, order_seed=1, block_slots=6))
    assert PlanError.exit_code == 2


def test_run_order_shuffles_blocks_and_whole_groups_and_keeps_ragged_parts_last() -> None:
    plan = ViewPlan(205, seed=0, mix_group=2)
    orders = [
        np.concatenate(
            [c.slots for c in plan.batches(0, 8, drop_last=False, order_seed=9, order_pass=p, block_slots=32)]
        )
        for p in (0, 1)
    ]
    assert not np.array_equal(*orders)
    for order in orders:
        assert sorted(order) == list(range(205))
        assert order[-1] == 204
        blocks = order // 32
        assert (np.diff(blocks) != 0).sum() == 6  # every block is read in one run
        assert blocks[-13:].tolist() == [6] * 13
        assert not np.array_equal(np.sort(blocks), blocks)
        pairs = order[:204].reshape(-1, 2)
        assert (pairs[:, 0] % 2 == 0).all()
        assert (pairs[:, 1] == pairs[:, 0] + 1).all()
        assert not np.array_equal(np.sort(order[:32]), order[:32])


def test_a_short_last_block_of_whole_groups_stays_last_too() -> None:
    plan = ViewPlan(204, seed=0, mix_group=2)
    for seed in range(5):
        cells = plan.batches(0, 4, drop_last=False, order_seed=seed, block_slots=32)
        order = np.concatenate([c.slots for c in cells])
        assert sorted(order[-12:]) == list(range(192, 204))


def philox(key: tuple[int, int], counter: list[int]) -> list[int]:
    """Philox 4x64-10 from its publication (Salmon et al. 2011), one block of four words."""
    mask = (1 << 64) - 1
    k0, k1 = key
    x = counter
    for _ in range(10):
        low, high = 0xD2E7470EE14C6C93 * x[0], 0xCA5A826395121157 * x[2]
        x = [(high >> 64) ^ x[1] ^ k0, high & mask, (low >> 64) ^ x[3] ^ k1, low & mask]
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
    return x


def test_the_words_of_an_address_are_philox_as_published() -> None:
    stream = ViewPlan(10, seed=MAX_SEED - 5).stream(300, 1_281_166, Purpose.VIEW)
    words = [stream.word() for _ in range(80)]
    blocks = [philox((MAX_SEED - 5, Purpose.VIEW), [block, 0, 1_281_166, 300]) for block in range(1, 21)]
    assert words == [word for block in blocks for word in block]


def test_streams_of_different_addresses_differ() -> None:
    plan = ViewPlan(10, seed=3)
    words = {
        plan.stream(epoch, slot, purpose).word() for epoch in range(5) for slot in range(10) for purpose in Purpose
    }
    assert len(words) == 5 * 10 * len(Purpose)
    large = [ViewPlan(10, seed=seed).stream(0, 0, Purpose.VIEW).word() for seed in (MAX_SEED, MAX_SEED - 1)]
    assert large[0] != large[1]


def test_seeds_and_sizes_are_checked() -> None:
    for seed in (-1, MAX_SEED + 1):
        with pytest.raises(PlanError, match="out of range"):
            ViewPlan(10, seed=seed)
    with pytest.raises(PlanError, match="at least one sample"):
        ViewPlan(0, seed=0)
    with pytest.raises(PlanError, match="does not exist"):
        ViewPlan(10, seed=0).sample_at(-1)


def test_imagenet_size_opens_at_once_and_holds_two_epochs_at_most() -> None:
    start = time.perf_counter()
    plan = ViewPlan.for_recipe(1_281_167, PRESETS["deit"], seed=0)
    opened = time.perf_counter() - start
    tracemalloc.start()
    for epoch in (0, 150, 299):
        assert plan.sample_at(epoch).nbytes == 1_281_167 * 8
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert opened < 0.1
    assert kept < 2.1 * 1_281_167 * 8
    assert len(pickle.dumps(plan)) < 1000
