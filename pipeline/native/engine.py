"""Which engine renders the views of this process: the native one, checked against golden views, or Pillow.

Pillow is the specification. The native engine gives the same bytes, so that the choice never shows in a cache; an
engine that gives others here switches itself off and says so on stderr. DEIT_PIPE_ENGINE=pillow, native, sse2 or
avx2 forces the choice, and what is forced and cannot work is an error.
"""

from __future__ import annotations

import functools
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.errors import EngineError
from deit_pipe.pipeline.native.packed import LAYOUT, pack_view
from deit_pipe.pipeline.views import Box, Op, View

try:
    from deit_pipe.pipeline.native import _views
except ImportError:  # no compiler when the package was installed, or another processor
    _views = None  # type: ignore[assignment]

VARIABLE = "DEIT_PIPE_ENGINE"
CHOICES = ("auto", "pillow", "native", "sse2", "avx2")


class Engine(NamedTuple):
    """What renders views."""

    instructions: str | None
    """Of the native engine, "sse2" or "avx2"; None: Pillow renders."""
    reason: str
    """Why it is Pillow; empty for the native engine."""

    @property
    def name(self) -> str:
        """One of "native avx2", "native sse2" and "pillow"; recorded with a cache, no part of its identity."""
        return f"native {self.instructions}" if self.instructions else "pillow"

    def __str__(self) -> str:
        return f"native, {self.instructions.upper()}" if self.instructions else f"Pillow ({self.reason})"


def chosen_engine() -> Engine:
    """Return the engine of this process, found and checked when it is first asked for.

    Raises:
        EngineError: DEIT_PIPE_ENGINE asks for an engine that does not exist or cannot work here.
    """
    return _choose(os.environ.get(VARIABLE) or "auto")


def render_native(
    instructions: str,
    pixels: NDArray[np.uint8],
    views: Sequence[View],
    rows: Sequence[int],
    out: NDArray[np.uint8],
) -> list[int]:
    """Render views of one decoded image into rows of a batch, and return the positions in `views` left undone.

    Args:
        instructions: of the chosen engine.
        pixels: uint8 [H, W, 3].
        views: of side S.
        rows: for each view its place in `out`.
        out: uint8 [B, S, S, 3].
    """
    if not out.flags.c_contiguous:
        return list(range(len(views)))
    packed, places, left = [], [], []
    for position, view in enumerate(views):
        numbers = pack_view(view)
        if numbers is None:
            left.append(position)
        else:
            packed.append(numbers)
            places.append(rows[position])
    if packed:
        grey = pixels.strides[2] == 0
        if pixels.strides[1] != (1 if grey else 3) or (pixels.strides[2] != 1 and not grey):
            pixels = np.ascontiguousarray(pixels)
        _views.render_into(instructions, pixels, packed, places, out)
    return left


@functools.cache
def _choose(asked: str) -> Engine:
    if asked not in CHOICES:
        raise EngineError(
            f"{VARIABLE} names no engine",
            expected=", ".join(CHOICES),
            got=asked,
            cure="unset it, and the best engine that works here is taken",
        )
    if asked == "pillow":
        return Engine(None, f"{VARIABLE} says so")
    missing = "the native engine was not built"
    built = () if _views is None else _views.instruction_sets()
    wanted = built[-1:] if asked in ("auto", "native") else tuple(name for name in built if name == asked)
    if wanted:
        wrong = _fault(wanted[0])
        if wrong is None:
            return Engine(wanted[0], "")
        if asked == "auto":
            print(
                f"deit-pipe: the native view engine {wrong}, so Pillow renders the views: the same, but slower. "
                "Install the package again; if that does not help, report it with the output of deit-pipe --version",
                file=sys.stderr,
            )
        missing = f"the native engine {wrong}"
    elif built:
        missing = f"this processor has no {asked.upper()}"
    if asked == "auto":
        return Engine(None, missing)
    raise EngineError(
        f"{VARIABLE}={asked} cannot be had",
        expected="a native engine that gives the golden views",
        got=missing,
        cure=f"install the package where a C compiler is (x86-64, GCC or Clang), or unset {VARIABLE}",
    )


def _fault(instructions: str) -> str | None:
    """Return what is wrong with the native engine, None when it gives the golden views."""
    if _views.SPEC_LAYOUT != LAYOUT:
        return "was built from another version"
    found = golden_fingerprints(instructions)
    different = sum(here != golden for here, golden in zip(found, GOLDEN, strict=True))
    return f"differs in {different} of {len(GOLDEN)} golden views" if different else None


def golden_fingerprints(instructions: str) -> list[int]:
    """Render the golden views natively and return the CRC-32 of their pixels."""
    views = list(golden_views())
    out = np.zeros((len(views), GOLDEN_SIDE, GOLDEN_SIDE, 3), np.uint8)
    left = render_native(instructions, golden_image(), views, range(len(views)), out)
    return [0 if i in left else zlib.crc32(out[i].data) for i in range(len(views))]


GOLDEN_SIDE = 40


def golden_image() -> NDArray[np.uint8]:
    """Return an image of slopes, edges and a uniform patch, uint8 [47, 61, 3], by integer arithmetic."""
    y, x, c = np.ogrid[:47, :61, :3]
    image = (x * x // 7 + 5 * y + 31 * c * (x + y) // 16) % 256
    image[10:26, 20:41] = 255
    pixels: NDArray[np.uint8] = image.astype(np.uint8)
    return pixels


def golden_views() -> Iterator[View]:
    """Yield views that use both filters, a flip, a cut and every op."""
    chains = (
        ("bicubic", Op("Rotate", (23.5,)), Op("Color", (1.81,)), Op("AutoContrast")),
        ("bicubic", Op("ShearX", (0.27,)), Op("Sharpness", (0.19,)), Op("Equalize")),
        ("bicubic", Op("ShearY", (-0.26,)), Op("Contrast", (1.7,)), Op("Posterize", (2,))),
        ("bicubic", Op("TranslateX", (-0.4,)), Op("Brightness", (0.9,)), Op("SolarizeAdd", (99,))),
        ("bicubic", Op("TranslateY", (0.31,)), Op("Color", (0.1,)), Op("Solarize", (25,))),
        (
            "bilinear",
            Op("Affine", (1.03, -0.1, 1.5, 0.1, 0.97, -2.25)),
            Op("Sharpness", (1.9,)),
            Op("Blur", (1.3,)),
        ),
        ("bicubic", Op("Invert"), Op("Grayscale"), Op("Blur", (0.4,))),
    )
    for number, (resample, *ops) in enumerate(chains):
        crop = Box(number, 2, 50 - number, 44)
        resized, cut = ((52, 46), (7, 3)) if number % 2 else ((GOLDEN_SIDE, GOLDEN_SIDE), (0, 0))
        yield View(GOLDEN_SIDE, crop, resized, cut, number % 3 == 0, tuple(ops), resample, (124, 116, 104), None, 0)


# CRC-32 of the golden views as Pillow renders them; a test compares.
GOLDEN = (0xA6A2259C, 0xD1F1EF9B, 0x0C42C01C, 0xA66F1417, 0x3878EECE, 0xB6E7DFC5, 0x3BBA4B83)
