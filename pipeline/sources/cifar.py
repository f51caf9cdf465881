"""CIFAR-10 and CIFAR-100 in their binary version (the "python" version is a pickle, which can run code when
read).

Records: one label byte (CIFAR-100: coarse, then fine), then 3,072 bytes, the red, green and blue plane of 32
x 32.
Format: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deit_pipe.pipeline.errors import DataAmbiguous, DataCorrupt, DataMissing
from deit_pipe.pipeline.samples import ArraySamples
from deit_pipe.pipeline.sources.found_splits import Columns, FoundData, FoundSplit
from deit_pipe.pipeline.sources.left_out import listed
from deit_pipe.pipeline.sources.opened_split import OpenedSplit, opened_from_files
from deit_pipe.pipeline.sources.split_names import Kind

PLANES = 3 * 32 * 32
# Subfolders that the official archives unpack to.
FOLDERS = (".", "cifar-10-batches-bin", "cifar-100-binary")
TEST_10 = "test_batch.bin"
NAMES_10 = "batches.meta.txt"
NAMES_100 = "fine_label_names.txt"


def find_cifar_splits(data: str, path: Path) -> FoundData | None:
    """Find CIFAR's files; None when `path` holds none. Splits are opened as raw uint8 [32, 32, 3] images.

    Raises:
        DataMissing: only the pickled version.
        DataAmbiguous: CIFAR-10 and CIFAR-100 side by side.
    """
    if not path.is_dir():
        return None
    # CIFAR-10 by its batches; CIFAR-100 by its names, as train.bin may be anything.
    tens = [folder for folder in _folders(path) if any(folder.glob("data_batch_*.bin")) or _is(folder, TEST_10)]
    hundreds = [folder for folder in _folders(path) if _is(folder, NAMES_100)]
    if len(tens) + len(hundreds) > 1:
        places = [folder.relative_to(path).as_posix() for folder in (*tens, *hundreds)]
        raise DataAmbiguous(
            f"{data} holds several data sets",
            details=[f"found     {listed(places)}"],
            cure=f"choose one: --data {path / places[-1]}",
        )
    if tens:
        batches = tuple(tens[0] / f"data_batch_{part}.bin" for part in range(1, 6))
        return _found(data, {"train": batches, "test": (tens[0] / TEST_10,)}, 1, tens[0] / NAMES_10, 10)
    if hundreds:
        files: dict[Kind, tuple[Path, ...]] = {
            "train": (hundreds[0] / "train.bin",),
            "test": (hundreds[0] / "test.bin",),
        }
        return _found(data, files, 2, hundreds[0] / NAMES_100, 100)
    for pickled in ("data_batch_1", "cifar-10-batches-py", "cifar-100-python"):
        if (path / pickled).exists():
            raise DataMissing(
                f"{path} holds CIFAR as Python pickles, which are not read here: a pickle can run any code",
                cure="get the binary version from the same page (cifar-10-binary.tar.gz, cifar-100-binary.tar.gz)",
            )
    return None


def _folders(path: Path) -> list[Path]:
    return [path / name for name in FOLDERS if (path / name).is_dir()]


def _is(folder: Path, name: str) -> bool:
    return (folder / name).is_file()


def _found(
    data: str, files: dict[Kind, tuple[Path, ...]], label_bytes: int, names_file: Path, classes: int
) -> FoundData:
    def open_split(split: FoundSplit, columns: Columns) -> OpenedSplit:
        table = _read(split.files, label_bytes, names_file, classes)
        return opened_from_files(table, split.files, "named numbers")

    splits = [
        FoundSplit(kind, frozenset((kind,)), paths)
        for kind, paths in files.items()
        if any(file.is_file() for file in paths)
    ]
    return FoundData(data, "CIFAR", tuple(splits), open_split)


def _read(files: Sequence[Path], label_bytes: int, names_file: Path, classes: int) -> ArraySamples:
    parts = []
    for file in files:
        if not file.is_file():
            raise DataMissing(f"no {file.name} in {file.parent}", cure="unpack the whole archive")
        data = np.frombuffer(file.read_bytes(), np.uint8)
        if len(data) % (label_bytes + PLANES):
            raise DataCorrupt(
                f"CIFAR file has an odd size: {file}",
                expected=f"a multiple of {label_bytes + PLANES} bytes",
                got=len(data),
                cure="unpack the archive again",
            )
        parts.append(data.reshape(-1, label_bytes + PLANES))
    records = np.concatenate(parts)
    planes = records[:, label_bytes:].reshape(-1, 3, 32, 32)
    names = [str(label) for label in range(classes)]
    if names_file.is_file():
        names = names_file.read_text().split()
    labels = records[:, label_bytes - 1].astype(np.int64)
    if len(names) != classes or labels.max(initial=0) >= classes:
        raise DataCorrupt(
            f"CIFAR files do not belong together: {names_file.parent}",
            expected=f"{classes} names and labels 0..{classes - 1}",
            got=f"{len(names)} names and labels up to {labels.max(initial=0)}",
            cure="unpack the archive again",
        )
    return ArraySamples(str(files[0].parent), np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels, names)
