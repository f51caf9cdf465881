"""Render a view: encoded image + View -> uint8 pixels [S, S, 3], RGB. No randomness here.

`render_decoded` says with Pillow what a view is; `render_views` gives the same bytes, natively where it can.

The same bytes and the same View give the same pixels on Pillow 11, 12 and 13:
- Pillow 13 changed the order of the two passes of a resize for some shapes, so they are two calls here.
- Pillow 13 refuses to posterize to 0 bits (timm's RandAugment crashes on it); here 0 bits is black.

The ops equal timm 1.0.31 auto_augment.py bit for bit, the colour ops torchvision's on Pillow images.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from deit_pipe.pipeline.decode import Decoded, decode, pixels_of
from deit_pipe.pipeline.native.engine import chosen_engine, render_native
from deit_pipe.pipeline.resampling.borders import inner_view, outer_view, shown, with_border
from deit_pipe.pipeline.resampling.thin_images import is_huge, resized_part
from deit_pipe.pipeline.resampling.warps import warp_along_x, warp_along_y
from deit_pipe.pipeline.views import Box, Mix, View

Pixels = NDArray[np.uint8]

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

_EXTRAS = struct.Struct("<4iq4idi")


def render(image: bytes | Pixels, view: View) -> Pixels:
    """Decode an image and render a view of it, uint8 [S, S, 3].

    Raises:
        BadImage: the bytes are no image that can be decoded.
    """
    return render_decoded(decode(image), view)


def render_decoded(decoded: Decoded, view: View) -> Pixels:
    """Render a view of a decoded RGB image, uint8 [S, S, 3]."""
    image = _window(_crop(decoded, view.crop), view)
    if view.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for op in view.ops:
        image = OPS[op.name](image, op.values, view)
    return np.asarray(image)


def render_views(decoded: Decoded, views: Sequence[View], rows: Sequence[int], out: Pixels) -> int:
    """Render views of one decoded image into rows of a batch, with the engine of this process.

    Args:
        decoded: the image.
        views: of side S.
        rows: for each view its place in `out`.
        out: uint8 [B, S, S, 3].

    Returns:
        How many of the views the native engine left to Pillow; 0 where Pillow is the engine.
    """
    engine = chosen_engine()
    if engine.instructions is None:
        for row, view in zip(rows, views, strict=True):
            out[row] = render_decoded(decoded, view)
        return 0
    pixels, undone = pixels_of(decoded), 0
    for position in render_native(engine.instructions, pixels, views, rows, out):
        view, row = views[position], rows[position]
        if not render_bordered(engine.instructions, pixels, view, out[row : row + 1]):
            out[row] = render_decoded(decoded, view)
            undone += 1
    return undone


def render_bordered(instructions: str, pixels: Pixels, view: View, out: Pixels) -> bool:
    """Render a view that reaches out of its image natively in two parts; whether that could be done.

    Args:
        instructions: of the native engine.
        pixels: of the decoded image.
        view: of side S.
        out: uint8 [1, S, S, 3].
    """
    inner = inner_view(view)
    if inner is None or render_native(instructions, pixels, [inner], [0], out):
        return False
    return not render_native(instructions, with_border(out[0], inner, view), [outer_view(view)], [0], out)


def fingerprint(pixels: Pixels, view: View, mix: Mix | None = None, partner_offset: int = 0) -> int:
    """Return the CRC-32 of a view: its uint8 pixels, continued over how it is erased and mixed.

    The packed numbers, little endian, without padding: erase left, top, width, height (int32), noise seed
    (int64), mix left, top, width, height (int32), lambda (float64), partner slot - own slot (int32). What is
    not used is zero, and lambda is then 1.

    Args:
        pixels: uint8 [S, S, 3], C contiguous.
        view: for its erase box and noise seed.
        mix: None when the view is not mixed.
        partner_offset: slot of the partner minus the view's own slot.
    """
    erase = view.erase or (0, 0, 0, 0)
    box = (mix.box if mix else None) or (0, 0, 0, 0)
    lam = mix.lam if mix else 1.0
    offset = partner_offset if mix else 0
    return zlib.crc32(_EXTRAS.pack(*erase, view.noise_seed, *box, lam, offset), zlib.crc32(pixels.data))


OpFunction = Callable[[Image.Image, tuple[float, ...], View], Image.Image]


def _crop(decoded: Decoded, box: Box) -> Image.Image:
    left, top, width, height = box
    if isinstance(decoded, Image.Image):
        if (left, top) == (0, 0) and (width, height) == decoded.size:
            return decoded
        return decoded.crop((left, top, left + width, top + height))
    # Straight from the rows of the large image, without a copy of what is not shown.
    line = decoded.shape[1] * 3
    start = top * line + left * 3
    rows = np.ascontiguousarray(decoded).data.cast("B")[start : start + (height - 1) * line + width * 3]
    return Image.frombytes("RGB", (width, height), rows, "raw", "RGB", line, 1)


def _window(image: Image.Image, view: View) -> Image.Image:
    """Resize the crop, and cut the view's window from it."""
    size, (left, top), resized = view.size, view.cut, view.resized
    columns, no_column = shown(left, size, resized[0], view.border)
    rows, no_row = shown(top, size, resized[1], view.border)
    if is_huge(image.height, resized, size):
        part = resized_part(np.asarray(image), resized, rows, columns, view.resample)
    else:
        resample = FILTERS[view.resample]
        image = image.resize((resized[0], image.height), resample).resize(resized, resample)
        if resized == (size, size) and view.cut == (0, 0):
            return image
        if view.border == "black":  # which Pillow fills in
            return image.crop((left, top, left + size, top + size))
        part = np.asarray(image)[rows][:, columns]
    return Image.fromarray(np.where((no_row[:, None] | no_column)[:, :, None], np.uint8(0), part))


