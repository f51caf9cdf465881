"""CIFAR-10 and CIFAR-100 in their binary version (the "python" version is a pickle, which can run code when
read).

Records: one label byte (CIFAR-100: coarse, then fine), then 3,072 bytes, the red, green and blue plane of 32
x 32.
Format: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from deit_pipe.pipeline.errors import DataCorrupt, DataMissing
from deit_pipe.pipeline.samples import ArraySamples

PLANES = 3 * 32 * 32
# Subfolders that the official archives unpack to.
FOLDERS = (".", "cifar-10-batches-bin", "cifar-100-binary")


def open_cifar(path: Path, split: Literal["train", "val"]) -> ArraySamples | None:
    """Open a split as raw uint8 [32, 32, 3] images; None when `path` holds no CIFAR files.

    Raises:
        DataMissing: only the pickled version, or this split's files are not there.
        DataCorrupt: a file that is no whole number of records.
    """
    for folder in (path / name for name in FOLDERS):
        if (folder / "data_batch_1.bin").is_file() or (folder / "test_batch.bin").is_file():
            names = (
                [f"data_batch_{part}.bin" for part in range(1, 6)] if split == "train" else ["test_batch.bin"]
            )
            return _read([folder / name for name in names], 1, folder / "batches.meta.txt", 10)
        if (folder / "fine_label_names.txt").is_file():
            name = "train.bin" if split == "train" else "test.bin"
            return _read([folder / name], 2, folder / "fine_label_names.txt", 100)
    for pickled in ("data_batch_1", "cifar-10-batches-py", "cifar-100-python"):
        if (path / pickled).exists():
            raise DataMissing(
                f"{path} holds CIFAR as Python pickles, which are not read here: a pickle can run any code\n"
                "  get the binary version from the same page (cifar-10-binary.tar.gz, cifar-100-binary.tar.gz)"
            )
    return None


def _read(files: list[Path], label_bytes: int, names_file: Path, classes: int) -> ArraySamples:
    parts = []
    for file in files:
        if not file.is_file():
            raise DataMissing(f"no {file.name} in {file.parent}\n  unpack the whole archive")
        data = np.frombuffer(file.read_bytes(), np.uint8)
        if len(data) % (label_bytes + PLANES):
            raise DataCorrupt(
                f"CIFAR file has an odd size: {file}\n"
                f"  expected  a multiple of {label_bytes + PLANES} bytes\n  got       {len(data)}\n"
                "  unpack the archive again"
            )
        parts.append(data.reshape(-1, label_bytes + PLANES))
    records = np.concatenate(parts)
    planes = records[:, label_bytes:].reshape(-1, 3, 32, 32)
    names = [str(label) for label in range(classes)]
    if names_file.is_file():
        names = names_file.read_text().split()
    return ArraySamples(
        str(files[0].parent),
        np.ascontiguousarray(planes.transpose(0, 2, 3, 1)),
        records[:, label_bytes - 1].astype(np.int64),
        names,
    )
