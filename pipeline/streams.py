"""Random numbers of one address: raw Philox words and the few distributions made from them.

Only IEEE basic arithmetic and comparisons touch the results, or they are rounded to a coarse grid afterwards,
so that a last-bit difference between maths libraries cannot move a box.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.random import Philox
from numpy.typing import NDArray

_NORMAL = NormalDist()
_CHUNK = 32  # words fetched at once: enough for most views


def random_words(seed: int, purpose: int, epoch: int, slot: int, count: int) -> NDArray[np.uint64]:
    """Return `count` uint64 words of an address."""
    return _philox(seed, purpose, epoch, slot).random_raw(count)


def rounded(value: float, grid: int) -> float:
    """Round to a multiple of 1 / grid (a power of two), half to even."""
    return round(value * grid) / grid


class Stream:
    """The words of one address, in order, as the kinds of numbers a view needs."""

    __slots__ = ("_address", "_next", "_source", "_words")

    def __init__(self, seed: int, purpose: int, epoch: int, slot: int) -> None:
        self._address = (seed, purpose, epoch, slot)
        self._source = _philox(seed, purpose, epoch, slot)
        self._words: list[int] = self._source.random_raw(_CHUNK).tolist()
        self._next = 0

    def for_purpose(self, purpose: int) -> Stream:
        """Return the stream of the same cell for another purpose."""
        seed, _, epoch, slot = self._address
        return Stream(seed, purpose, epoch, slot)

    def word(self) -> int:
        """Return the next word, 0..2**64-1."""
        if self._next == len(self._words):
            self._words = self._source.random_raw(_CHUNK).tolist()
            self._next = 0
        value = self._words[self._next]
        self._next += 1
        return value

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * ((self.word() >> 11) * 2.0**-53)

    def integer(self, count: int) -> int:
        """Return 0..count-1; the bias is below count / 2**64."""
        return (self.word() * count) >> 64

    def log_uniform(self, low: float, high: float) -> float:
        """Return a number in [low, high] whose logarithm is uniform, on a grid of 2**-24."""
        return rounded(math.exp(self.uniform(math.log(low), math.log(high))), 1 << 24)

    def normal(self) -> float:
        """Return a standard normal number, on a grid of 2**-16."""
        return rounded(_NORMAL.inv_cdf(((self.word() >> 12) + 0.5) * 2.0**-52), 1 << 16)

    def beta(self, a: float, b: float) -> float:
        """Return a Beta(a, b) number, 0..1; a and b both at most 1, or both at least 1.

        Joehnk's method (Metrika 8, 1964) below 1; above 1, rejection under the density's maximum.
        """
        if a <= 1 and b <= 1:
            while True:
                x: float = self.uniform() ** (1 / a)
                y: float = self.uniform() ** (1 / b)
                if 0 < x + y <= 1:
                    return x / (x + y)
        if a < 1 or b < 1:
            raise ValueError(f"no method for Beta({a}, {b})")
        mode = (a - 1) / (a + b - 2)
        while True:
            x, y = self.uniform(), self.uniform()
            if y <= _beta_density(x, a, b) / _beta_density(mode, a, b):
                return x


def _beta_density(x: float, a: float, b: float) -> float:
    """Return the density of Beta(a, b), not normalised."""
    density: float = x ** (a - 1) * (1 - x) ** (b - 1)
    return density


def _philox(seed: int, purpose: int, epoch: int, slot: int) -> Philox:
    # uint64 arrays on purpose: NumPy turns a list with one large value into float64, and seeds would collide.
    key = np.array((seed, purpose), dtype=np.uint64)
    counter = np.array((0, 0, slot, epoch), dtype=np.uint64)
    return Philox(key=key, counter=counter)
