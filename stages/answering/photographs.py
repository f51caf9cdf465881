"""Images that were named one by one: found, read, decoded; what cannot be read is kept with its reason."""

import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.decode import decode, pixels_of
from deit_pipe.pipeline.errors import BadImage
from deit_pipe.pipeline.samples import UNLABELLED, SampleTable
from deit_pipe.pipeline.sources.folder_shape import is_image
from deit_pipe.stages.console.errors import Missing
from deit_pipe.stages.console.facts import Facts

STDIN = "-"


@dataclass(frozen=True)
class Unreadable(Facts):
    """An image that gets no answer."""

    image: str
    why: str


class HeldImages(SampleTable):
    """Decoded images, uint8 [H, W, 3] each, without labels."""

    def __init__(self, names: Sequence[str], pixels: Sequence[NDArray[np.uint8]]) -> None:
        super().__init__("images", names, np.full(len(names), UNLABELLED), ())
        self.pixels = pixels

    def read(self, sample: int) -> NDArray[np.uint8]:
        """Return the pixels."""
        return self.pixels[sample]

    def measure_bytes(self) -> NDArray[np.int64]:
        """Return the bytes of the pixels."""
        return np.asarray([one.size for one in self.pixels], dtype=np.int64)


def find_images(given: Sequence[str], lines: Iterator[str]) -> list[str]:
    """Paths of images: files as they are named, of folders all images below them, sorted.

    Args:
        given: files, folders, `-`.
        lines: what `-` stands for, a path each.

    Raises:
        Missing: a folder without an image, or nothing at all.
    """
    found: list[str] = []
    for one in given:
        names = [line.rstrip("\r\n") for line in lines] if one == STDIN else [one]
        for name in names:
            if name:
                found += _below(Path(name)) if Path(name).is_dir() else [name]
    if not found:
        raise Missing("no image is named", cure="give files or folders, or a list of them on stdin for -")
    return found


def _below(folder: Path) -> list[str]:
    images = sorted(str(Path(place) / name) for place, _, names in os.walk(folder) for name in names if is_image(name))
    if not images:
        raise Missing(f"{folder} holds no image", cure="name another folder, or the files themselves")
    return images


def read_images(names: Sequence[str], pool: ThreadPoolExecutor) -> tuple[HeldImages, list[Unreadable]]:
    """Decode images, in the order in which they are named."""
    answers = list(pool.map(_read, names))
    good = [(name, one) for name, one in zip(names, answers, strict=True) if isinstance(one, np.ndarray)]
    bad = [Unreadable(name, one) for name, one in zip(names, answers, strict=True) if isinstance(one, str)]
    return HeldImages([name for name, _ in good], [one for _, one in good]), bad


def _read(name: str) -> NDArray[np.uint8] | str:
    """Pixels, or why there are none; a pipe would be waited for, a device has no end."""
    try:
        if not stat.S_ISREG(Path(name).stat().st_mode):
            return "no regular file"
        return pixels_of(decode(Path(name).read_bytes()))
    except OSError as error:
        return error.strerror or str(error)
    except (BadImage, ValueError) as error:  # a name with a NUL
        return str(error).splitlines()[0]
