"""compose against the published order in float64: normalise, erase with normal noise, mix."""

import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from deit_pipe.pipeline.cells import RenderedCells, render_cells
from deit_pipe.pipeline.compose import (
    compose,
    dominant_labels,
    labelled_share,
    mixed_labels,
    noise_levels,
    normal_quantiles,
    normalise,
    partner_labels,
)
from deit_pipe.pipeline.loader import ViewBatch, to_batch
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.recipe import IMAGENET_MEAN, IMAGENET_STD, PRESETS, Recipe
from deit_pipe.pipeline.samples import ArraySamples

SIDE = 24
RECIPE = PRESETS["deit"]


@pytest.fixture(scope="module")
def table() -> ArraySamples:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 20, 30, 3), dtype=np.uint8)
    return ArraySamples("noise", pixels, np.arange(64) % 7, [str(i) for i in range(7)])


def batch_of(table: ArraySamples, recipe: Recipe, slots: NDArray[np.int64], epoch: int = 0) -> RenderedCells:
    plan = ViewPlan.for_recipe(len(table), recipe, seed=12)
    return render_cells(table, recipe, plan, Cells(epoch, slots), SIDE)


def scramble(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The noise hash in NumPy's wrapping 32-bit arithmetic."""
    value = value.astype(np.uint32)
    value = (value ^ (value >> np.uint32(16))) * np.uint32(0x7FEB352D)
    value = (value ^ (value >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    return value ^ (value >> np.uint32(16))


def reference_noise(seed: int, top: int, left: int, height: int, width: int) -> NDArray[np.float64]:
    """Standard normal noise [3, height, width] of one erase box."""
    channel, y, x = np.mgrid[0:3, top : top + height, left : left + width].astype(np.uint32)
    key = scramble(np.asarray([(seed & 0xFFFFFFFF)], np.uint32) ^ scramble(np.asarray([seed >> 32], np.uint32)))
    row = scramble(key ^ ((channel << np.uint32(16)) | y))
    levels = scramble(row + x * np.uint32(0x1E3779B9)) >> np.uint32(16)
    return stats.norm.ppf((levels.astype(np.float64) + 0.5) / 65536)


def reference(cells: RenderedCells, recipe: Recipe) -> NDArray[np.float64]:
    """Normalise, erase, mix: float64 [B, 3, S, S], normalised with the recipe's mean and std."""
    mean, std = (np.asarray(values)[:, None, None] for values in (recipe.mean, recipe.std))
    images = (cells.pixels.transpose(0, 3, 1, 2).astype(np.float64) / 255 - mean) / std
    for image, (top, left, height, width), seed in zip(images, cells.erase, cells.noise_seed, strict=True):
        if height:
            noise = reference_noise(int(seed), top, left, height, width)
            image[:, top : top + height, left : left + width] = noise
    mixed = images.copy()
    for i, partner in enumerate(cells.partner):
        top, left, height, width = cells.mix_box[i]
        if height:
            inside = np.s_[:, top : top + height, left : left + width]
            mixed[i][inside] = images[partner][inside]
        else:
            lam = float(cells.lam[i])
            mixed[i] = lam * images[i] + (1 - lam) * images[partner]
    return mixed


@pytest.mark.parametrize("group", [1, 2, 4, 5, 64])
def test_compose_equals_the_published_order_within_1e_6(table: ArraySamples, group: int) -> None:
    recipe = replace(RECIPE, mix_group=group, erase_prob=0.7)
    cells = batch_of(table, recipe, np.arange(64))
    ours = normalise(compose(to_batch(cells), recipe), recipe.mean, recipe.std).double().numpy()
    kinds = {"erased": cells.erase[:, 2] > 0, "mixed": cells.lam < 1, "cut": cells.mix_box[:, 2] > 0}
    assert kinds["erased"].sum() > 30
    assert group == 1 or kinds["mixed"].any()
    assert group in (1, 64) or kinds["cut"].any()
    # Float32 rounding aside, which for noise beyond 2 standard deviations is more than 1e-6 of itself.
    expected = reference(cells, recipe)
    np.testing.assert_allclose(ours, expected, atol=1e-6, rtol=1e-6)


def test_pixels_are_exactly_divided_by_255(table: ArraySamples) -> None:
    cells = batch_of(table, PRESETS["basic"], np.arange(8))
    ours = compose(to_batch(cells), PRESETS["basic"])
    expected = torch.from_numpy(cells.pixels).permute(0, 3, 1, 2) / 255
    assert torch.equal(ours, expected)
    assert ours.is_contiguous()


def test_another_models_mean_and_std_give_its_own_normalised_view(table: ArraySamples) -> None:
    """Erasing noise stays in the recipe's units: both models see the same picture."""
    cells = batch_of(table, RECIPE, np.arange(64))
    mixed = compose(to_batch(cells), RECIPE)
    half = normalise(mixed, (0.5,) * 3, (0.5,) * 3)
    torch.testing.assert_close(half * 0.5 + 0.5, mixed)


def test_noise_is_the_same_for_any_batch_composition(table: ArraySamples) -> None:
    recipe = replace(RECIPE, erase_prob=1.0)
    whole = compose(to_batch(batch_of(table, recipe, np.arange(64))), recipe)
    for slots in (np.arange(2), np.arange(10, 20), np.concatenate([np.arange(40, 44), np.arange(6, 8)])):
        part = compose(to_batch(batch_of(table, recipe, slots)), recipe)
        assert torch.equal(part, whole[torch.from_numpy(slots)])


def test_noise_is_not_clipped_and_looks_normal_in_every_channel() -> None:
    seed = torch.tensor(0x1234_5678_9ABC_DEF0)
    grid = torch.meshgrid(torch.arange(3), torch.arange(224), torch.arange(224), indexing="ij")
    levels = noise_levels(seed, *grid).numpy()
    noise = normal_quantiles()[levels]
    assert 0 <= levels.min() < 4
    assert 65532 < levels.max() <= 65535
    for channel in noise:
        assert stats.kstest(channel.ravel()[:20_000], "norm").pvalue > 1e-3
    counts = np.bincount(levels.ravel() >> 8, minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-3
    # Neighbours, channels and neighbouring seeds are not correlated.
    other = normal_quantiles()[noise_levels(seed + 1, *grid).numpy()]
    pairs = {
        "x": (noise[:, :, 1:], noise[:, :, :-1]),
        "y": (noise[:, 1:], noise[:, :-1]),
        "channel": (noise[0], noise[1]),
        "diagonal": (noise[:, 1:, 1:], noise[:, :-1, :-1]),
        "seed": (noise, other),
    }
    for name, (a, b) in pairs.items():
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / np.sqrt(a.size), name


def test_noise_table_has_the_normal_quantiles_and_is_odd() -> None:
    table = normal_quantiles()
    expected = stats.norm.ppf((np.arange(65536) + 0.5) / 65536)
    assert np.abs(table - expected).max() <= 2**-21 + 1e-9
    np.testing.assert_array_equal(table, -table[::-1])
    np.testing.assert_array_equal(table, table.astype(np.float32))


def test_targets_use_the_clipped_box_and_smooth_labels_only(table: ArraySamples) -> None:
    cells = batch_of(table, RECIPE, np.arange(64))
    batch = to_batch(cells)
    targets = mixed_labels(batch, 7, 0.1).double().numpy()
    for i in range(64):
        top, left, height, width = (int(edge) for edge in cells.mix_box[i])
        if height:
            assert top + height <= SIDE
            assert left + width <= SIDE
            lam = 1 - height * width / SIDE**2
            assert cells.lam[i] == np.float32(lam)
        lam = float(cells.lam[i])
        row = np.full(7, 0.1 / 7)
        row[cells.labels[i]] += 0.9 * lam
        row[cells.labels[cells.partner[i]]] += 0.9 * (1 - lam)
        np.testing.assert_allclose(targets[i], row, atol=1e-6)
    hard = mixed_labels(batch, 7, 0.0)
    assert torch.equal((hard > 0).sum(1).clamp(max=2), (hard > 0).sum(1))


def with_labels(batch: ViewBatch, labels: NDArray[np.int64]) -> ViewBatch:
    return replace(batch, labels=torch.from_numpy(labels))


@settings(max_examples=60, deadline=None)
@given(
    group=st.sampled_from([1, 2, 4, 64]),
    classes=st.integers(1, 12),
    smoothing=st.sampled_from([0.0, 0.1, 0.9]),
    hidden=st.floats(0, 1),
    epoch=st.integers(0, 50),
)
def test_an_unlabelled_image_asks_for_nothing_in_a_mixed_view(
    group: int, classes: int, smoothing: float, hidden: float, epoch: int
) -> None:
    random = np.random.default_rng(epoch)
    labels = random.integers(0, classes, 16)
    labels[random.random(16) < hidden] = -1
    names = [str(i) for i in range(classes)]
    table = ArraySamples("few", np.zeros((16, 4, 4, 3), np.uint8), labels, names)
    recipe = replace(RECIPE, mix_group=group)
    plan = ViewPlan.for_recipe(16, recipe, seed=5)
    cells = render_cells(table, recipe, plan, Cells(epoch, np.arange(16)), SIDE)
    targets = mixed_labels(to_batch(cells), classes, smoothing).double().numpy()
    shares = labelled_share(to_batch(cells)).double().numpy()
    for row, share, own, partner, lam in zip(
        targets, shares, cells.labels, cells.labels[cells.partner], cells.lam.astype(np.float64), strict=True
    ):
        expected = np.zeros(classes)
        for label, weight in ((own, lam), (partner, 1 - lam)):
            if label >= 0:
                expected += weight * smoothing / classes
                expected[label] += weight * (1 - smoothing)
        np.testing.assert_allclose(row, expected, atol=1e-6)
        assert share == pytest.approx(expected.sum(), abs=1e-6)
        if own < 0 and partner < 0:
            assert not row.any()
        if own >= 0 and partner >= 0:
            assert share == 1


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_targets_of_labelled_images_have_the_bits_they_always_had(table: ArraySamples, smoothing: float) -> None:
    """The weights of earlier runs depend on them; an odd number of pixels makes lambdas that are no round numbers."""
    plan = ViewPlan.for_recipe(len(table), RECIPE, seed=12)
    for epoch in range(20):
        batch = to_batch(render_cells(table, RECIPE, plan, Cells(epoch, np.arange(64)), 23))
        lam = batch.lam.unsqueeze(1)
        before = torch.full((64, 7), smoothing / 7)
        before.scatter_add_(1, batch.labels.unsqueeze(1), lam * (1.0 - smoothing))
        before.scatter_add_(1, partner_labels(batch).unsqueeze(1), (1 - lam) * (1.0 - smoothing))
        assert torch.equal(mixed_labels(batch, 7, smoothing), before)
        assert (labelled_share(batch) == 1).all()


def test_the_dominant_label_of_a_view_that_is_mostly_unlabelled_is_none(table: ArraySamples) -> None:
    batch = to_batch(batch_of(table, RECIPE, np.arange(64)))
    hidden = batch.labels.numpy().copy()
    hidden[::2] = -1
    dominant = dominant_labels(with_labels(batch, hidden)).numpy()
    own = np.where(batch.lam.numpy() >= 0.5, np.arange(64), batch.partner.numpy())
    np.testing.assert_array_equal(dominant, hidden[own])
    assert (dominant == -1).any()


def test_dominant_and_partner_labels(table: ArraySamples) -> None:
    batch = to_batch(batch_of(table, RECIPE, np.arange(64)))
    partner = partner_labels(batch)
    assert torch.equal(partner, batch.labels.view(-1, 2).flip(1).reshape(-1))
    expected = [int(a if lam >= 0.5 else b) for a, b, lam in zip(batch.labels, partner, batch.lam, strict=True)]
    assert dominant_labels(batch).tolist() == expected
    assert 0 < (dominant_labels(batch) != batch.labels).sum() < 64


def test_timms_mixup_target_is_the_reference_for_targets(table: ArraySamples) -> None:
    from timm.data.mixup import mixup_target

    recipe = replace(RECIPE, mix_group=64)
    batch = to_batch(batch_of(table, recipe, np.arange(64)))
    theirs = mixup_target(batch.labels, 7, float(batch.lam[0]), 0.1)
    torch.testing.assert_close(mixed_labels(batch, 7, 0.1), theirs)


def test_a_batch_mixed_as_one_group_equals_timms_batch_mode(table: ArraySamples) -> None:
    """With one group per batch the partner is the flipped batch, as in DeiT."""
    recipe = replace(RECIPE, mix_group=64, erase_prob=0.0, cutmix_alpha=0.0)
    cells = batch_of(table, recipe, np.arange(64))
    np.testing.assert_array_equal(cells.partner, np.arange(64)[::-1])
    batch = to_batch(cells)
    pixels = torch.from_numpy(cells.pixels).permute(0, 3, 1, 2) / 255
    lam = float(batch.lam[0])
    torch.testing.assert_close(compose(batch, recipe), pixels * lam + pixels.flip(0) * (1 - lam))


def test_composed_bits_are_fixed_for_ever(table: ArraySamples) -> None:
    """These may only change together with VIEWS_VERSION: conversion, noise and mixing, to the last bit."""
    recipe = replace(RECIPE, erase_prob=0.7)
    composed = compose(to_batch(batch_of(table, recipe, np.arange(64))), recipe)
    assert f"{zlib.crc32(composed.numpy().tobytes()):08x}" == "0bce4577"


def test_an_empty_batch_composes_to_nothing(table: ArraySamples) -> None:
    batch = to_batch(batch_of(table, RECIPE, np.arange(0)))
    assert compose(batch, RECIPE).shape == (0, 3, SIDE, SIDE)
    assert mixed_labels(batch, 7, 0.1).shape == (0, 7)


def test_moving_a_batch_keeps_everything(table: ArraySamples) -> None:
    batch = to_batch(batch_of(table, RECIPE, np.arange(8)))
    moved = batch.to("cpu")
    assert isinstance(moved, ViewBatch)
    assert torch.equal(compose(moved, RECIPE), compose(batch, RECIPE))
    assert len(moved) == 8
    assert (RECIPE.mean, RECIPE.std) == (IMAGENET_MEAN, IMAGENET_STD)
