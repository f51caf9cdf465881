"""What the network is really given, reduced to a few numbers that can be kept and compared.

A fingerprint covers uint8 pixels and drawn numbers. What follows (dividing by 255, erasing, mixing, normalising,
mixing labels) is the witness's: the sums of a view's tensor, at the network's input, times fixed signs of +1 and -1.
Any change of any pixel moves them, as likely up as down; the same arithmetic elsewhere moves them by rounding only. The
tensor is brought back by the mean and std that the network is normalised with, so that teacher and student give the
same numbers.

Elementwise products and sums, never a matrix product: on a GPU that may round to 10 bits (TF32), which is 1.2e-4.

Shapes: B views of a batch, n witnessed views, S the side of a view, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from deit_pipe.pipeline.loader import ViewBatch

SUMS = 4

# Sums are of the size of the pixels, 0..1. Other devices, versions and numbers of threads, fused products and
# reciprocals were measured to move them by less than 1e-6; the smallest fault looked for (std x .999) by about 3e-4.
TOLERANCE = 3e-5


def witness_sums(inputs: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Return the sums of views as a network gets them.

    Args:
        inputs: float32 [n, 3, S, S], normalised.
        mean: that the network's normalisation is said to take, RGB; `std` likewise.
        std: see above.

    Returns:
        float32 [n, SUMS], on the device of `inputs`; in units of pixels of 0..1, whatever the size of a view.
    """
    size = inputs.shape[-1]
    pixels = inputs.float() * _channels(tuple(std), inputs.device) + _channels(tuple(mean), inputs.device)
    sums: torch.Tensor = (pixels.unsqueeze(1) * _signs(size, inputs.device)).sum(dim=(2, 3, 4))
    return sums / math.sqrt(3 * size * size)


def rows_of(inputs: torch.Tensor, places: Sequence[int]) -> torch.Tensor:
    """Return some rows of a tensor [B, ...]; unlike indexing by a list it never makes a device wait."""
    return torch.stack([inputs[place] for place in places])


def telling_views(batch: ViewBatch, prefer_cutmix: bool) -> tuple[int, list[int]]:
    """Choose the views of a batch that witness most: one and the view that it is mixed with.

    A fault of erasing or of mixing shows only in views that are erased or mixed, one of labels only where they differ.

    Returns:
        How much they tell (more is better), and their positions in the batch: two, or one where there is only one.
    """
    count = len(batch)
    partner = batch.partner.numpy()
    here = np.arange(count)
    erased, cut = (np.prod(box[:, 2:].numpy(), axis=1) > 0 for box in (batch.erase, batch.mix_box))
    mixed = partner != here
    labels = batch.labels.numpy()
    score = (
        8 * (erased | erased[partner]) + 4 * (mixed & (cut == prefer_cutmix)) + 2 * mixed + (labels != labels[partner])
    )
    first = int(np.argmax(np.where(partner >= here, score, -1)))
    second = int(partner[first])
    if second == first:  # nothing is mixed with it: a neighbour shows an exchange of two views
        second = first + 1 if first + 1 < count else first - 1
    return int(score[first]), [first, second] if second >= 0 else [first]


def expected_labels(
    labels: NDArray[np.int64], lam: NDArray[np.float32], num_classes: int, smoothing: float
) -> NDArray[np.float32]:
    """Return what the loss must be given: the rows of `compose.mixed_labels`, then each view's labelled share.

    Written apart from `compose`, so that a fault there is none here.

    Args:
        labels: int64 [n, 2], own and partner's; -1: unlabelled.
        lam: float32 [n], weight of the own image.
        num_classes: C.
        smoothing: of the true labels.

    Returns:
        float32 [n, C + 1].
    """
    weights = np.stack([lam, 1 - lam], axis=1).astype(np.float64) * (labels >= 0)
    share = weights.sum(axis=1)
    rows = np.zeros((len(labels), num_classes + 1))
    rows[:, :num_classes] = share[:, None] * smoothing / num_classes
    for row, (pair, parts) in enumerate(zip(labels.tolist(), weights.tolist(), strict=True)):
        for label, weight in zip(pair, parts, strict=True):
            if label >= 0:
                rows[row, label] += weight * (1 - smoothing)
    rows[:, num_classes] = share
    return rows.astype(np.float32)


@lru_cache(maxsize=8)
def _signs(size: int, device: torch.device) -> torch.Tensor:
    """Return +1 and -1, float32 [SUMS, 3, S, S]: bits of an integer hash of (channel, y, x)."""
    channel, y, x = np.indices((3, size, size), dtype=np.uint64)
    value = (channel << np.uint64(40)) | (y << np.uint64(20)) | x
    # the finaliser of MurmurHash3: every bit of the place moves every bit of the hash
    for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ (value >> np.uint64(33))) * np.uint64(multiplier)
    value ^= value >> np.uint64(33)
    bits = np.stack([(value >> np.uint64(60 + place)) & np.uint64(1) for place in range(SUMS)])
    return torch.from_numpy(bits.astype(np.float32) * 2 - 1).to(device)


@lru_cache(maxsize=16)
def _channels(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)
