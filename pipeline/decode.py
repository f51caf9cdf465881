"""Encoded image bytes -> RGB image, as torchvision's loader does (`Image.open(...).convert("RGB")`).

EXIF orientation is ignored, alpha is dropped, grey of more than 8 bits is clipped at 255 (not scaled). JPEG
goes through simplejpeg when that is installed: the same bytes as Pillow, about 1.07 times as fast as a whole
view.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from deit_pipe.pipeline.errors import BadImage

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

# Pillow's own warning limit (about 0.25 GiB of RGB): more is taken for a decompression bomb.
MAX_PIXELS = 89_478_485


# A decoded RGB image: Pillow's, or its pixels [H, W, 3]; whichever costs no copy.
Decoded = Image.Image | NDArray[np.uint8]


def decode(image: bytes | NDArray[np.uint8]) -> Decoded:
    """Decode to an RGB image.

    Args:
        image: encoded bytes, or raw uint8 pixels [H, W] or [H, W, 3].

    Raises:
        BadImage: not an image, truncated, or too large.
    """
    if isinstance(image, np.ndarray):
        if image.ndim == 3:
            return image
        return np.broadcast_to(image[:, :, None], (*image.shape, 3))  # grey: one byte serves as R, G and B
    if simplejpeg is not None and image[:3] == b"\xff\xd8\xff":
        fast = _decode_jpeg(image)
        if fast is not None:
            return fast
    try:
        return _decode_any(image)
    except BadImage:
        raise
    except UnidentifiedImageError as error:  # its text names a buffer in memory
        raise BadImage("an empty file" if not image else "no image, or of a format that is not known") from error
    except Exception as error:  # the plugins of Pillow raise almost anything on broken files
        raise BadImage(f"{type(error).__name__}: {error}") from error


def size_of(decoded: Decoded) -> tuple[int, int]:
    """Return (width, height)."""
    if isinstance(decoded, Image.Image):
        return decoded.width, decoded.height
    return decoded.shape[1], decoded.shape[0]


def pixels_of(decoded: Decoded) -> NDArray[np.uint8]:
    """Return the pixels, uint8 [H, W, 3]: a copy for Pillow's images, which keeps its own layout."""
    return decoded if isinstance(decoded, np.ndarray) else np.asarray(decoded)


def simplejpeg_version() -> str | None:
    """Return the version of the JPEG decoder in use, None when Pillow decodes."""
    return None if simplejpeg is None else str(simplejpeg.__version__)


def _decode_jpeg(data: bytes) -> NDArray[np.uint8] | None:
    """Decode a plain JPEG, or return None to leave every doubtful file to Pillow, whose verdict counts."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in ("YCbCr", "Gray") or height * width > MAX_PIXELS:
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB")
        return pixels
    except ValueError:
        return None


def _decode_any(data: bytes) -> Image.Image:
    with Image.open(BytesIO(data)) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise BadImage(f"{width} x {height} pixels, more than {MAX_PIXELS}: a decompression bomb?")
        image.load()
        if image.mode == "RGB":
            return image  # `convert` would copy it
        if image.mode == "P" and "transparency" in image.info:
            # Straight to RGB warns about the lost alpha; the colours are the same.
            return image.convert("RGBA").convert("RGB")
        return image.convert("RGB")
