"""Class folders: which of the folders at a data path are splits, and which are classes."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from deit_pipe.pipeline.errors import DataAmbiguous, DataMissing
from deit_pipe.pipeline.sources.folder_shape import (
    Shape,
    find_label_table,
    holds_images,
    is_image,
    refuse_label_table,
    shape_of,
)
from deit_pipe.pipeline.sources.folder_walk import FolderWalk
from deit_pipe.pipeline.sources.found_splits import NO_WORD, WHOLE, Columns, FoundData, FoundSplit
from deit_pipe.pipeline.sources.image_folder import is_unlabelled, open_class_folders
from deit_pipe.pipeline.sources.left_out import LOOSE, LeftOut, listed
from deit_pipe.pipeline.sources.opened_split import OpenedSplit
from deit_pipe.pipeline.sources.split_names import is_exact, kinds_of, names_only_a_split

FLAT = "folders of a split without class folders inside"
BESIDE_SPLITS = "unlabelled images beside the splits (inside the training split they are used)"


def find_folder_splits(data: str, path: Path) -> FoundData | None:
    """Find the splits of class folders; None where there are no images in folders.

    A split's folder holds class folders, a class folder holds images: so a class may be called `train`.

    Raises:
        DataMissing: splits without class folders.
    """
    folders = FolderWalk(path).look_in().folders
    shapes = {name: shape_of(path, name) for name in folders if kinds_of(name)}
    splits = [name for name, shape in shapes.items() if shape.nested]
    flat = [name for name, shape in shapes.items() if shape == Shape(True, False) and names_only_a_split(name)]
    # Only where there are splits it matters which of the others hold images.
    others = [name for name in folders if name not in splits and name not in flat]
    if splits or flat:
        others = [name for name in others if holds_images(path, name)]
    elif not any(holds_images(path, name) for name in others):
        return None
    if flat and not splits and not others:
        raise _no_classes(path, flat)
    found = [_whole(path), *(FoundSplit(name, kinds_of(name), (path / name,)) for name in splits)]
    if not splits:
        found = found[:1]
    left_out = LeftOut()
    unclear = None
    classes = [name for name in others if not is_unlabelled(name)]
    if (splits or flat) and classes and _may_be_classes(splits, flat, shapes):
        unclear = _unclear(data, splits, flat, classes)
    elif splits:
        _count_beside(path, flat, others, left_out)
    return FoundData(data, "class folders", tuple(found), _opener(path), left_out, unclear)


def _whole(path: Path) -> FoundSplit:
    return FoundSplit(WHOLE, frozenset(), (path,))


def _opener(path: Path) -> Callable[[FoundSplit, Columns], OpenedSplit]:
    def open_split(split: FoundSplit, columns: Columns) -> OpenedSplit:
        whole = split.name == WHOLE
        opened = open_class_folders(split.files[0], any_name=whole, empty_classes=columns.empty_classes)
        classes = opened.table.class_names
        # A single class is nothing special in validation images, whose classes must be those of training.
        if len(classes) == 1 and not split.kinds & {"val", "test"}:
            refuse_label_table(split.files[0], ("", classes[0]))
            refuse_label_table(path, ("",))
        return opened

    return open_split


def _may_be_classes(splits: list[str], flat: list[str], shapes: dict[str, Shape]) -> bool:
    """Tell whether folders with a split's word may be classes like those beside them."""
    if not splits:
        return bool(flat)
    return not any(is_exact(name) and not shapes[name].direct for name in splits)


def _unclear(data: str, splits: list[str], flat: list[str], others: list[str]) -> DataAmbiguous:
    doubtful = [*splits, *flat]
    cure = f"; --train-split {splits[0]} takes it as the training split" if splits else ""
    return DataAmbiguous(
        f"split or class? {listed(doubtful)} beside {listed(others, 3)} in {data}",
        cure=f"--train-split {WHOLE} takes every folder as a class{cure}\nelse move the folder out of the data",
    )


def _no_classes(path: Path, flat: list[str]) -> DataMissing:
    table = find_label_table(path, ("", *flat))
    named = f"name the table, as CSV or Parquet: --labels {shlex.quote(str(path / table))}\nor " if table else ""
    return DataMissing(
        f"the images of {path / flat[0]} are in no class folder",
        expected=f"{path / flat[0]}/CLASS/*.jpg",
        cure=f"{named}sort the images into one folder per class",
    )


def _count_beside(path: Path, flat: list[str], others: list[str], left_out: LeftOut) -> None:
    """Count what is beside the splits: folders of images, loose images, hidden and system files."""
    walk = FolderWalk(path, left_out)
    for file in walk.look_in().files:
        if is_image(file.name):
            left_out.add(LOOSE, file.name)
    for name in flat:
        left_out.add(FLAT, name)
    for name in others:
        left_out.add(BESIDE_SPLITS if is_unlabelled(name) else NO_WORD, name)
