"""Which samples are held out, used and labelled: seeded draws, stratified by class.

Every sample of the whole training split has one random word for each purpose; of each class those with the
smallest words are taken. So a draw depends on the seed, the position and nothing else: not on the other draws,
and a larger part holds (but for rounding between classes) the smaller one.

Shapes: N samples.
"""

from __future__ import annotations

import heapq
from enum import IntEnum
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline import streams
from deit_pipe.pipeline.plan import Purpose


class Draw(IntEnum):
    """What is drawn; each has words of its own."""

    TRAINED_ON = 0  # as against held out
    # Used, and labelled: the images that keep their labels are those which alone would be used as so small a part, so
    # that a student with the other images can be compared with one without.
    USED = 1


def draw_part(
    labels: NDArray[np.int64], among: NDArray[np.int64], total: int, seed: int, draw: Draw
) -> NDArray[np.int64]:
    """Choose some samples, of every class its share and at least one.

    Args:
        labels: int64 [N], of the whole split; unlabelled samples (-1) are a class of their own here.
        among: int64, increasing positions to choose from.
        total: how many; more where there are more classes than that; 0 chooses nothing.
        seed: 0..2**63-1.
        draw: what it is for.

    Returns:
        int64, increasing positions.
    """
    if total == 0 or not len(among):
        return among[:0]
    _, which, counts = np.unique(labels[among], return_inverse=True, return_counts=True)
    quotas = np.asarray(apportion(counts.tolist(), total), dtype=np.int64)
    words = streams.random_words(seed, Purpose.SUBSET, int(draw), 0, len(labels))[among]
    order = np.lexsort((words, which))
    place_in_class = np.arange(len(among)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = order[place_in_class < np.repeat(quotas, counts)]
    return among[np.sort(chosen)]


def part_of(count: int, part: float) -> int:
    """Return `part` of `count`, half up; 0.1 means the decimal 1/10, not the nearest binary fraction."""
    return int((2 * Fraction(repr(float(part))) * count + 1) // 2)


def apportion(counts: list[int], total: int) -> list[int]:
    """Share `total` between classes in proportion to their counts, by largest remainder, at least 1 each.

    The sum is `total`, or the number of classes where that is more.
    """
    everything = sum(counts)
    total = min(max(total, len(counts)), everything)
    shares = [max(1, total * count // everything) for count in counts]
    # How far a share is above its quota, times `everything`: whole numbers, so no rounding decides.
    above = [share * everything - total * count for share, count in zip(shares, counts, strict=True)]
    missing = total - sum(shares)
    step = 1 if missing > 0 else -1

    def movable(i: int) -> bool:
        return shares[i] < counts[i] if step > 0 else shares[i] > 1

    # Give to those furthest below their quota, or take back (the ones that were lifted to 1 cost too much) from those
    # furthest above. A share of 1 is never taken.
    heap = [(step * gap, i) for i, gap in enumerate(above) if movable(i)]
    heapq.heapify(heap)
    for _ in range(abs(missing)):
        gap, i = heapq.heappop(heap)
        shares[i] += step
        if movable(i):
            heapq.heappush(heap, (gap + everything, i))
    return shares
