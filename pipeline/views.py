"""Draw a view: the numbers of one augmented image, before any pixel is touched.

draw_view(recipe, stream, (w, h), size) -> View and draw_mix(recipe, stream, size) -> Mix are pure: the same
address of the stream gives the same numbers. A View can be printed, compared and rendered.

Sources: crop: torchvision 0.29 RandomResizedCrop.get_params. RandAugment: timm 1.0.31 auto_augment.py,
"increasing" ops. Erasing: timm 1.0.31 random_erasing.py. Mixing: timm mixup.py as DeiT was trained with
(before 1.0.31, which made CutMix boxes of odd sides one pixel larger).

Units: boxes are (left, top, width, height) in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from deit_pipe.pipeline.plan import Purpose
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.pipeline.streams import Stream, rounded

LAM_GRID = 1 << 16  # lambda and op magnitudes are multiples of 1 / 65536 before anything is made from them


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: int
    top: int
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}+{self.left}+{self.top}"


class Op(NamedTuple):
    """One pixel operation with its final argument (degrees, factor, bits, ...); () for ops without one."""

    name: str
    values: tuple[float, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {' '.join(f'{value:.4g}' for value in self.values)}".rstrip()


class View(NamedTuple):
    """One view of one sample, as numbers. Rendering does, in this order: crop, resize, cut, flip, ops.

    Erasing is done later, on the device (see compose), from `erase` and `noise_seed`.
    """

    size: int
    """Side of the view in pixels."""
    crop: Box
    """Part of the image that is resized."""
    resized: tuple[int, int]
    """Width and height after the resize."""
    cut: tuple[int, int]
    """Left, top of the size x size window cut from the resized crop; it may reach out of it (see `border`)."""
    flip: bool
    ops: tuple[Op, ...]
    resample: str
    fill: tuple[int, int, int]
    """Colour outside the image in geometric ops."""
    erase: Box | None
    noise_seed: int
    """0..2**63-1; 0 when nothing is erased."""
    border: str = "black"
    """What is outside of the resized crop: "black", or "reflect", its mirror image without the edge itself."""

    def __str__(self) -> str:
        parts = [f"crop {self.crop}"]
        if self.resized != (self.size, self.size) or self.cut != (0, 0):
            parts.append(f"resize {self.resized[0]}x{self.resized[1]}, cut at {self.cut[0]},{self.cut[1]}")
        if self.flip:
            parts.append("flip")
        parts += [str(op) for op in self.ops]
        if self.erase is not None:
            parts.append(f"erase {self.erase}")
        return ", ".join(parts)


class Mix(NamedTuple):
    """How a group is mixed: the weight of the own image, and the CutMix box (None: Mixup)."""

    lam: float
    """Weight of the own image; for CutMix 1 - box area / image area."""
    box: Box | None


def draw_view(recipe: Recipe, stream: Stream, image_size: tuple[int, int], size: int) -> View:
    """Draw the view of one cell.

    Args:
        recipe: the distribution.
        stream: the cell's VIEW stream, from its beginning.
        image_size: (width, height) of the decoded image.
        size: side of the view.
    """
    crop, resized, cut = _draw_crop(recipe, stream, image_size, size)
    flip = stream.uniform() < recipe.flip_prob
    ops: list[Op] = []
    if warp := _draw_affine(recipe, stream, size):
        ops.append(warp)
    if recipe.rand_layers:
        ops += _draw_rand_augment(recipe, stream)
    if recipe.three_augment:
        ops.append(_draw_three_augment(recipe, stream))
    if recipe.jitter:
        ops += _draw_jitter(recipe, stream)
    erase = _draw_erase(recipe, stream, size)
    noise_seed = stream.for_purpose(Purpose.NOISE).word() >> 1 if erase else 0
    border = recipe.crop_border if recipe.crop == "padded" else "black"
    return View(size, crop, resized, cut, flip, tuple(ops), recipe.resample, recipe.fill, erase, noise_seed, border)


def draw_mix(recipe: Recipe, stream: Stream, size: int) -> Mix | None:
    """Draw how one group is mixed (None: not at all), from the MIX stream of its first slot.

    One lambda and one box serve the whole group, as timm's "batch" mode does for a batch and "pair" mode for
    a pair.
    """
    if not recipe.mixes or stream.uniform() >= recipe.mix_prob:
        return None
    if recipe.mixup_alpha > 0 and recipe.cutmix_alpha > 0:
        cutmix = stream.uniform() < recipe.switch_prob
    else:
        cutmix = recipe.cutmix_alpha > 0
    alpha = recipe.cutmix_alpha if cutmix else recipe.mixup_alpha
    lam = rounded(stream.beta(alpha, alpha), LAM_GRID)
    if not cutmix:
        return Mix(lam, None)
    half = int(size * math.sqrt(1 - lam)) // 2
    middle_y, middle_x = stream.integer(size), stream.integer(size)
    top, bottom = max(middle_y - half, 0), min(middle_y + half, size)
    left, right = max(middle_x - half, 0), min(middle_x + half, size)
    box = Box(left, top, right - left, bottom - top)
    if box.width == 0 or box.height == 0:
        return Mix(1.0, None)
    return Mix(1 - box.width * box.height / (size * size), box)


def _draw_crop(
    recipe: Recipe, stream: Stream, image_size: tuple[int, int], size: int
) -> tuple[Box, tuple[int, int], tuple[int, int]]:
    width, height = image_size
    whole = Box(0, 0, width, height)
    if recipe.crop == "whole":
        return whole, (size, size), (0, 0)
    if recipe.crop == "padded":
        resized, pad = _short_side(width, height, size), recipe.crop_pad
        top = stream.integer(resized[1] + 2 * pad - size + 1)
        left = stream.integer(resized[0] + 2 * pad - size + 1)
        return whole, resized, (left - pad, top - pad)
    if recipe.crop == "centre":
        # torchvision's CenterCrop: the offset is rounded half to even
        resized = _short_side(width, height, int(size / recipe.crop_ratio))
        cut = round((resized[0] - size) / 2), round((resized[1] - size) / 2)
        return whole, resized, cut
    return _draw_random_crop(recipe, stream, width, height), (size, size), (0, 0)


def _short_side(width: int, height: int, short: int) -> tuple[int, int]:
    """Give (width, height) of torchvision's Resize to this short side: the long side is truncated."""
    if width <= height:
        return short, max(int(short * height / width), 1)
    return max(int(short * width / height), 1), short


