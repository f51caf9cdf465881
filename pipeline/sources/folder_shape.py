"""What the shape of a folder says: where the images are, and what must not be taken for a class."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from deit_pipe.pipeline.errors import DataAmbiguous
from deit_pipe.pipeline.sources.folder_walk import FolderWalk, joined
from deit_pipe.pipeline.sources.left_out import printable
from deit_pipe.pipeline.sources.split_names import KEYWORDS, kinds_of, names_only_a_split, words_of

# The list of torchvision 0.29 `IMG_EXTENSIONS`, plus .gif: what a class folder may hold without it being an
# accident.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
# Always tables; and files that are tables when they are called so.
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".xlsx", ".xls")
MAYBE_TABLE_SUFFIXES = (".json", ".txt", ".parquet")
TABLE_WORDS = frozenset(
    {
        *("metadata", "meta", "label", "labels", "labelled", "annotation", "annotations", "class", "classes"),
        *("target", "targets", "truth", "groundtruth", "index", "list", "captions"),
        *KEYWORDS,
    }
)


class Shape(NamedTuple):
    """Where the images of a folder are."""

    direct: bool  # in the folder itself
    nested: bool  # in folders below it


def is_image(name: str) -> bool:
    """Tell whether a file is an image by its name."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_label_table(name: str) -> bool:
    """Tell whether a file is, by its name, a table that gives images their labels."""
    file = Path(name.lower())
    named = not TABLE_WORDS.isdisjoint(words_of(file.stem))
    return file.suffix in TABLE_SUFFIXES or (file.suffix in MAYBE_TABLE_SUFFIXES and named)


def shape_of(root: Path, below: str) -> Shape:
    """Look into a folder, no further than needed."""
    direct = False
    for listing in FolderWalk(root).walk(below):
        if any(is_image(file.name) for file in listing.files):
            if listing.below != below:
                return Shape(direct, True)
            direct = True
    return Shape(direct, False)


def holds_images(root: Path, below: str) -> bool:
    """Tell whether there is an image anywhere below a folder."""
    return any(is_image(file.name) for listing in FolderWalk(root).walk(below) for file in listing.files)


def any_images_in_folders(root: Path) -> bool:
    """Tell whether any subfolder of `root` holds an image, looking no further than the first."""
    return any(holds_images(root, name) for name in FolderWalk(root).look_in().folders)


def find_label_table(root: Path, places: Iterable[str]) -> str | None:
    """Return the path, below `root`, of a table of labels in one of these folders."""
    for below in places:
        for file in FolderWalk(root).look_in(below).files:
            if is_label_table(file.name):
                return joined(below, file.name)
    return None


def refuse_label_table(root: Path, places: Iterable[str]) -> None:
    """Refuse a single class folder beside a table: its one class would be called "images".

    Raises:
        DataAmbiguous: names the table.
    """
    table = find_label_table(root, places)
    if table is not None:
        raise DataAmbiguous(
            f"{root} holds one folder of images and a table: {printable(table)}",
            expected="one folder per class, or a table that is called labels.csv or named with --labels",
            cure=f"name the table, as CSV or Parquet: --labels {shlex.quote(str(root / table))}\n"
            "or move it away if all images are of one class",
        )


def refuse_splits_below(root: Path, below: str, folders: Iterable[str]) -> None:
    """Refuse folders of splits where only classes, or parts of a class, may be: test images would be trained on.

    Args:
        root: the folder of the classes.
        below: the folder, below `root`, whose subfolders are looked at; "": the classes themselves.
        folders: names of these subfolders.

    Raises:
        DataAmbiguous: names the folder and the cure.
    """
    for name in _splits_among(folders):
        shape = shape_of(root, joined(below, name))
        # A class may be called train, but then its images are in it; a split has class folders.
        if shape.nested if not below else shape.direct or shape.nested:
            inside = root / below
            cure = (
                f"give the folder that holds the splits: --data {inside}"
                if shape.nested
                else f"move its images to a split beside the others, such as {root.parent / name / root.name}"
                if not below
                else f"sort the images by split first: {root / name / below}, or rename the folder"
            )
            raise DataAmbiguous(
                f"a split where a class should be: {inside / name}",
                expected=f"{root / 'train'}/CLASS, {root / 'test'}/CLASS, or classes without splits inside",
                cure=cure,
            )


def _splits_among(folders: Iterable[str]) -> list[str]:
    """Return the names that can only be splits: by themselves, or as a set like a-train and a-test."""
    worded = [name for name in folders if kinds_of(name)]
    sets: dict[tuple[str, ...], list[str]] = {}
    for name in worded:
        sets.setdefault(tuple(word for word in words_of(name) if word not in KEYWORDS), []).append(name)
    together = {
        name
        for members in sets.values()
        if len(frozenset().union(*(kinds_of(member) for member in members))) > 1
        for name in members
    }
    return [name for name in worded if names_only_a_split(name) or name in together]