def _warp(image: Image.Image, matrix: tuple[float, ...], view: View) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=FILTERS[view.resample], fillcolor=view.fill
    )


def _slide_x(image: Image.Image, slope: float, shift: float, view: View) -> Image.Image:
    if view.resample == "bicubic":
        return warp_along_x(image, slope, shift, view.fill)
    return _warp(image, (1, slope, shift, 0, 1, 0), view)


def _slide_y(image: Image.Image, slope: float, shift: float, view: View) -> Image.Image:
    if view.resample == "bicubic":
        return warp_along_y(image, slope, shift, view.fill)
    return _warp(image, (1, 0, 0, slope, 1, shift), view)


def _rotate(image: Image.Image, values: tuple[float, ...], view: View) -> Image.Image:
    return image.rotate(values[0], resample=FILTERS[view.resample], fillcolor=view.fill)


def _posterize(image: Image.Image, values: tuple[float, ...], view: View) -> Image.Image:
    # The mask keeps the high bits; `ImageOps.posterize` does the same but refuses 0 bits from Pillow 13 on.
    mask = 256 - (1 << (8 - int(values[0])))
    return image.point([level & mask for level in range(256)] * 3)


def _solarize_add(image: Image.Image, values: tuple[float, ...], view: View) -> Image.Image:
    add = int(values[0])
    return image.point([min(255, level + add) if level < 128 else level for level in range(256)] * 3)


OPS: dict[str, OpFunction] = {
    "Affine": _warp,
    "AutoContrast": lambda image, values, view: ImageOps.autocontrast(image),
    "Equalize": lambda image, values, view: ImageOps.equalize(image),
    "Invert": lambda image, values, view: ImageOps.invert(image),
    "Rotate": _rotate,
    "Posterize": _posterize,
    "Solarize": lambda image, values, view: ImageOps.solarize(image, int(values[0])),
    "SolarizeAdd": _solarize_add,
    "Color": lambda image, values, view: ImageEnhance.Color(image).enhance(values[0]),
    "Contrast": lambda image, values, view: ImageEnhance.Contrast(image).enhance(values[0]),
    "Brightness": lambda image, values, view: ImageEnhance.Brightness(image).enhance(values[0]),
    "Sharpness": lambda image, values, view: ImageEnhance.Sharpness(image).enhance(values[0]),
    "ShearX": lambda image, values, view: _slide_x(image, values[0], 0.0, view),
    "ShearY": lambda image, values, view: _slide_y(image, values[0], 0.0, view),
    "TranslateX": lambda image, values, view: _slide_x(image, 0.0, values[0] * image.width, view),
    "TranslateY": lambda image, values, view: _slide_y(image, 0.0, values[0] * image.height, view),
    "Grayscale": lambda image, values, view: image.convert("L").convert("RGB"),
    "Blur": lambda image, values, view: image.filter(ImageFilter.GaussianBlur(values[0])),
}
