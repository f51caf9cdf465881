"""Repeated augmentation: where the views of one sample sit in an epoch.

The copies stay within one window of slots, so that they meet in one optimiser step, and in different mix
groups, so that a sample is not mixed with itself. DeiT's own sampler (samplers.py) needs three processes to
part them; this needs one.

`spread_repeats` knows windows only. `spread_in_steps` knows the optimiser step too: it deals the views in DeiT's
order, a a a b b b c c c ..., a step after the other, so that only a sample at the border of two steps is torn apart.
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


def spread_in_steps(
    samples: NDArray[np.int64],
    words: NDArray[np.uint64],
    seat_words: NDArray[np.uint64],
    repeats: int,
    group: int,
    window: int,
    step: int,
) -> NDArray[np.int64]:
    """Return the sample of every slot, int64 [N]: step k holds views k * step .. (k + 1) * step of DeiT's order.

    A step is cut into windows, the last of which takes the rest. Rows are dealt as in `spread_repeats`; a sample that
    spans two rows gets other groups in the second. Seats are then shuffled within each group, so that the copies of one
    sample are not all mixed with the copies of one other.

    Args:
        samples: int64 [N], a random order of all samples; the first ceil(N / repeats) take part.
        words: uint64 [N], random, for groups.
        seat_words: uint64 [N], random, for seats.
        repeats: views of each sample.
        group: seats in a group.
        window: a multiple of `group`; at most `step`.
        step: a multiple of `group`. What is left at the end is dealt alone, or with the step before where it has not a
            group for every copy.
    """
    slots = len(samples)
    views = np.repeat(samples[: -(-slots // repeats)], repeats)[:slots]
    full, rest = divmod(slots, step)
    if full and 0 < rest < repeats * group:
        full -= 1
    stop = full * step
    cut = (step // window - 1) * window
    dealt = np.empty((full, step), np.int64)
    for part, size, windows in ((slice(0, cut), window, cut // window), (slice(cut, step), step - cut, 1)):
        shape = (full * windows, size)
        random = [values[:stop].reshape(full, step)[:, part].reshape(shape) for values in (words, seat_words)]
        shown = views[:stop].reshape(full, step)[:, part].reshape(shape)
        dealt[:, part] = _deal_windows(shown, random[0], random[1], group).reshape(full, size * windows)
    return np.concatenate([dealt.reshape(-1), _deal_tail(views[stop:], words[stop:], group)])


def share_together(order: NDArray[np.int64], batch: int) -> float:
    """Share of the samples shown more than once whose views are all in one batch; 1 where there is none.

    Args:
        order: int64 [M], the samples of an epoch in the order they are trained on.
        batch: views of a step.
    """
    by_sample = np.argsort(order, kind="stable")
    _, first, counts = np.unique(order[by_sample], return_index=True, return_counts=True)
    repeated = counts > 1
    steps = by_sample // batch
    together = steps[first] == steps[first + counts - 1]
    return float(together[repeated].mean()) if repeated.any() else 1.0


def _deal_windows(
    views: NDArray[np.int64], words: NDArray[np.uint64], seat_words: NDArray[np.uint64], group: int
) -> NDArray[np.int64]:
    """Deal windows [n, W] of views, copies side by side; the samples of every slot, [n, W]."""
    count, size = views.shape
    groups = size // group
    rows, row_words = views.reshape(count, group, groups), words.reshape(count, group, groups)
    placed = np.empty_like(rows)
    for row in range(group):
        line, keys = rows[:, row], row_words[:, row] | _TOP
        if row:
            keys = _heads_first(line, keys, rows[:, row - 1, -1:], placed[:, row - 1])
        np.put_along_axis(placed[:, row], np.argsort(keys, axis=1, kind="stable"), line, axis=1)
    seats = np.argsort(seat_words.reshape(count, groups, group), axis=2, kind="stable")
    seated: NDArray[np.int64] = np.take_along_axis(placed.transpose(0, 2, 1), seats, axis=2)
    return seated.reshape(count, size)


def _heads_first(
    line: NDArray[np.int64], keys: NDArray[np.uint64], last: NDArray[np.int64], above: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """Give the lowest keys to groups that may hold the head of a row: copies of the `last` sample of the row above."""
    heads = (line == last).sum(axis=1, keepdims=True)
    free_first = np.argsort(np.where(above == last, _LARGEST, keys), axis=1, kind="stable")
    rank = np.argsort(free_first, axis=1, kind="stable")  # the place of every group in that order
    return np.where(rank < heads, rank.astype(np.uint64), keys)


_TOP = np.uint64(1 << 63)  # keys of groups are above every rank
_LARGEST = np.uint64(np.iinfo(np.uint64).max)


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
