"""Images in a folder without class folders, whose labels are in a table beside them or elsewhere.

A table that is called labels.csv, labels.tsv, labels.parquet or metadata.csv is found in the folder; another is named
with `--labels`. It may say the split of an image, or the image's first folder does. A file may be written without its
suffix.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deit_pipe.pipeline.errors import DataAmbiguous, DataMissing
from deit_pipe.pipeline.sources.folder_shape import holds_images, is_image, shape_of
from deit_pipe.pipeline.sources.folder_walk import FolderWalk, joined
from deit_pipe.pipeline.sources.found_splits import Columns, FoundData, FoundSplit
from deit_pipe.pipeline.sources.image_folder import FolderSamples
from deit_pipe.pipeline.sources.left_out import LeftOut, listed, printable
from deit_pipe.pipeline.sources.opened_split import OpenedSplit
from deit_pipe.pipeline.sources.split_labels import numbered_labels
from deit_pipe.pipeline.sources.split_names import kinds_of, names_only_a_split
from deit_pipe.pipeline.sources.tables.label_table import LabelRow, read_label_table

LABEL_TABLE = "label table"
USUAL = ("labels.csv", "labels.tsv", "labels.parquet", "metadata.csv")
NOT_NAMED = "images that the table does not name"


class _File(NamedTuple):
    """An image in the folder: its path below it, and what every link to it shares."""

    path: str
    identity: int


def find_flat_folder(data: str, path: Path, columns: Columns) -> FoundData | None:
    """Find images with a table beside them, where they are not in class folders; None where there are none.

    Raises:
        DataAmbiguous: several such tables.
    """
    walk = FolderWalk(path).look_in()
    tables = [file.name for file in walk.files if file.name.lower() in USUAL]
    if not tables or not holds_images(path, "") or not _is_flat(path, walk.folders):
        return None
    if len(tables) > 1:
        raise DataAmbiguous(
            f"which table holds the labels of {data}?",
            details=[f"found     {listed(tables)}"],
            cure=f"choose one: --labels {path / tables[0]}",
        )
    return labelled_by(data, path, path / tables[0], columns)


def labelled_by(data: str, path: Path, table: Path, columns: Columns) -> FoundData:
    """Find the splits of images that a table names.

    Raises:
        DataMissing: no such table, no images, or images that are not there.
        DataAmbiguous: an image twice, or a name that could be several.
        DataCorrupt: not a table.
    """
    if not path.is_dir():
        raise DataMissing(
            f"no folder of images: {data}",
            expected="the folder that the table's files are in",
            cure="name it: --data DIR",
        )
    rows = read_label_table(table, columns.image, columns.label)
    left_out = LeftOut()
    files = _files_below(path, left_out)
    images = _found_files(rows, files, table, path)
    named = {image.path for image in images}
    for file in files:
        if file not in named:
            left_out.add(NOT_NAMED, file)
    splits = _splits_of(rows, images)
    # A split's rows stand where other sources have its files.
    part = {name: table.with_name(f"{table.name}#{name}") for name in sorted(set(splits))}
    found = tuple(FoundSplit(name or table.stem, kinds_of(name), (file,)) for name, file in part.items())

    def open_split(split: FoundSplit, columns: Columns) -> OpenedSplit:
        chosen = [i for i, name in enumerate(splits) if part[name] in split.files]
        return _opened(path, table, [rows[i] for i in chosen], [images[i] for i in chosen])

    return FoundData(data, LABEL_TABLE, found, open_split, left_out)


def _is_flat(path: Path, folders: Sequence[str]) -> bool:
    """Tell whether images are nowhere in class folders: beside the table, in one folder, or in those of splits."""
    splits = [name for name in folders if names_only_a_split(name)]
    if any(shape_of(path, name).nested for name in splits):
        return False
    return sum(holds_images(path, name) for name in folders if name not in splits) <= 1


def _files_below(path: Path, left_out: LeftOut) -> dict[str, _File]:
    """Return all images below a folder by their paths."""
    return {
        joined(listing.below, file.name): _File(joined(listing.below, file.name), file.identity)
        for listing in FolderWalk(path, left_out).walk()
        for file in listing.files
        if is_image(file.name)
    }


def _found_files(rows: Sequence[LabelRow], files: dict[str, _File], table: Path, path: Path) -> list[_File]:
    """Return the file of each row."""
    shorter: dict[str, list[str]] = {}  # without the suffix, without the folders, without both
    for full in files:
        stem, last = full.rpartition(".")[0], full.rpartition("/")[2]
        for short in {stem, last, last.rpartition(".")[0]} - {full}:
            shorter.setdefault(short, []).append(full)
    found: list[_File] = []
    missing: list[str] = []
    for row in rows:
        name = row.file.replace("\\", "/").removeprefix("./")
        meant = [name] if name in files else shorter.get(name, [])
        if len(meant) > 1:
            raise DataAmbiguous(
                f"which image is {printable(row.file)} of {table}?",
                details=[f"found     {listed(meant)}"],
                cure="write the path below the folder into the table",
            )
        if meant:
            found.append(files[meant[0]])
        else:
            missing.append(row.file)
    if missing:
        raise DataMissing(
            f"{len(missing):,} of the {len(rows):,} images of {table} are not below {path}",
            got=f"not there: {listed(missing, 3)}",
            cure="give the folder that the table's files are in: --data DIR",
        )
    _refuse_twice(rows, found, table)
    return found


def _refuse_twice(rows: Sequence[LabelRow], images: Sequence[_File], table: Path) -> None:
    first: dict[str, int] = {}
    for place, image in enumerate(images):
        before = first.setdefault(image.path, place)
        if before != place:
            labels = " and ".join(printable(str(rows[one].label)) for one in (before, place))
            raise DataAmbiguous(
                f"{printable(image.path)} is twice in {table}: rows {before + 1} and {place + 1}, labelled {labels}",
                cure="keep one row per image",
            )


def _splits_of(rows: Sequence[LabelRow], images: Sequence[_File]) -> list[str]:
    """Return the name of each row's split: as the table says, else the first folder where all of these are splits."""
    if any(row.split for row in rows):
        return [row.split for row in rows]
    folders = [image.path.partition("/")[0] if "/" in image.path else "" for image in images]
    return folders if all(folder and names_only_a_split(folder) for folder in set(folders)) else [""] * len(rows)


def _opened(path: Path, table: Path, rows: Sequence[LabelRow], images: Sequence[_File]) -> OpenedSplit:
    labels, classes, labels_are = numbered_labels([row.label for row in rows], str(table))
    keys = [image.path for image in images]
    samples = FolderSamples(path, keys, labels.tolist(), classes)
    identities = np.asarray([image.identity for image in images], dtype=np.uint64)
    return OpenedSplit(samples, len(samples), labels_are, identities, lambda place: path / keys[place])
