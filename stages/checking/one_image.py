"""What one image says of itself when it is read: whether it decodes, what it is made of, two hashes."""

import hashlib
from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deit_pipe.pipeline.decode import decode
from deit_pipe.pipeline.errors import BadImage, PipelineError
from deit_pipe.stages.checking.images import CheckedImages

SMALLEST = 32  # pixels a side: smaller images are so alike that their hashes say nothing
STRETCHED = 10  # times as long as wide
ORIENTATION = 0x0112  # of EXIF
MOVING = {"GIF": "animated", "WEBP": "animated", "PNG": "animated", "TIFF": "several pages"}
DEEP_MODES = ("I", "F")  # of Pillow, and all that begin with I;16


class ImageFacts(NamedTuple):
    """One image.

    Attributes:
        content: 32 hexadecimal digits, equal for equal bytes; "" where it could not be read.
        look: a hash of 64 bits, near for images that look alike; None where it says nothing.
        bad: why it cannot be decoded; "" where it can.
        odd: what is odd about it, in words.
    """

    content: str
    look: int | None
    bad: str = ""
    odd: str = ""


def read_facts(images: CheckedImages, image: int) -> ImageFacts:
    """Read and decode one image; whatever is wrong with it is a fact, no error."""
    try:
        stored = images.read(image)
    except (PipelineError, OSError, ValueError) as error:
        return ImageFacts("", None, bad=first_line(error))
    content = content_of(stored)
    try:
        decoded = decode(stored)
    except BadImage as error:
        return ImageFacts(content, None, bad=first_line(error))
    picture = decoded if isinstance(decoded, Image.Image) else Image.fromarray(np.ascontiguousarray(decoded))
    look = difference_hash(picture) if min(picture.size) >= SMALLEST else None
    about = sizes_words(*picture.size)
    if isinstance(stored, bytes):
        about += mode_words(stored)
    return ImageFacts(content, look, odd="; ".join(about))


def content_of(stored: bytes | NDArray[np.uint8]) -> str:
    """A digest of the stored bytes, or of pixels and their shape."""
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(stored, bytes):
        digest.update(stored)
    else:
        digest.update(repr(stored.shape).encode())
        digest.update(np.ascontiguousarray(stored).data)
    return digest.hexdigest()


def difference_hash(picture: Image.Image) -> int:
    """64 bits: of a grey copy of 9 x 8 pixels, whether each is brighter than its right neighbour.

    The hash of N. Krawetz, "Kind of Like That", hackerfactor.com, 2013. It stays nearly the same when an image is
    scaled, brightened or saved again; an image turned or mirrored has another.
    """
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BILINEAR))
    return int.from_bytes(np.packbits(grey[:, :-1] > grey[:, 1:]).tobytes(), "big")


def sizes_words(width: int, height: int) -> list[str]:
    """What is odd about a size."""
    size = f"{width} x {height} px"
    if min(width, height) == 1:
        return [f"one pixel: {size}"]
    return [f"very long: {size}"] if max(width, height) >= STRETCHED * min(width, height) else []


def mode_words(stored: bytes) -> list[str]:
    """What is odd about how the pixels are kept, and what becomes of it; from the file's head."""
    try:
        with Image.open(BytesIO(stored)) as image:
            return _head_words(image)
    except Exception:  # the plugins of Pillow raise almost anything on broken heads; the pixels were decoded
        return ["a head that cannot be read whole"]


def _head_words(image: Image.Image) -> list[str]:
    said = []
    if image.mode.startswith("I;16") or image.mode in DEEP_MODES:
        said.append("more than 8 bits: clipped at 255")
    elif image.mode == "CMYK":
        said.append("CMYK: turned into RGB without a colour profile")
    elif image.mode in ("P", "PA") and (image.mode == "PA" or "transparency" in image.info):
        said.append("palette with alpha: alpha is dropped")
    elif image.mode in ("RGBA", "LA", "La", "RGBa"):
        said.append("alpha: dropped")
    if getattr(image, "is_animated", False) and image.format in MOVING:
        said.append(f"{MOVING[image.format]}: the first of {getattr(image, 'n_frames', 0)} is used")
    if image.getexif().get(ORIENTATION, 1) != 1:
        said.append("turned by EXIF: shown as stored")
    return said


def first_line(error: BaseException) -> str:
    """An error's first line."""
    return str(error).partition("\n")[0] or type(error).__name__
