"""The part of a resized image that a view shows, without the rest of it: for images so thin that the rest is huge.

An image of 1 x 2,000 pixels, resized so that its short side is 256, is 256 x 512,000 pixels; a view shows 224 rows of
them. Pillow can resize a part, but rounds where it begins to float32, which changes pixels. Here the weights and the
fixed-point sums of Pillow's Resample.c are made again for the rows and columns that are shown: the same bytes.

Shapes: [h, w] the image, [H, W] after the resize, S the side of the view.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

BITS = 22  # PRECISION_BITS of Resample.c: 32 - 8 bits of a level - 2 for sums that overshoot
HALF = float(1 << (BITS - 1))
SUPPORT = {"bicubic": 2.0, "bilinear": 1.0}
HUGE = 1 << 24  # pixels of an intermediate, unless the view itself is large
ASPECT = 8  # a large view may have an intermediate of this many times its own pixels
BLOCK = 1 << 18  # pixels of the horizontal pass at a time

Pixels = NDArray[np.uint8]
Indices = NDArray[np.int64]


def is_huge(height: int, resized: tuple[int, int], size: int) -> bool:
    """Whether one of the two passes (w x h -> W x h -> W x H) would make an image out of proportion to the view.

    Args:
        height: h.
        resized: (W, H).
        size: S.
    """
    return resized[0] * max(height, resized[1]) > max(HUGE, ASPECT * size * size)


def resized_part(pixels: Pixels, resized: tuple[int, int], rows: Indices, columns: Indices, resample: str) -> Pixels:
    """Return some rows and columns of a resized image, uint8 [rows, columns, 3], as Pillow's two passes give them.

    Args:
        pixels: uint8 [h, w, 3].
        resized: (W, H).
        rows: of 0..H-1.
        columns: of 0..W-1.
        resample: "bicubic" or "bilinear".
    """
    height, width = pixels.shape[:2]
    across, down = Taps.of(columns, width, resized[0], resample), Taps.of(rows, height, resized[1], resample)
    shown_of_line = np.arange(across.first.min(), across.last.max())
    to_columns = across.weights(np.arange(len(columns)), shown_of_line)
    total = np.full((len(rows), len(columns) * 3), HALF)
    step = max(1, BLOCK // len(columns))
    for start in range(int(down.first.min()), int(down.last.max()), step):
        stop = min(start + step, height)
        touched = np.flatnonzero((down.first < stop) & (down.last > start))
        if len(touched):
            # whole numbers below 2**53: no order of adding changes them
            middle = _levels(HALF + to_columns @ pixels[start:stop, shown_of_line].astype(np.float64))
            to_rows = down.weights(touched, np.arange(start, stop))
            total[touched] += to_rows @ middle.reshape(stop - start, -1).astype(np.float64)
    return _levels(total.reshape(len(rows), len(columns), 3))


class Taps(NamedTuple):
    """From which pixels of one line each of n resized pixels is made, as in `precompute_coeffs`."""

    first: Indices
    last: Indices
    """Exclusive."""
    centre: NDArray[np.float64]
    total: NDArray[np.float64]
    """What the weights sum to before they are normalised."""
    stretch: float
    resample: str

    @classmethod
    def of(cls, at: Indices, before: int, after: int, resample: str) -> Self:
        """Make the taps of the resized pixels `at`; the line has `before` pixels, and `after` when resized."""
        scale = before / after
        stretch = max(scale, 1.0)
        support = SUPPORT[resample] * stretch
        centre: NDArray[np.float64] = (at.astype(np.float64) + 0.5) * scale
        first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
        last = np.minimum((centre + support + 0.5).astype(np.int64), before)
        taps = cls(first, last, centre, np.ones(len(at), np.float64), stretch, resample)
        # one after the other, as a loop adds: `sum` adds pairs
        totals = [np.cumsum(taps.raw(np.array([i]), np.arange(first[i], last[i])))[-1] for i in range(len(at))]
        return taps._replace(total=np.array(totals, np.float64))

    def raw(self, which: Indices, positions: Indices) -> NDArray[np.float64]:
        """Kernel values [which, positions], not normalised; 0 outside of the taps."""
        distance = (positions - self.centre[which, None] + 0.5) * (1.0 / self.stretch)
        there = (positions >= self.first[which, None]) & (positions < self.last[which, None])
        return _kernel(distance, self.resample) * there

    def weights(self, which: Indices, positions: Indices) -> NDArray[np.float64]:
        """Weights [which, positions] in 1 / 2**BITS: whole numbers, as float64."""
        scaled = self.raw(which, positions) / self.total[which, None] * (1 << BITS)
        return np.trunc(np.where(scaled < 0, scaled - 0.5, scaled + 0.5))


def _levels(total: NDArray[np.float64]) -> Pixels:
    return np.floor(total / (1 << BITS)).clip(0, 255).astype(np.uint8)


def _kernel(distance: NDArray[np.float64], resample: str) -> NDArray[np.float64]:
    x = np.abs(distance)
    if resample == "bilinear":
        return np.where(x < 1, 1 - x, 0.0)
    a = -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