def _draw_random_crop(recipe: Recipe, stream: Stream, width: int, height: int) -> Box:
    low, high = recipe.crop_aspect
    for _ in range(recipe.crop_tries):
        area = stream.uniform(*recipe.crop_area) * (width * height)
        aspect = stream.log_uniform(low, high)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = stream.integer(height - h + 1)
            left = stream.integer(width - w + 1)
            return Box(left, top, w, h)
    w, h = width, height
    if width / height < low:
        h = round(width / low)
    elif width / height > high:
        w = round(height * high)
    # An image one pixel wide or high can round to nothing; torchvision would fail on it.
    w, h = max(w, 1), max(h, 1)
    return Box((width - w) // 2, (height - h) // 2, w, h)


def _draw_affine(recipe: Recipe, stream: Stream, size: int) -> Op | None:
    """Draw one warp: rotation and zoom about the centre, then a shift: Pillow's inverse mapping."""
    if recipe.affine_shift == 0 and recipe.affine_degrees == 0 and recipe.affine_scale == (1.0, 1.0):
        return None
    angle = math.radians(stream.uniform(-recipe.affine_degrees, recipe.affine_degrees))
    scale = stream.log_uniform(*recipe.affine_scale)
    reach = recipe.affine_shift * size
    shift_x, shift_y = stream.uniform(-reach, reach), stream.uniform(-reach, reach)
    grid = 1 << 24
    cosine, sine = rounded(math.cos(angle) / scale, grid), rounded(math.sin(angle) / scale, grid)
    middle = size / 2
    from_x, from_y = middle + shift_x, middle + shift_y
    x0 = rounded(middle - cosine * from_x + sine * from_y, grid)
    y0 = rounded(middle - sine * from_x - cosine * from_y, grid)
    return Op("Affine", (cosine, -sine, x0, sine, cosine, y0))


def _draw_rand_augment(recipe: Recipe, stream: Stream) -> list[Op]:
    ops = []
    for _ in range(recipe.rand_layers):
        name, argument = RAND_OPS[stream.integer(len(RAND_OPS))]
        if stream.uniform() >= recipe.rand_prob:
            continue
        magnitude = recipe.rand_magnitude + recipe.rand_magnitude_std * stream.normal()
        magnitude = rounded(max(0.0, min(magnitude, recipe.rand_magnitude_max)), LAM_GRID)
        ops.append(Op(name, argument(magnitude, recipe, stream)))
    return ops


def _draw_three_augment(recipe: Recipe, stream: Stream) -> Op:
    choice = stream.integer(3)
    if choice == 0:
        return Op("Grayscale")
    if choice == 1:
        return Op("Solarize", (recipe.solarize_threshold,))
    return Op("Blur", (rounded(stream.uniform(*recipe.blur_radius), LAM_GRID),))


def _draw_jitter(recipe: Recipe, stream: Stream) -> list[Op]:
    """Draw torchvision's ColorJitter without hue: three factors in random order."""
    names = ["Brightness", "Contrast", "Color"]
    order = [names.pop(stream.integer(len(names))) for _ in range(3)]
    reach = recipe.jitter
    return [Op(name, (rounded(stream.uniform(1 - reach, 1 + reach), LAM_GRID),)) for name in order]


def _draw_erase(recipe: Recipe, stream: Stream, size: int) -> Box | None:
    if stream.uniform() >= recipe.erase_prob:
        return None
    for _ in range(recipe.erase_tries):
        area = stream.uniform(*recipe.erase_area) * (size * size)
        aspect = stream.log_uniform(*recipe.erase_aspect)
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width < size and 0 < height < size:
            top = stream.integer(size - height + 1)
            left = stream.integer(size - width + 1)
            return Box(left, top, width, height)
    return None


Argument = Callable[[float, Recipe, Stream], tuple[float, ...]]


def _none(magnitude: float, recipe: Recipe, stream: Stream) -> tuple[float, ...]:
    return ()


def _signed(magnitude: float, reach: float, stream: Stream) -> float:
    value = magnitude / 10 * reach
    return -value if stream.uniform() < 0.5 else value


def _rotate(magnitude: float, recipe: Recipe, stream: Stream) -> tuple[float, ...]:
    return (_signed(magnitude, 30.0, stream),)


def _shear(magnitude: float, recipe: Recipe, stream: Stream) -> tuple[float, ...]:
    return (_signed(magnitude, 0.3, stream),)


def _translate(magnitude: float, recipe: Recipe, stream: Stream) -> tuple[float, ...]:
    return (_signed(magnitude, recipe.rand_translate, stream),)


def _enhance(magnitude: float, recipe: Recipe, stream: Stream) -> tuple[float, ...]:
    return (max(0.1, 1.0 + _signed(magnitude, 0.9, stream)),)


def _posterize(magnitude: float, recipe: Recipe, stream: Stream) -> tuple[float, ...]:
    return (4 - int(magnitude / 10 * 4),)


def _solarize(magnitude: float, recipe: Recipe, stream: Stream) -> tuple[float, ...]:
    return (256 - min(256, int(magnitude / 10 * 256)),)


def _solarize_add(magnitude: float, recipe: Recipe, stream: Stream) -> tuple[float, ...]:
    return (min(128, int(magnitude / 10 * 110)),)


# timm's `_RAND_INCREASING_TRANSFORMS`, in its order; the argument grows away from "no change" with the
# magnitude.
RAND_OPS: tuple[tuple[str, Argument], ...] = (
    ("AutoContrast", _none),
    ("Equalize", _none),
    ("Invert", _none),
    ("Rotate", _rotate),
    ("Posterize", _posterize),
    ("Solarize", _solarize),
    ("SolarizeAdd", _solarize_add),
    ("Color", _enhance),
    ("Contrast", _enhance),
    ("Brightness", _enhance),
    ("Sharpness", _enhance),
    ("ShearX", _shear),
    ("ShearY", _shear),
    ("TranslateX", _translate),
    ("TranslateY", _translate),
)
