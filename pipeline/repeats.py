"""Repeated augmentation: where the views of one sample sit in an epoch.

The copies stay within one window of slots, so that they meet in one optimiser step, and in different mix
groups, so that a sample is not mixed with itself. DeiT's own sampler (samplers.py) needs three processes to
part them; this needs one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spread_repeats(
    samples: NDArray[np.int64], words: NDArray[np.uint64], repeats: int, group: int, window: int
) -> NDArray[np.int64]:
    """Return the sample of every slot, int64 [N].

    A window holds G groups of `group` seats. Its views, copies side by side, are dealt row by row: row t
    holds one view for seat t of every group, in random order. So copies within one row are in different
    groups, and as G is a multiple of `repeats`, no sample of a full window spans two rows.

    Args:
        samples: int64 [N], a random order of all samples; the first ceil(N / repeats) take part.
        words: uint64 [N], random.
        repeats: views of each sample; the last one has fewer when N is no multiple.
        group: seats in a group; the last group has fewer when N is no multiple.
        window: a multiple of repeats * group; what is left at the end joins the last window.
    """
    slots = len(samples)
    views = np.repeat(samples[: -(-slots // repeats)], repeats)[:slots]
    full = slots // window if slots % window == 0 else max(slots // window - 1, 0)
    shape = (full, group, window // group)
    stop = full * window
    shuffle = np.argsort(words[:stop].reshape(shape), axis=2, kind="stable")
    head = np.take_along_axis(views[:stop].reshape(shape), shuffle, axis=2)
    return np.concatenate([head.transpose(0, 2, 1).reshape(-1), _deal_tail(views[stop:], words[stop:], group)])


def _deal_tail(views: NDArray[np.int64], words: NDArray[np.uint64], group: int) -> NDArray[np.int64]:
    """Deal the last window, which need not be whole: a short last group, samples that span two rows."""
    if len(views) == 0:
        return views
    groups = -(-len(views) // group)
    short = len(views) % group or group
    placed = np.full((group, groups), -1, dtype=np.int64)
    start = 0
    for row in range(group):
        seats = groups if row < short else groups - 1
        order = np.argsort(words[start : start + seats], kind="stable")
        placed[row, :seats] = views[start : start + seats][order]
        _part_from_above(placed, row, seats)
        start += seats
    dealt = placed.T.reshape(-1)
    return dealt[dealt >= 0]


def _part_from_above(placed: NDArray[np.int64], row: int, seats: int) -> None:
    """Swap views within a row until no group holds a sample twice, where that is possible."""
    above, line = placed[:row], placed[row]
    for seat in np.flatnonzero((above[:, :seats] == line[:seats]).any(axis=0)):
        for other in range(seats):
            fits_here = line[other] not in above[:, seat]
            if fits_here and line[seat] not in above[:, other]:
                line[seat], line[other] = line[other], line[seat]
                break
