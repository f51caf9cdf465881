"""Find out what a data path holds and open one split of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from deit_pipe.pipeline.errors import DataMissing
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.pipeline.sources.cifar import open_cifar
from deit_pipe.pipeline.sources.digits import open_digits
from deit_pipe.pipeline.sources.idx import find_idx, open_idx
from deit_pipe.pipeline.sources.image_folder import FolderSamples, holds_images
from deit_pipe.pipeline.sources.packed import PackedSamples, find_packed
from deit_pipe.pipeline.sources.parquet import ParquetSamples, find_parquet

Split = Literal["train", "val"]
SPLITS: tuple[Split, Split] = ("train", "val")

# What people call the folders; the first that exists is taken.
SPLIT_FOLDERS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "test"),
}


def open_samples(data: str, split: Split = "train") -> SampleTable:
    """Open one split of `data`.

    Args:
        data: "digits" (embedded) or a path to class folders (below train/ and val/, or directly: then it has
            only a training split), IDX files, Parquet, CIFAR binary files or packed Arrow.
        split: which part.

    Raises:
        DataMissing: nothing there, nothing we know, or no such split.
    """
    if data == "digits":
        return open_digits(split)
    path = Path(data)
    if not path.exists():
        raise DataMissing(f"no data at {data}\n  give the folder or file that holds the images: --data PATH")
    table = _open_files(path, split)
    if table is None and path.is_dir():
        table = _open_folders(path, split)
    if table is None:
        raise DataMissing(
            f"no images that we know how to read in {data}\n"
            "  expected  class folders (in train/ and val/, or bare), IDX, CIFAR, Parquet, packed Arrow\n"
            "  see: deit-pipe show-views --help"
        )
    return table


def missing_split(path: Path, split: Split) -> DataMissing:
    """Return the error for data without a validation (or training) part."""
    cure = (
        "name other validation images: --val-data PATH"
        if split == "val"
        else "give training images: --data PATH"
    )
    return DataMissing(f"no {split} split in {path}\n  {cure}")


def _open_files(path: Path, split: Split) -> SampleTable | None:
    """Open a data set that is a few large files; None when it is not."""
    packed, any_packed = find_packed(path, split)
    if any_packed:
        if packed is None:
            raise missing_split(path, split)
        return PackedSamples(packed)
    if path.is_dir() and any(find_idx(path, name) for name in SPLITS):
        files = find_idx(path, split)
        if files is None:
            raise missing_split(path, split)
        return open_idx(*files)
    if path.is_dir() and (cifar := open_cifar(path, split)) is not None:
        return cifar
    parquet_files, any_parquet = find_parquet(path, split)
    if any_parquet:
        if not parquet_files:
            raise missing_split(path, split)
        return ParquetSamples(str(path), parquet_files)
    return None


def _open_folders(path: Path, split: Split) -> SampleTable | None:
    """Open class folders, below a split's folder or directly; None when there are no images."""
    folders = {name: _split_folder(path, name) for name in SPLITS}
    if folders["train"] is not None:
        folder = folders[split]
        if folder is None:
            raise missing_split(path, split)
        return FolderSamples(folder)
    if holds_images(path):
        if split == "val":
            raise missing_split(path, split)
        return FolderSamples(path)
    return None


def _split_folder(path: Path, split: Split) -> Path | None:
    candidates = (path / name for name in SPLIT_FOLDERS[split])
    return next((folder for folder in candidates if folder.is_dir() and holds_images(folder)), None)
