"""A view as the bytes that the native engine reads (src/view_spec.h), with every op in its final numbers.

`pack_view` gives None for a view that the engine does not handle; Pillow renders it then.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

from deit_pipe.pipeline.views import View

LAYOUT = 1  # SPEC_LAYOUT of view_spec.h
MOST_OPS = 16
MOST_SIDE = 8192
MOST_LENGTH = 1 << 16
MOST_RESIZED = 1 << 24
MOST_MIDDLE = 1 << 30
MOST_VALUE = 1e9

_HEAD = struct.Struct("=16i")
_OP = struct.Struct("=2i6d")

# Final arguments of an op; None: it changes nothing.
Numbers = tuple[float, ...] | None


class _NotHandled(Exception):
    """The op has an argument for which only Pillow knows what happens."""


def pack_view(view: View) -> bytes | None:
    """Return the packed view, or None when the engine leaves it to Pillow."""
    size, crop, resized, cut = view.size, view.crop, view.resized, view.cut
    if (
        not 1 <= size <= MOST_SIDE
        or crop.width > MOST_LENGTH
        or crop.height > MOST_LENGTH
        or max(resized) > MOST_RESIZED
        or crop.height * size * 3 > MOST_MIDDLE
        # Pillow fills what lies outside with black.
        or min(crop.left, crop.top, *cut) < 0
        or cut[0] + size > resized[0]
        or cut[1] + size > resized[1]
    ):
        return None
    ops = []
    try:
        for name, values in view.ops:
            code, numbers = _OPS[name]
            final = numbers(values, size)
            if final is not None:
                ops.append(_OP.pack(code, 0, *final, *_ZEROS[len(final) :]))
    except _NotHandled:
        return None
    if len(ops) > MOST_OPS:
        return None
    head = _HEAD.pack(LAYOUT, size, *crop, *resized, *cut, view.flip, view.resample == "bilinear", *view.fill, len(ops))
    return head + b"".join(ops)


_ZEROS = (0.0,) * 6


def _matrix(values: tuple[float, ...], size: int) -> Numbers:
    if not all(abs(value) <= MOST_VALUE for value in values):
        raise _NotHandled
    return values


def _rotate(values: tuple[float, ...], size: int) -> Numbers:
    """Make the matrix of `Image.rotate` about the centre of a square, rounded as there."""
    degrees = values[0] % 360.0
    if degrees == 0:
        return None
    if degrees in (90, 180, 270):
        raise _NotHandled  # Pillow transposes
    angle = -math.radians(degrees)
    a, b = round(math.cos(angle), 15), round(math.sin(angle), 15)
    d, e = round(-math.sin(angle), 15), round(math.cos(angle), 15)
    middle = size / 2
    return a, b, a * -middle + b * -middle + 0.0 + middle, d, e, d * -middle + e * -middle + 0.0 + middle


def _shear_x(values: tuple[float, ...], size: int) -> Numbers:
    return _matrix((1.0, values[0], 0.0, 0.0, 1.0, 0.0), size)


def _shear_y(values: tuple[float, ...], size: int) -> Numbers:
    return _matrix((1.0, 0.0, 0.0, values[0], 1.0, 0.0), size)


def _translate_x(values: tuple[float, ...], size: int) -> Numbers:
    return _matrix((1.0, 0.0, values[0] * size, 0.0, 1.0, 0.0), size)


def _translate_y(values: tuple[float, ...], size: int) -> Numbers:
    return _matrix((1.0, 0.0, 0.0, 0.0, 1.0, values[0] * size), size)


def _none(values: tuple[float, ...], size: int) -> Numbers:
    return ()


def _bits(values: tuple[float, ...], size: int) -> Numbers:
    return (_integer(values[0], 0, 8),)


def _threshold(values: tuple[float, ...], size: int) -> Numbers:
    return (_integer(values[0], 0, 256),)


def _added(values: tuple[float, ...], size: int) -> Numbers:
    return (_integer(values[0], 0, 256),)


def _integer(value: float, low: int, high: int) -> int:
    whole = int(value)
    if not low <= whole <= high:
        raise _NotHandled
    return whole


def _factor(values: tuple[float, ...], size: int) -> Numbers:
    if not abs(values[0]) <= 1e6:
        raise _NotHandled
    return values


def _sigma(values: tuple[float, ...], size: int) -> Numbers:
    if not 0 <= values[0] <= 1000:
        raise _NotHandled
    return values


_OPS: dict[str, tuple[int, Callable[[tuple[float, ...], int], Numbers]]] = {
    "Affine": (0, _matrix),
    "Rotate": (0, _rotate),
    "ShearX": (0, _shear_x),
    "ShearY": (0, _shear_y),
    "TranslateX": (0, _translate_x),
    "TranslateY": (0, _translate_y),
    "AutoContrast": (1, _none),
    "Equalize": (2, _none),
    "Invert": (3, _none),
    "Posterize": (4, _bits),
    "Solarize": (5, _threshold),
    "SolarizeAdd": (6, _added),
    "Color": (7, _factor),
    "Contrast": (8, _factor),
    "Brightness": (9, _factor),
    "Sharpness": (10, _factor),
    "Grayscale": (11, _none),
    "Blur": (12, _sigma),
}
