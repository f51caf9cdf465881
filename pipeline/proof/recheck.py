"""Fingerprints once more, after the hand-over: a worker fingerprints what it made, a batch holds what arrived.

About one view in a hundred is looked at, chosen by its cell, so that the same run looks at the same views. What stands
between is memory shared by processes, pinning, and our own packing into tensors.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.errors import ViewChanged
from deit_pipe.pipeline.loader import ViewBatch
from deit_pipe.pipeline.render import fingerprint
from deit_pipe.pipeline.views import Box, Mix

ONE_IN = 100


def rechecked(views: Iterator[ViewBatch], seed: int) -> Generator[ViewBatch, None, None]:
    """Yield the batches of `load_views`, a few views of each looked at again; closing it closes them.

    Raises:
        ViewChanged: as `recheck`.
    """
    try:
        for batch in views:
            recheck(batch, seed)
            yield batch
    finally:
        views.close()  # type: ignore[attr-defined]  # a generator; ends its workers


def recheck(batch: ViewBatch, seed: int) -> None:
    """Compute the fingerprints of a few views of a batch (on the host) again, from nothing but the batch.

    Raises:
        ViewChanged: a view is not the one that was fingerprinted; it is named.
    """
    for place in np.flatnonzero(chosen(batch.epoch, batch.slots, seed)).tolist():
        found = fingerprint_again(batch, place)
        if found != int(batch.fingerprints[place]):
            raise ViewChanged(
                f"a view was changed between its worker and the batch: epoch {batch.epoch}, slot {batch.slots[place]}, "
                f"sample {batch.samples[place]}",
                expected=f"fingerprint {int(batch.fingerprints[place]):08x}",
                got=f"fingerprint {found:08x}",
                cure="test this machine's memory; run again with --workers 0 to leave out the hand-over",
            )


def chosen(epoch: int, slots: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """Which cells are looked at, bool [B]: one in ONE_IN, by a hash of (seed, epoch, slot) and by nothing else."""
    address = np.array([(epoch << 40 ^ seed) % (1 << 64)], np.uint64)
    value: NDArray[np.uint64] = slots.astype(np.uint64) ^ address
    for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):  # the finaliser of MurmurHash3
        value = (value ^ (value >> np.uint64(33))) * np.uint64(multiplier)
    value ^= value >> np.uint64(33)
    return value <= np.uint64(((1 << 64) - 1) // ONE_IN)


class _Drawn(NamedTuple):
    """The part of a view that a fingerprint covers beside its pixels."""

    erase: Box | None
    noise_seed: int


def fingerprint_again(batch: ViewBatch, place: int) -> int:
    """Return the fingerprint of a view as it is in the batch."""
    size = batch.pixels.shape[1]
    drawn = _Drawn(_box(batch.erase[place].tolist()), int(batch.noise_seed[place]))
    partner, mix = int(batch.partner[place]), None
    if partner != place:
        box = _box(batch.mix_box[place].tolist())
        # float32 holds a Mixup lambda (a multiple of 2**-16) exactly; CutMix's follows from its box, as it was drawn
        lam = float(batch.lam[place])
        again = lam if box is None else 1 - box.width * box.height / (size * size)
        mix = Mix(again if np.float32(again) == np.float32(lam) else lam, box)
    offset = int(batch.slots[partner]) - int(batch.slots[place])
    return fingerprint(batch.pixels[place].numpy(), drawn, mix, offset)  # type: ignore[arg-type]  # all that it reads


def _box(edges: list[int]) -> Box | None:
    top, left, height, width = edges
    return Box(left, top, width, height) if height * width else None
