"""IDX files, the format of MNIST, Fashion-MNIST, KMNIST and EMNIST, plain or gzipped.

Header, big endian: two zero bytes, the type (8 = unsigned byte), the number of dimensions, one 32-bit length
for each.
Format: http://yann.lecun.com/exdb/mnist/
"""

from __future__ import annotations

import gzip
import math
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.errors import DataAmbiguous, DataCorrupt
from deit_pipe.pipeline.samples import ArraySamples
from deit_pipe.pipeline.sources.folder_walk import FolderWalk
from deit_pipe.pipeline.sources.found_splits import Columns, FoundData, FoundSplit
from deit_pipe.pipeline.sources.left_out import LeftOut
from deit_pipe.pipeline.sources.opened_split import OpenedSplit, opened_from_files
from deit_pipe.pipeline.sources.split_names import Kind, kinds_of

T10K = "t10k"  # what the test split of the MNIST family is called
_NAME = re.compile(r"(?P<split>.+)[-_.](?P<what>images|labels)[-.](?P<kind>idx[13])-ubyte(?:\.gz)?$")
_KINDS = {"images": "idx3", "labels": "idx1"}
FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def find_idx_splits(data: str, path: Path) -> FoundData | None:
    """Find pairs of image and label files and their splits; None where there is none."""
    if not path.is_dir():
        return None
    left_out = LeftOut()
    pairs: dict[str, dict[str, str]] = {}
    for file in FolderWalk(path, left_out).look_in().files:
        match = _NAME.match(file.name)
        # Of files of one name the first is taken: -, plain before gzipped (this is their order by name, too).
        if match and match["kind"] == _KINDS[match["what"]]:
            pairs.setdefault(match["split"], {}).setdefault(match["what"], file.name)
    splits = []
    for name, pair in sorted(pairs.items()):
        if len(pair) == 2:
            kinds: frozenset[Kind] = frozenset(("test",)) if name == T10K else kinds_of(name)
            splits.append(FoundSplit(name, kinds, (path / pair["images"], path / pair["labels"])))
        else:
            left_out.add("IDX images without labels, or labels without images", next(iter(pair.values())))
    return FoundData(data, "IDX", tuple(splits), _open_split, left_out) if splits else None


def _open_split(split: FoundSplit, columns: Columns) -> OpenedSplit:
    if len(split.files) != 2:
        raise DataAmbiguous(
            f"which IDX files are the training images? found {', '.join(file.name for file in split.files)}",
            cure="name them train-images..., train-labels..., t10k-..., or put each pair into a folder of its own",
        )
    table = open_idx(split.files[0], split.files[1])
    named = table.class_names == FASHION_CLASSES
    return opened_from_files(table, split.files, "named numbers" if named else "numbers")


def open_idx(images: Path, labels: Path) -> ArraySamples:
    """Open an image and a label file: raw uint8 [H, W] images.

    Raises:
        DataCorrupt: a header that does not fit the file, or counts that differ.
    """
    pixels = read_idx(images)
    targets = read_idx(labels)
    if pixels.ndim not in (3, 4) or targets.ndim != 1 or len(pixels) != len(targets):
        raise DataCorrupt(
            f"IDX files do not belong together: {images.name} and {labels.name} in {images.parent}",
            expected="images [N, H, W] and labels [N]",
            got=f"{pixels.shape} and {targets.shape}",
            cure="copy both files again",
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
        raise DataCorrupt(f"cannot read {path}: {error}", cure="copy the file again") from error
    dimensions = data[3] if len(data) > 3 else 0
    start = 4 + 4 * dimensions
    if data[:3] != b"\x00\x00\x08" or not dimensions or len(data) < start:
        raise DataCorrupt(f"not an IDX file of unsigned bytes: {path}", cure="copy the file again")
    shape = tuple(int(length) for length in np.frombuffer(data, ">u4", dimensions, 4))
    if len(data) - start != math.prod(shape):
        raise DataCorrupt(
            f"IDX file has another size than its header says: {path}",
            expected=f"{math.prod(shape)} bytes for {shape}",
            got=len(data) - start,
            cure="copy the file again",
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
