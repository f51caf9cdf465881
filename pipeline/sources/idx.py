"""IDX files, the format of MNIST, Fashion-MNIST, KMNIST and EMNIST, plain or gzipped.

Header, big endian: two zero bytes, the type (8 = unsigned byte), the number of dimensions, one 32-bit length
for each.
Format: http://yann.lecun.com/exdb/mnist/
"""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.errors import DataCorrupt
from deit_pipe.pipeline.samples import ArraySamples

PREFIXES = {"train": "train", "val": "t10k"}
FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def find_idx(folder: Path, split: Literal["train", "val"]) -> tuple[Path, Path] | None:
    """Return the image and label file of a split, or None when the folder does not hold both."""
    images = _first_existing(folder, f"{PREFIXES[split]}-images", "idx3-ubyte")
    labels = _first_existing(folder, f"{PREFIXES[split]}-labels", "idx1-ubyte")
    return (images, labels) if images and labels else None


def open_idx(images: Path, labels: Path) -> ArraySamples:
    """Open an image and a label file: raw uint8 [H, W] images.

    Raises:
        DataCorrupt: a header that does not fit the file, or counts that differ.
    """
    pixels = read_idx(images)
    targets = read_idx(labels)
    if pixels.ndim not in (3, 4) or targets.ndim != 1 or len(pixels) != len(targets):
        raise DataCorrupt(
            f"IDX files do not belong together: {images.name} and {labels.name} in {images.parent}\n"
            f"  expected  images [N, H, W] and labels [N]\n  got       {pixels.shape} and {targets.shape}\n"
            "  copy both files again"
        )
    classes = int(targets.max()) + 1 if len(targets) else 0
    fashion = "fashion" in str(images.resolve()).lower() and classes == len(FASHION_CLASSES)
    names = FASHION_CLASSES if fashion else tuple(str(label) for label in range(classes))
    return ArraySamples(str(images), pixels, targets.astype(np.int64), names)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes.

    Raises:
        DataCorrupt: not IDX, another type, or fewer bytes than the header says.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataCorrupt(f"cannot read {path}: {error}\n  copy the file again") from error
    dimensions = data[3] if len(data) > 3 else 0
    start = 4 + 4 * dimensions
    if data[:3] != b"\x00\x00\x08" or not dimensions or len(data) < start:
        raise DataCorrupt(f"not an IDX file of unsigned bytes: {path}\n  copy the file again")
    shape = tuple(int(length) for length in np.frombuffer(data, ">u4", dimensions, 4))
    if len(data) - start != math.prod(shape):
        raise DataCorrupt(
            f"IDX file has another size than its header says: {path}\n"
            f"  expected  {math.prod(shape)} bytes for {shape}\n  got       {len(data) - start}\n"
            "  copy the file again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _first_existing(folder: Path, stem: str, kind: str) -> Path | None:
    candidates = [folder / f"{stem}{dot}{kind}{end}" for dot in "-." for end in ("", ".gz")]
    return next((path for path in candidates if path.is_file()), None)
