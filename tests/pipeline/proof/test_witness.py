"""The witness: equal for equal inputs, whatever the network's normalisation, and moved by every fault looked for."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from deit_pipe.pipeline import compose as composing
from deit_pipe.pipeline.compose import compose, labelled_share, mixed_labels, normalise
from deit_pipe.pipeline.loader import ViewBatch, load_views
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.proof.witness import SUMS, TOLERANCE, expected_labels, rows_of, telling_views, witness_sums
from deit_pipe.pipeline.recipe import PRESETS, Recipe
from deit_pipe.pipeline.samples import ArraySamples

SIZE, COUNT, CLASSES = 32, 64, 5
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OTHER_MEAN, OTHER_STD = (0.5, 0.4, 0.3), (0.25, 0.5, 0.125)


@cache
def views(mix_group: int = 2, **changed: float) -> tuple[ViewBatch, Recipe]:
    random = np.random.Generator(np.random.Philox(3))
    pixels = random.integers(0, 256, (COUNT, 40, 40, 3), dtype=np.uint8)
    table = ArraySamples("made", pixels, np.arange(COUNT) % CLASSES, [str(c) for c in range(CLASSES)])
    recipe = replace(PRESETS["deit"], mix_group=mix_group, **changed)  # type: ignore[arg-type]
    plan = ViewPlan.for_recipe(COUNT, recipe, 5)
    return next(iter(load_views(table, recipe, plan, [Cells(0, np.arange(COUNT))], image_size=SIZE))), recipe


def sums(inputs: torch.Tensor, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> np.ndarray:
    return witness_sums(inputs, mean, std).numpy()


def honest() -> torch.Tensor:
    batch, recipe = views()
    return normalise(compose(batch, recipe), MEAN, STD)


def test_the_sums_are_those_of_the_pixels_times_signs_whatever_the_normalisation() -> None:
    batch, recipe = views()
    pixels = compose(batch, recipe)
    one, other = sums(honest()), sums(normalise(pixels, OTHER_MEAN, OTHER_STD), OTHER_MEAN, OTHER_STD)
    assert one.shape == (COUNT, SUMS)
    np.testing.assert_allclose(one, other, atol=TOLERANCE / 30, rtol=0)
    np.testing.assert_allclose(one, sums(pixels, (0.0,) * 3, (1.0,) * 3), atol=TOLERANCE / 30, rtol=0)


def test_each_sum_has_its_own_balanced_signs() -> None:
    """Of one pixel at a time: the signs, all of them, by linearity."""
    side = 8
    unit = torch.eye(3 * side * side).view(-1, 3, side, side)
    signs = sums(unit, (0.0,) * 3, (1.0,) * 3) * np.sqrt(3 * side * side)
    np.testing.assert_allclose(np.abs(signs), 1, atol=1e-6)
    assert (np.abs(signs.mean(axis=0)) < 0.25).all()
    correlation = np.corrcoef(signs.T) - np.eye(SUMS)
    assert (np.abs(correlation) < 0.25).all()


def test_other_precision_and_order_of_summing_move_them_far_less_than_the_tolerance() -> None:
    """Double precision, a reciprocal, a fused product, memory in another order, one view at a time."""
    batch, recipe = views()
    wide = compose(batch, recipe).double()
    std, mean = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (STD, MEAN))
    variants = {
        "double": ((wide - mean) / std).float(),
        "reciprocal": ((wide.float() - mean.float()) * (1 / std.float())),
        "fused": (wide * (1 / std) - mean / std).float(),
        "channels last": honest().to(memory_format=torch.channels_last),
    }
    want = sums(honest())
    for name, inputs in variants.items():
        assert np.abs(sums(inputs) - want).max() < TOLERANCE / 10, name
    alone = np.concatenate([sums(honest()[i : i + 1]) for i in range(COUNT)])
    assert np.abs(alone - want).max() < TOLERANCE / 10


def changed_pixels(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], torch.Tensor]:
    batch, recipe = views()
    return lambda: normalise(change(compose(batch, recipe)), MEAN, STD)


def changed_batch(**changes: object) -> Callable[[], torch.Tensor]:
    batch, recipe = views()
    return lambda: normalise(compose(replace(batch, **changes), recipe), MEAN, STD)  # type: ignore[arg-type]


def scaled(mean: float = 1.0, std: float = 1.0) -> Callable[[], torch.Tensor]:
    batch, recipe = views()
    wrong = (tuple(v * mean for v in MEAN), tuple(v * std for v in STD))
    return lambda: normalise(compose(batch, recipe), *wrong)


def swapped_pairs(pixels: torch.Tensor) -> torch.Tensor:
    return pixels[torch.arange(COUNT) ^ 1]


def box_inside_out() -> torch.Tensor:
    batch, recipe = views()
    cut = batch.mix_box[:, 2:].prod(dim=1) > 0
    pixels = compose(batch, recipe)
    return normalise(torch.where(cut[:, None, None, None], swapped_pairs(pixels), pixels), MEAN, STD)


FAULTS: dict[str, Callable[[], Callable[[], torch.Tensor]]] = {
    "mean x .99": lambda: scaled(mean=0.99),
    "std x .99": lambda: scaled(std=0.99),
    "std x .999": lambda: scaled(std=0.999),
    "/256": lambda: changed_pixels(lambda pixels: pixels * (255 / 256)),
    "channel swap": lambda: changed_pixels(lambda pixels: pixels.flip(1)),
    "rolled by one pixel": lambda: changed_pixels(lambda pixels: pixels.roll(1, dims=3)),
    "flip": lambda: changed_pixels(lambda pixels: pixels.flip(3)),
    "transpose": lambda: changed_pixels(lambda pixels: pixels.transpose(2, 3)),
    "clipped noise": lambda: changed_pixels(lambda pixels: pixels.clamp(0, 1)),
    "bf16": lambda: lambda: honest().bfloat16().float(),
    "two views swapped": lambda: changed_pixels(swapped_pairs),
    "lambda swapped": lambda: changed_batch(lam=1 - views()[0].lam),
    "CutMix inside out": lambda: box_inside_out,
    "no mixing": lambda: changed_batch(mixed=False),
    "no erase": lambda: changed_batch(erased_pixels=0),
    "other noise seed": lambda: changed_batch(noise_seed=views()[0].noise_seed + 1),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_seen_in_every_view_that_it_changes(name: str) -> None:
    wrong = FAULTS[name]()()
    right = honest()
    moved = (np.abs(sums(wrong) - sums(right)) > TOLERANCE).any(axis=1)
    changed = (wrong - right).abs().amax(dim=(1, 2, 3)).numpy() > 1e-6
    assert changed.sum() >= 10
    np.testing.assert_array_equal(moved, changed)


@pytest.mark.parametrize(("name", "factor"), [("noise x .9", 0.9), ("noise negated", -1.0)])
def test_faults_of_the_noise_are_seen(name: str, factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    right, quantiles = sums(honest()), composing.normal_quantiles()
    composing._noise_table.cache_clear()
    monkeypatch.setattr(composing, "normal_quantiles", lambda: quantiles * factor)
    wrong = sums(honest())
    composing._noise_table.cache_clear()
    erased = (views()[0].erase[:, 2] > 0).numpy()
    mixed_with = erased[views()[0].partner.numpy()]
    assert (np.abs(wrong - right) > TOLERANCE).any(axis=1)[erased | mixed_with].mean() > 0.9, name


@pytest.mark.parametrize("mix_group", [2, 4, 16])
@pytest.mark.parametrize("prefer_cutmix", [False, True])
def test_an_erased_and_mixed_pair_of_the_wanted_kind_is_chosen(mix_group: int, prefer_cutmix: bool) -> None:
    batch, _ = views(mix_group)
    tells, (first, second) = telling_views(batch, prefer_cutmix)
    assert batch.partner[first] == second
    assert bool(batch.erase[[first, second], 2].any())
    kinds = (batch.mix_box[:, 2] > 0)[batch.erase[:, 2] > 0]
    if prefer_cutmix in kinds.tolist():
        assert bool(batch.mix_box[first, 2] > 0) is prefer_cutmix
        assert tells >= 14
    again = telling_views(batch, prefer_cutmix)
    assert again == (tells, [first, second])


def test_both_kinds_are_chosen_by_turns() -> None:
    chosen = {bool(views()[0].mix_box[telling_views(views()[0], kind)[1][0], 2] > 0) for kind in (False, True)}
    assert chosen == {False, True}


def test_views_that_are_not_mixed_are_witnessed_with_a_neighbour() -> None:
    batch, _ = views(erase_prob=0.0, mix_prob=0.0)
    assert telling_views(batch, True) == (0, [0, 1])
    one = replace(batch, partner=torch.zeros(1, dtype=torch.int64), slots=np.arange(1))
    for name in ("erase", "mix_box", "labels", "lam"):
        setattr(one, name, getattr(batch, name)[:1])
    assert telling_views(one, True) == (0, [0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_expected_labels_are_the_rows_that_the_loss_gets(smoothing: float) -> None:
    batch, _ = views()
    labels = torch.where(torch.arange(COUNT) % 7 == 0, -1, batch.labels)
    batch = replace(batch, labels=labels)
    pairs = torch.stack([labels, labels[batch.partner]], dim=1).numpy()
    got = torch.cat([mixed_labels(batch, CLASSES, smoothing), labelled_share(batch)[:, None]], dim=1)
    want = expected_labels(pairs, batch.lam.numpy(), CLASSES, smoothing)
    assert want.dtype == np.float32
    np.testing.assert_allclose(got.numpy(), want, atol=1e-6)


def test_rows_are_picked_in_order() -> None:
    values = torch.arange(12.0).view(4, 3)
    assert rows_of(values, [2, 0]).tolist() == [[6, 7, 8], [0, 1, 2]]
