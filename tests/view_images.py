"""Small images for the tests of the views, from fixed seeds."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def photo(seed: int, width: int, height: int) -> Image.Image:
    """A smooth coloured image with some grain: a stand-in for a photograph."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
    grain = random.normal(0, 6, (height, width, 3))
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """The bytes of an image file."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def sixteen_bit(seed: int, width: int, height: int) -> Image.Image:
    """A grey image of 16 bits."""
    levels: NDArray[np.uint16] = np.random.default_rng(seed).integers(0, 1 << 16, (height, width), dtype=np.uint16)
    return Image.fromarray(levels)
