"""Windows that reach out of the resized image: what they show there, and how they are made from windows that do not.

Legend: S the side of the view.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.views import Box, View

Pixels = NDArray[np.uint8]
Indices = NDArray[np.int64]


def shown(start: int, size: int, length: int, border: str) -> tuple[Indices, NDArray[np.bool_]]:
    """Return which of `length` pixels a window from `start` shows, and where it shows none, both [size].

    Args:
        start: of the window; may be negative.
        size: of the window.
        length: of what is looked at.
        border: "reflect": beyond the edge its mirror image, without the edge itself; "black": nothing.
    """
    at = np.arange(start, start + size, dtype=np.int64)
    outside = (at < 0) | (at >= length)
    if border == "reflect":
        period = max(2 * (length - 1), 1)
        at %= period
        return np.minimum(at, period - at) if length > 1 else at * 0, np.zeros(size, np.bool_)
    return at.clip(0, length - 1), outside


def inner_view(view: View) -> View | None:
    """Return the view that `with_border` makes this one from; None where it needs no border, or too much of it.

    It is resized alike, its window moved inside; flip and ops come afterwards, from `outer_view`.
    """
    size, left, top = view.size, *view.cut
    most_left, most_top = view.resized[0] - size, view.resized[1] - size
    inside = (min(max(left, 0), most_left), min(max(top, 0), most_top))
    if inside == view.cut or min(most_left, most_top) < 0:
        return None
    for start, moved, length in zip(view.cut, inside, view.resized, strict=True):
        at, nothing = shown(start, size, length, view.border)
        needed = at[~nothing]
        if len(needed) and not moved <= needed.min() <= needed.max() < moved + size:
            return None
    return view._replace(cut=inside, flip=False, ops=(), border="black")


def with_border(pixels: Pixels, inner: View, view: View) -> Pixels:
    """Return the window of `view` before flip and ops, uint8 [S, S, 3], from that of `inner` [S, S, 3]."""
    columns, no_column = shown(view.cut[0], view.size, view.resized[0], view.border)
    rows, no_row = shown(view.cut[1], view.size, view.resized[1], view.border)
    moved: Pixels = pixels[(rows - inner.cut[1]).clip(0, view.size - 1)][
        :, (columns - inner.cut[0]).clip(0, view.size - 1)
    ]
    moved[no_row] = 0
    moved[:, no_column] = 0
    return moved


def outer_view(view: View) -> View:
    """Return what is left to do with the window `with_border` gave: flip and ops."""
    size = view.size
    return view._replace(crop=Box(0, 0, size, size), resized=(size, size), cut=(0, 0), border="black")
