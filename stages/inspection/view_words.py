"""The draw of a view in words: what was done to the image, in order, with its numbers."""

import math
from collections.abc import Callable

from deit_pipe.pipeline.views import Op, View


def view_words(view: View, image_size: tuple[int, int]) -> list[str]:
    """One phrase for each thing that was done, in the order in which it was done.

    Args:
        view: the draw.
        image_size: (width, height) of the decoded image.
    """
    width, height = image_size
    crop = view.crop
    words = []
    if (crop.left, crop.top, crop.width, crop.height) == (0, 0, width, height):
        words.append(f"whole image {width} x {height} px")
    else:
        share = crop.width * crop.height / (width * height)
        words.append(
            f"crop {crop.width} x {crop.height} px at left {crop.left}, top {crop.top} "
            f"of {width} x {height} ({share:.0%})"
        )
    words.append(f"resized to {view.resized[0]} x {view.resized[1]} ({view.resample})")
    if view.resized != (view.size, view.size):
        words.append(f"centre {view.size} x {view.size} cut out")
    if view.flip:
        words.append("flipped left to right")
    words += [op_words(op, view.size) for op in view.ops]
    if view.erase is not None:
        box = view.erase
        words.append(f"{box.width} x {box.height} px at left {box.left}, top {box.top} erased with noise")
    return words


def op_words(op: Op, size: int) -> str:
    """One operation on a view of `size` px in words; directions are those in which the picture moves."""
    if op.name == "Affine":
        return _affine_words(op.values, size)
    return _WORDS[op.name](op.values) if op.name in _WORDS else str(op)


def mix_words(box: tuple[int, int, int, int], lam: float, partner: str) -> str:
    """How a view is mixed; `box` is (top, left, height, width), zeros for Mixup; `partner` names the other view."""
    top, left, height, width = box
    if height * width:
        return f"CutMix: {width} x {height} px at left {left}, top {top} from {partner} ({1 - lam:.0%} of the area)"
    return f"Mixup: {lam:.0%} of itself, {1 - lam:.0%} of {partner}"


def _side(value: float, low: str, high: str) -> str:
    return low if value < 0 else high


def _affine_words(values: tuple[float, ...], size: int) -> str:
    """Angle, zoom and shift of Pillow's inverse mapping (output pixel -> input pixel)."""
    cosine, x0, sine, y0 = values[0], values[2], values[3], values[5]
    scale = cosine * cosine + sine * sine
    angle, zoom = math.degrees(math.atan2(sine, cosine)), 1 / math.sqrt(scale)
    middle = size / 2
    # the input's centre is mapped to centre + shift
    dx, dy = middle - x0, middle - y0
    shift_x = (cosine * dx + sine * dy) / scale - middle
    shift_y = (cosine * dy - sine * dx) / scale - middle
    return (
        f"rotated {abs(angle):.1f} degrees {_side(angle, 'clockwise', 'anticlockwise')}, zoomed x {zoom:.2f}, "
        f"shifted {abs(shift_x):.1f} px {_side(shift_x, 'left', 'right')} and {abs(shift_y):.1f} px "
        f"{_side(shift_y, 'up', 'down')}"
    )


_WORDS: dict[str, Callable[[tuple[float, ...]], str]] = {
    "AutoContrast": lambda v: "contrast stretched to the full range",
    "Equalize": lambda v: "histogram equalised",
    "Invert": lambda v: "colours inverted",
    "Rotate": lambda v: f"rotated {abs(v[0]):.1f} degrees {_side(v[0], 'clockwise', 'anticlockwise')}",
    "Posterize": lambda v: f"posterised to {v[0]:.0f} bits",
    "Solarize": lambda v: f"solarised: levels from {v[0]:.0f} on inverted",
    "SolarizeAdd": lambda v: f"{v[0]:.0f} added to levels below 128",
    "Color": lambda v: f"saturation x {v[0]:.2f}",
    "Contrast": lambda v: f"contrast x {v[0]:.2f}",
    "Brightness": lambda v: f"brightness x {v[0]:.2f}",
    "Sharpness": lambda v: f"sharpness x {v[0]:.2f}",
    "ShearX": lambda v: f"sheared sideways by {v[0]:+.2f}",
    "ShearY": lambda v: f"sheared up or down by {v[0]:+.2f}",
    "TranslateX": lambda v: f"shifted {abs(v[0]):.0%} {_side(v[0], 'right', 'left')}",
    "TranslateY": lambda v: f"shifted {abs(v[0]):.0%} {_side(v[0], 'down', 'up')}",
    "Grayscale": lambda v: "turned grey",
    "Blur": lambda v: f"blurred, radius {v[0]:.2f} px",
}
