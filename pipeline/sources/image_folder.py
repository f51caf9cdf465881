"""Class folders: every direct subfolder is a class, every image file below it a sample.

The images of a folder called `unlabelled` have no label; they come after those of all classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.errors import BadImage, DataMissing
from deit_pipe.pipeline.samples import KeyList, SampleTable
from deit_pipe.pipeline.sources.folder_shape import is_image, refuse_splits_below
from deit_pipe.pipeline.sources.folder_walk import FolderWalk, FoundFile, joined
from deit_pipe.pipeline.sources.left_out import LOOSE, NO_IMAGE, LeftOut, listed, printable
from deit_pipe.pipeline.sources.opened_split import OpenedSplit

UNLABELLED = ("unlabelled", "unlabeled")


@dataclass
class _Found:
    """What a scan finds: one entry per image."""

    classes: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    identities: list[int] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)  # class folders without images


class FolderSamples(SampleTable):
    """Samples of a class folder; the keys are paths below `root` with forward slashes."""

    def __init__(self, root: Path, keys: list[str], labels: list[int], classes: list[str]) -> None:
        super().__init__(str(root), KeyList(keys), np.asarray(labels, dtype=np.int64), classes)
        self.root = root

    def read(self, sample: int) -> bytes:
        """Return the file's bytes."""
        try:
            return (self.root / self.keys[sample]).read_bytes()
        except OSError as error:
            raise BadImage(
                f"cannot read image: sample {sample} ({self.keys[sample]}): {error.strerror}",
                cure=f"put the file back below {self.root}",
            ) from error

    def measure_bytes(self) -> NDArray[np.int64]:
        """Return the file sizes."""
        return np.asarray([(self.root / key).stat().st_size for key in self.keys], dtype=np.int64)


def open_class_folders(root: Path, *, any_name: bool = False, empty_classes: bool = False) -> OpenedSplit:
    """Open all classes below `root`.

    Args:
        root: holds one folder per class.
        any_name: a folder called train or test is a class too; the user said so.
        empty_classes: keep class folders without images instead of refusing them.

    Raises:
        DataMissing: no classes, a class without images, or a folder that cannot be listed.
        DataAmbiguous: splits among or inside the classes.
    """
    left_out = LeftOut()
    walk = FolderWalk(root, left_out)
    top = walk.look_in()
    _count_others(top.files, "", left_out, LOOSE)
    if not any_name:
        refuse_splits_below(root, "", top.folders)
    found = _Found()
    for name in sorted(top.folders, key=lambda name: (is_unlabelled(name), name)):
        label = -1 if is_unlabelled(name) else len(found.classes)
        if not _scan_class(walk, name, label, found):
            found.empty.append(name)
        if label >= 0:
            found.classes.append(name)
    if found.empty and not empty_classes:
        raise _empty_classes(root, found.empty)
    if not found.classes:
        raise DataMissing(f"no class folders in {root}", cure="sort the images into one folder per class")
    table = FolderSamples(root, found.keys, found.labels, found.classes)
    identities = np.asarray(found.identities, dtype=np.uint64)
    return OpenedSplit(table, len(table), "words", identities, lambda place: root / table.keys[place], left_out)


def is_unlabelled(folder: str) -> bool:
    """Tell whether the images of a folder of this name have no label."""
    return folder.lower() in UNLABELLED


def _scan_class(walk: FolderWalk, name: str, label: int, found: _Found) -> int:
    """Append the images below a class folder, sorted by their paths; how many there are."""
    images: list[tuple[str, int]] = []
    for listing in walk.walk(name):
        refuse_splits_below(walk.root, listing.below, listing.folders)
        images += [(joined(listing.below, file.name), file.identity) for file in listing.files if is_image(file.name)]
        _count_others(listing.files, listing.below, walk.left_out)
    images.sort()
    found.keys += [key for key, _ in images]
    found.identities += [identity for _, identity in images]
    found.labels += [label] * len(images)
    return len(images)


def _empty_classes(root: Path, names: list[str]) -> DataMissing:
    others = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return DataMissing(
        f"no images in the class folder {printable(str(root / names[0]))}{others}",
        details=[f"empty     {listed(names)}"] if others else (),
        cure="remove the folder or put images into it",
    )


def _count_others(files: tuple[FoundFile, ...], below: str, left_out: LeftOut, images: str | None = None) -> None:
    """Count files that are no images, and, where they have no place, images too."""
    for file in files:
        if not is_image(file.name):
            left_out.add(NO_IMAGE, joined(below, file.name))
        elif images is not None:
            left_out.add(images, joined(below, file.name))
