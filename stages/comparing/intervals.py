"""Mean, spread and paired differences of a few runs. Numbers only."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

LEVEL = 0.95


class Spread(NamedTuple):
    """Mean and standard deviation (n - 1) of n runs; the deviation of one run is not known: None."""

    mean: float
    sd: float | None
    runs: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self._asdict()


class Difference(NamedTuple):
    """Mean of n differences of pairs, with its 95 % interval by Student's t; one pair has none: None, None."""

    mean: float
    low: float | None
    high: float | None
    pairs: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self._asdict()


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread of at least one value."""
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def paired_difference(ours: Mapping[Any, float], others: Mapping[Any, float]) -> Difference | None:
    """Ours minus others over the seeds that both have; None where they share none.

    Pairs share what a seed decides (weights at the start, images of a subset), so that its luck cancels.

    >>> difference = paired_difference({0: 0.93, 1: 0.95}, {0: 0.90, 1: 0.91})
    >>> round(difference.mean, 3), difference.pairs
    (0.035, 2)
    """
    gaps = [value - others[seed] for seed, value in ours.items() if seed in others]
    if not gaps:
        return None
    mean = statistics.fmean(gaps)
    if len(gaps) == 1:
        return Difference(mean, None, None, 1)
    half = student_t(LEVEL, len(gaps) - 1) * statistics.stdev(gaps) / math.sqrt(len(gaps))
    return Difference(mean, mean - half, mean + half, len(gaps))


def student_t(level: float, freedom: int) -> float:
    """The t that Student's distribution with so many degrees of freedom stays within (-t, t) of, at this level.

    By bisection of the distribution's finite sums (Abramowitz and Stegun 26.7.3 and 26.7.4).
    """
    low, high = 0.0, 1.0
    while inside(high, freedom) < level:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle, freedom) < level else (low, middle)
    return high


def inside(t: float, freedom: int) -> float:
    """Probability of -t..t under Student's distribution, for whole degrees of freedom from 1 on."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = term if freedom > 1 or not odd else 0.0
    for k in range(2 if odd else 1, freedom - 1, 2):  # the next power of cos^2, and its coefficient
        term *= math.cos(angle) ** 2 * k / (k + 1)
        total += term
    return (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total
