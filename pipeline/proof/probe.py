"""A probe of the program: a fixed, coloured batch through erasing, mixing, normalising and mixing of labels.

Its witness is the same on every machine whose program composes alike, so it is kept with a cache and compared before
anything is trained, whatever the cache's own views show.

Shapes: V views of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from deit_pipe.pipeline.compose import compose, labelled_share, mixed_labels, normalise
from deit_pipe.pipeline.loader import ViewBatch
from deit_pipe.pipeline.proof.witness import TOLERANCE, witness_sums
from deit_pipe.pipeline.recipe import Recipe

VIEWS, SIZE, CLASSES, SMOOTHING = 8, 32, 7, 0.1
_BOX = (4, 6, 10, 20)  # top, left, height, width


def probe_text(recipe: Recipe, mean: Sequence[float], std: Sequence[float], device: torch.device | str) -> str:
    """Return the probe's numbers as a cache keeps them: for each view its sums, its labels by weight, its share."""
    batch = probe_batch().to(device)
    inputs = normalise(compose(batch, recipe), mean, std)
    rows = mixed_labels(batch, CLASSES, SMOOTHING)
    weighed = rows * torch.arange(1, CLASSES + 1, device=rows.device)
    columns = [witness_sums(inputs, mean, std), weighed.sum(dim=1)[:, None], labelled_share(batch)[:, None]]
    return " ".join(f"{value:.9g}" for value in torch.cat(columns, dim=1).cpu().flatten().tolist())


def probe_differs(kept: str, here: str) -> int | None:
    """Return the first view in which two probes differ by more than rounding; None: in none."""
    one, other = _numbers(kept), _numbers(here)
    if one.shape != other.shape:
        return 0
    # written so that a NaN differs
    different = ~(np.abs(one - other) <= TOLERANCE)
    return int(np.flatnonzero(different.any(axis=1))[0]) if different.any() else None


def probe_row(text: str, view: int) -> str:
    """Return one view's numbers, for a message."""
    return " ".join(f"{value:+.6f}" for value in _numbers(text)[view].tolist())


def _numbers(text: str) -> NDArray[np.float64]:
    values = np.array(text.split(), np.float64)
    return values.reshape(VIEWS, -1) if values.size and values.size % VIEWS == 0 else np.full((VIEWS, 1), np.nan)


def probe_batch() -> ViewBatch:
    """Return the batch: four views mixed by Mixup, four by CutMix, three of the eight erased, one without a label."""
    view, y, x, channel = np.indices((VIEWS, SIZE, SIZE, 3))
    pixels = (37 * view + 5 * y * (channel + 1) + 11 * x + 83 * channel + (x * y >> 2)) % 256
    erase = np.zeros((VIEWS, 4), np.int32)
    erase[[1, 4, 6]] = [(3, 2, 9, 14), (10, 12, 21, 5), (0, 0, 8, 8)]
    cut = np.arange(VIEWS) >= VIEWS // 2
    share = 1 - _BOX[2] * _BOX[3] / (SIZE * SIZE)
    return ViewBatch(
        epoch=0,
        slots=np.arange(VIEWS),
        samples=np.arange(VIEWS),
        fingerprints=np.zeros(VIEWS, np.uint32),
        pixels=torch.from_numpy(pixels.astype(np.uint8)),
        labels=torch.tensor([0, 1, 2, 3, 4, 5, 6, -1]),
        erase=torch.from_numpy(erase),
        noise_seed=torch.arange(VIEWS) * 0x1234567 + (5 << 40),
        partner=torch.tensor([3, 2, 1, 0, 7, 6, 5, 4]),
        lam=torch.from_numpy(np.where(cut, share, 0.6875).astype(np.float32)),
        mix_box=torch.from_numpy(np.where(cut[:, None], np.array(_BOX), 0).astype(np.int32)),
        erased_pixels=int((erase[:, 2] * erase[:, 3]).sum()),
        mixed=True,
    )
