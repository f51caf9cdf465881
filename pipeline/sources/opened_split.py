"""An opened split with what is known about its files and labels, and the rule that labels mean the same everywhere."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.errors import ClassMismatch
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.pipeline.selected_samples import SelectedSamples
from deit_pipe.pipeline.sources.folder_walk import identity_of
from deit_pipe.pipeline.sources.left_out import LeftOut, listed, printable

# numbers: labels are numbers and nothing names them. named numbers: they are numbers, and the data names them.
# words: the names are the labels; the numbers are only their order.
LabelsAre = Literal["numbers", "named numbers", "words"]


@dataclass(frozen=True)
class OpenedSplit:
    """One split.

    Attributes:
        table: its samples.
        files: how many files they are in.
        labels_are: what stands in the data.
        identities: uint64, one for each file; equal for links to one file.
        file_at: path of the file with that identity, by its place.
        left_out: what was found beside the images.
        lines: what else a person should know of it.
    """

    table: SampleTable
    files: int
    labels_are: LabelsAre
    identities: NDArray[np.uint64]
    file_at: Callable[[int], Path]
    left_out: LeftOut = field(default_factory=LeftOut)
    lines: tuple[str, ...] = ()


def opened_from_files(table: SampleTable, files: Sequence[Path], labels_are: LabelsAre) -> OpenedSplit:
    """Describe a split that is a few large files."""
    stats = [file.stat() for file in files]
    identities = np.asarray([identity_of(stat.st_dev, stat.st_ino) for stat in stats], dtype=np.uint64)
    return OpenedSplit(table, len(files), labels_are, identities, list(files).__getitem__)


def with_classes_of(opened: OpenedSplit, train: OpenedSplit, *, same_data: bool = True) -> OpenedSplit:
    """Number the labels as the training split does; names decide wherever there are names.

    Args:
        opened: whose labels are numbered again.
        train: whose classes count.
        same_data: numbers without names mean the training split's numbers; those of other data could mean anything.

    Raises:
        ClassMismatch: a class that training does not know.
    """
    table, names = opened.table, train.table.class_names
    if table.class_names == names:
        return opened
    if same_data and opened.labels_are == "numbers" and train.labels_are != "words":
        if (most := int(table.labels.max(initial=-1))) >= len(names):
            raise ClassMismatch(
                f"label {most} of {table.name} is none of the training classes",
                expected=f"0..{len(names) - 1}, as in {train.table.name}",
                cure="correct the labels",
            )
        labels = table.labels
    else:
        labels = _by_name(table, names, train.table.name)
    return replace(opened, table=SelectedSamples(table, labels=labels, class_names=names))


def _by_name(table: SampleTable, names: Sequence[str], whose: str) -> NDArray[np.int64]:
    if len(set(names)) < len(names):
        raise ClassMismatch(
            f"{table.name} has other classes than {whose}, where two classes have one name",
            cure="give both splits the same list of classes",
        )
    # One system writes an umlaut as one character, another as two.
    number = {unicodedata.normalize("NFC", name): i for i, name in enumerate(names)}
    number |= {name: i for i, name in enumerate(names)}
    new = [number.get(name, number.get(unicodedata.normalize("NFC", name), -2)) for name in table.class_names]
    numbers = np.asarray([*new, -1], dtype=np.int64)  # the last one: label -1 stays -1
    labels = numbers[table.labels]
    if (labels == -2).any():
        unknown = sorted({table.class_names[i] for i in table.labels[labels == -2].tolist()})
        raise ClassMismatch(
            f"{table.name} has a class that training does not know: {printable(unknown[0])}",
            expected=f"{listed(names)}, as in {whose}",
            got=listed(unknown),
            cure="give both splits the same classes",
        )
    return labels


def shared_file(one: OpenedSplit, other: OpenedSplit) -> tuple[Path, Path] | None:
    """Return a file that both splits read, by its two paths, or None."""
    common, at, where = np.intersect1d(one.identities, other.identities, return_indices=True)
    for place in range(len(common)):
        first, second = one.file_at(int(at[place])), other.file_at(int(where[place]))
        if first.samefile(second):
            return first, second
    return None
