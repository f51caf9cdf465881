"""Small data sets of every source on disk; an image's bytes name its file, so that a leak is seen."""

import io
import struct
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from deit_pipe.pipeline.samples import ArraySamples, SampleTable
from deit_pipe.pipeline.sources.packed import pack_samples

Labels = Sequence[int | str | None]


def write_tree(root: Path, tree: Mapping[str, int]) -> Path:
    """Folders with so many image files each; the bytes of an image are its path below `root`."""
    for folder, count in tree.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            path = f"{folder}/{i:03}.jpg"
            (root / path).write_bytes(path.encode())
    return root


def write_parquet(
    file: Path,
    labels: Labels,
    *,
    image_column: str = "image",
    label_column: str = "label",
    names: Sequence[str] | None = None,
    more: Mapping[str, Sequence[object]] | None = None,
) -> Path:
    """One Parquet file; the bytes of an image are the file's name and the row."""
    file.parent.mkdir(parents=True, exist_ok=True)
    images = [f"{file.parent.name}/{file.name}:{row}".encode() for row in range(len(labels))]
    table = pa.table({image_column: pa.array(images, pa.binary()), label_column: labels, **(more or {})})
    if names is not None:
        listed = ", ".join(f'"{name}"' for name in names)
        about = f'{{"info": {{"features": {{"{label_column}": {{"names": [{listed}]}}}}}}}}'
        table = table.replace_schema_metadata({"huggingface": about})
    parquet.write_table(table, file, row_group_size=4)
    return file


def write_idx(
    folder: Path, name: str, labels: Sequence[int], grey: int, *, kinds: Sequence[str] = ("images", "labels")
) -> Path:
    """A pair of IDX files of 2 x 2 pixels; every pixel is `grey`, the last one the row."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.full((len(labels), 2, 2), grey, dtype=np.uint8)
    pixels[:, 1, 1] = np.arange(len(labels))
    return write_idx_arrays(folder, name, pixels, labels, kinds=kinds)


def write_idx_arrays(
    folder: Path,
    name: str,
    pixels: NDArray[np.uint8],
    labels: Sequence[int] | NDArray[np.int64],
    *,
    kinds: Sequence[str] = ("images", "labels"),
) -> Path:
    """A pair of IDX files of these pixels [N, H, W]."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"images": pixels, "labels": np.asarray(labels, dtype=np.uint8)}
    for kind in kinds:
        array = arrays[kind]
        head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (folder / f"{name}-{kind}-idx{array.ndim}-ubyte").write_bytes(head + array.tobytes())
    return folder


def write_cifar(file: Path, labels: Sequence[int], grey: int, *, label_bytes: int = 1) -> Path:
    """One of CIFAR's binary files; every byte of an image is `grey`, but the first one, the row."""
    file.parent.mkdir(parents=True, exist_ok=True)
    records = []
    for row, label in enumerate(labels):
        records.append(bytes([label] * label_bytes) + bytes([row]) + bytes([grey]) * 3071)
    file.write_bytes(b"".join(records))
    return file


def write_packed(file: Path, labels: Sequence[int], grey: int, names: Sequence[str] = ("ant", "bee")) -> Path:
    """A packed file of 2 x 2 pixels; every pixel is `grey`, the last one the row."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((len(labels), 2, 2), grey, dtype=np.uint8)
    pixels[:, 1, 1] = np.arange(len(labels))
    pack_samples(ArraySamples(file.stem, pixels, np.asarray(labels), names), file)
    return file


def labelled_table(labels: NDArray[np.int64]) -> ArraySamples:
    """A table in memory; pixel and key of a sample tell its position."""
    pixels = np.arange(len(labels), dtype=np.uint32).view(np.uint8).reshape(-1, 2, 2)
    return ArraySamples("fake", pixels, labels, [str(i) for i in range(int(labels.max(initial=0)) + 1)])


def image_bytes(table: SampleTable | None) -> list[bytes]:
    """The stored bytes of every sample."""
    if table is None:
        return []
    images = (table.read(sample) for sample in range(len(table)))
    return [image if isinstance(image, bytes) else image.tobytes() for image in images]


def write_tar(file: Path, members: Mapping[str, bytes]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as shard:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    return file
