"""Compose a batch on its device: /255, erase, mix; then normalise for one model.

DeiT normalises, erases with normal noise, then mixes. Normalising is affine and the weights of a mix sum to
1, so erasing with mean + std * noise and normalising last gives the same numbers, for every model's own mean
and std.

The noise is an integer hash of (noise seed, channel, y, x), mapped through a table of normal quantiles: the
same bits on every device and in every batch.

Shapes: B views, S the side of a view, C classes. A label of -1 is an image without label.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray

from deit_pipe.pipeline.loader import ViewBatch
from deit_pipe.pipeline.recipe import Recipe

LEVELS = 1 << 16  # noise values: the quantiles at (i + 1/2) / 65536
_MASK32 = (1 << 32) - 1


def compose(batch: ViewBatch, recipe: Recipe) -> torch.Tensor:
    """Return the mixed pixels, float32 [B, 3, S, S]: 0..1, not normalised; the noise is not clipped."""
    pixels = batch.pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    # A tensor, not a number: on CUDA dividing by a number multiplies by its rounded reciprocal.
    pixels = pixels.div_(torch.full((1,), 255.0, device=pixels.device))
    if batch.erased_pixels:
        _erase(pixels, batch, recipe)
    if batch.mixed:
        pixels = _mix(pixels, batch)
    return pixels


def normalise(pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Return (pixels - mean) / std per channel, float32 [B, 3, S, S]."""
    return (pixels - _channels(mean, pixels.device)).div_(_channels(std, pixels.device))


def mixed_labels(batch: ViewBatch, num_classes: int, smoothing: float) -> torch.Tensor:
    """Return the true-label targets, float32 [B, C]: smoothed one-hot rows, mixed like the pixels.

    As timm's `mixup_target`: off value smoothing / C, on value 1 - smoothing + smoothing / C. A row sums to the
    view's labelled share: what an unlabelled image (label -1) covers asks for no class, not even by smoothing.
    """
    # All of it stays on the device: asking whether any label is -1 would stop a GPU in every step.
    targets = labelled_share(batch).unsqueeze(1) * torch.full(
        (len(batch), num_classes), smoothing / num_classes, device=batch.labels.device
    )
    on_top = 1.0 - smoothing
    lam = batch.lam.unsqueeze(1)
    for labels, weight in ((batch.labels, lam), (partner_labels(batch), 1 - lam)):
        column = labels.unsqueeze(1)
        targets.scatter_add_(1, column.clamp(min=0), (column >= 0) * (weight * on_top))
    return targets


def labelled_share(batch: ViewBatch) -> torch.Tensor:
    """Return how much of each view is covered by labelled images, float32 [B], exactly 1 where all of it is."""
    own, other = batch.labels >= 0, partner_labels(batch) >= 0
    # lam + (1 - lam) is 1 to the last bit: what rounding 1 - lam adds is at most half a step of the numbers below 1
    return torch.where(own, batch.lam, 0.0) + torch.where(other, 1 - batch.lam, 0.0)


def partner_labels(batch: ViewBatch) -> torch.Tensor:
    """Return the label of each view's partner, int64 [B], -1: unlabelled; the own label when not mixed."""
    return batch.labels[batch.partner]


def dominant_labels(batch: ViewBatch) -> torch.Tensor:
    """Return the label with the larger weight, int64 [B], -1: unlabelled; the own label at one half."""
    return torch.where(batch.lam >= 0.5, batch.labels, partner_labels(batch))


def noise_levels(seed: torch.Tensor, channel: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return the 16-bit hash of (noise seed, channel, y, x), int64 0..65535, broadcast over the arguments.

    All in int64 with products below 2**63, so that no device and no compiler sees an overflow.
    """
    key = _scramble((seed & _MASK32) ^ _scramble(seed >> 32))
    row = _scramble(key ^ ((channel << 16) | y))
    return _scramble((row + x * 0x1E3779B9) & _MASK32) >> 16


def _scramble(value: torch.Tensor) -> torch.Tensor:
    """Mix 32 bits: xor-shift and multiply twice; the multipliers are below 2**31."""
    value = ((value ^ (value >> 16)) * 0x7FEB352D) & _MASK32
    value = ((value ^ (value >> 15)) * 0x2C1B3C6D) & _MASK32
    return value ^ (value >> 16)


@lru_cache(maxsize=1)
def normal_quantiles() -> NDArray[np.float64]:
    """Return the standard normal quantiles at (i + 1/2) / 65536, float64 [65536], on a grid of 2**-20."""
    inverse = NormalDist().inv_cdf
    upper = [inverse((i + 0.5) / LEVELS) for i in range(LEVELS // 2, LEVELS)]
    half = np.round(np.asarray(upper) * (1 << 20)) / (1 << 20)  # a last-bit difference of libm rounds away
    return np.concatenate([-half[::-1], half])


@lru_cache(maxsize=8)
def _noise_table(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Return the value of every noise level per channel in units of 0..1, float32 [3 * 65536]."""
    table = np.asarray(mean)[:, None] + np.asarray(std)[:, None] * normal_quantiles()
    return torch.from_numpy(table.astype(np.float32).reshape(-1)).to(device)


def _erase(pixels: torch.Tensor, batch: ViewBatch, recipe: Recipe) -> None:
    """Overwrite the erase boxes with noise, in place, all boxes of the batch in one go."""
    device = pixels.device
    size = pixels.shape[-1]
    top, left, height, width = batch.erase.to(torch.int64).unbind(1)
    area = height * width
    total = batch.erased_pixels
    owner = torch.repeat_interleave(area, output_size=total)
    within = torch.arange(total, device=device) - (area.cumsum(0) - area)[owner]
    y = top[owner] + torch.div(within, width[owner], rounding_mode="floor")
    x = left[owner] + within % width[owner]
    channel = torch.arange(3, device=device)[:, None]
    levels = noise_levels(batch.noise_seed[owner], channel, y, x)
    values = _noise_table(recipe.mean, recipe.std, device)[levels + channel * LEVELS]
    place = (owner * 3 + channel) * (size * size) + y * size + x
    pixels.view(-1)[place.view(-1)] = values.view(-1)


def _mix(pixels: torch.Tensor, batch: ViewBatch) -> torch.Tensor:
    """Mix each view with its partner: Mixup by lambda everywhere, CutMix by the box."""
    top, left, height, width = (edge[:, None] for edge in batch.mix_box.unbind(1))
    line = torch.arange(pixels.shape[-1], device=pixels.device)
    rows, columns = (line >= top) & (line < top + height), (line >= left) & (line < left + width)
    inside = (rows[:, :, None] & columns[:, None, :])[:, None]
    cut = (height * width > 0)[:, :, None, None]
    weight = torch.where(cut, (~inside).to(torch.float32), batch.lam[:, None, None, None])
    mixed = torch.empty_like(pixels)
    # On a CPU a few views at a time, which stay in its cache: 2.5 times as fast as all at once.
    step = 4 if pixels.device.type == "cpu" else max(len(batch), 1)
    for start in range(0, len(batch), step):
        part = slice(start, start + step)
        own = pixels[part] * weight[part]
        torch.add(own, pixels[batch.partner[part]] * (1 - weight[part]), out=mixed[part])
    return mixed


@lru_cache(maxsize=16)
def _channel_row(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)


def _channels(values: Sequence[float], device: torch.device) -> torch.Tensor:
    return _channel_row(tuple(values), device)
