"""The splits of a data path as they were chosen, before anything is held out or left away.

What is checked here: that labels mean the same in all splits, that selection and the last word have labels, and that
no file is in two splits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.data_choice import DataChoice
from deit_pipe.pipeline.errors import ChoiceError, DataAmbiguous, DataCorrupt, DataMissing
from deit_pipe.pipeline.samples import class_name
from deit_pipe.pipeline.selected_samples import SelectedSamples
from deit_pipe.pipeline.sources.exclude_list import find_excluded
from deit_pipe.pipeline.sources.found_splits import (
    WHOLE,
    Columns,
    FoundData,
    FoundSplit,
    choose_splits,
    validation_splits,
)
from deit_pipe.pipeline.sources.left_out import LeftOut, listed, printable
from deit_pipe.pipeline.sources.open_samples import check_columns, find_data, missing_split
from deit_pipe.pipeline.sources.opened_split import OpenedSplit, shared_file, with_classes_of
from deit_pipe.pipeline.sources.split_names import Kind


@dataclass(frozen=True)
class NamedSplit:
    """An opened split and what it is called on disk.

    Attributes:
        opened: the split.
        name: of its folder or files, "" where it is all there is.
        data: the data path it is from.
    """

    opened: OpenedSplit
    name: str
    data: str


@dataclass(frozen=True)
class DataSplits:
    """The three splits; None: there is none. All but training are labelled throughout.

    `excluded`: how an exclude list was understood, positions in each whole split. They are gone from val and test; in
    `train` they are still there, as what is drawn of it depends on the positions.
    """

    train: NamedSplit
    val: NamedSplit | None
    test: NamedSplit | None
    left_out: LeftOut
    excluded: Mapping[Kind, NDArray[np.int64]] = field(default_factory=dict)

    def trained_on(self) -> NDArray[np.int64]:
        """Positions of the training images that are not excluded, int64."""
        every = np.arange(len(self.train.opened.table), dtype=np.int64)
        return np.setdiff1d(every, self.excluded["train"]) if "train" in self.excluded else every


def open_splits(data: str, choice: DataChoice, *, refuse: bool = True) -> DataSplits:
    """Open the splits that `choice` names, else those with the usual names; then other validation images.

    Args:
        data: the path.
        choice: which splits and columns.
        refuse: False: empty classes and files in two splits are kept, for a command that lists what is wrong.

    Raises:
        DataMissing: nothing there, no training images, or a split or column that was named is not there.
        DataAmbiguous: it can be understood in more than one way, or a file is in two splits.
        ChoiceError: columns named of data that has none.
        ClassMismatch: splits that do not have the same classes.
    """
    columns = Columns(choice.image_column, choice.label_column, empty_classes=not refuse)
    found = find_data(data, columns, choice.labels)
    other = None if choice.val_data is None else find_data(choice.val_data, columns)
    check_columns(columns, found, *([] if other is None else [other]))
    chosen = choose_splits(found, choice.train_split, None if other else choice.val_split, own_val=other is None)
    if chosen.train is None:
        raise missing_split(found, "train")
    left_out = found.left_out
    train = _open(found, chosen.train, columns, left_out)
    _check_training(train)
    if refuse:
        _check_class_names(train)
    columns = replace(columns, must_have_labels=False)
    parts: dict[Kind, NamedSplit | None] = {"val": None, "test": None}
    for kind in parts:
        if (split := chosen.of(kind)) is not None:
            parts[kind] = _labelled(_same_classes(_open(found, split, columns, left_out), train), kind, left_out)
    if choice.val_split is not None and other is None and parts["val"] is None:
        raise DataMissing(
            f"no labelled images in the split {choice.val_split} of {data}",
            cure="name a split with labels: --val-split NAME",
        )
    if other is not None:
        parts["val"] = _open_elsewhere(other, choice.val_split, columns, train, left_out)
    splits = _without_excluded(DataSplits(train, parts["val"], parts["test"], left_out), choice.excluded)
    return _without_shared_files(splits) if refuse else splits


def _open(found: FoundData, split: FoundSplit, columns: Columns, left_out: LeftOut) -> NamedSplit:
    opened = found.open_split(split, columns)
    name = "" if split.name == WHOLE else split.name
    left_out.merge(opened.left_out, name)
    return NamedSplit(opened, name, found.path)


def _check_training(train: NamedSplit) -> None:
    table = train.opened.table
    if not len(table) or not table.class_names:
        what = "labels" if len(table) else "images"
        raise DataMissing(
            f"no {what} in the training split of {train.data}",
            expected="at least one image with a label",
            cure="name another split: --train-split NAME, or other data: --data PATH",
        )


def _check_class_names(train: NamedSplit) -> None:
    """Refuse names that no file of text can hold, before they are recorded everywhere."""
    for name in train.opened.table.class_names:
        if any("\ud800" <= char <= "\udfff" for char in name):
            raise DataCorrupt(
                f"the name of a class is not UTF-8: {printable(name)} of {train.data}",
                cure="rename it; all names that are odd are listed by: deit-pipe check-data DATA",
            )


def _same_classes(split: NamedSplit, train: NamedSplit) -> NamedSplit:
    opened = with_classes_of(split.opened, train.opened, same_data=split.data == train.data)
    return replace(split, opened=opened)


def _labelled(split: NamedSplit, kind: Kind, left_out: LeftOut) -> NamedSplit | None:
    """Return the split without its unlabelled images; None where that is all of them."""
    table = split.opened.table
    missing = len(table) - table.num_labelled
    if not table.num_labelled:
        left_out.add(f"the {kind} split, which has no labels; its images", split.name or split.data, missing)
        return None
    if not missing:
        return split
    first = table.keys[int(np.argmin(table.labels >= 0))]
    left_out.add(f"unlabelled images of the {kind} split", first, missing)
    labelled = SelectedSamples(table, positions=np.flatnonzero(table.labels >= 0))
    return replace(split, opened=replace(split.opened, table=labelled))


def _open_elsewhere(
    other: FoundData, name: str | None, columns: Columns, train: NamedSplit, left_out: LeftOut
) -> NamedSplit:
    """Open the first split of other data that can serve for validation."""
    for split in validation_splits(other, name):
        opened = _labelled(_same_classes(_open(other, split, columns, left_out), train), "val", left_out)
        if opened is not None:
            return opened
    raise DataMissing(f"no labelled images in {other.path}", cure="give images with labels: --val-data PATH, or none")


def _without_excluded(splits: DataSplits, names: Sequence[str]) -> DataSplits:
    """Leave away the images that a list names.

    Raises:
        DataMissing: a name that no image has.
        ChoiceError: a class or a split that would be empty.
    """
    if not names:
        return splits
    named: dict[Kind, NamedSplit | None] = {"train": splits.train, "val": splits.val, "test": splits.test}
    tables = {kind: None if split is None else split.opened.table for kind, split in named.items()}
    excluded = find_excluded(names, tables, splits.train.data)
    for kind in ("val", "test"):
        split, gone = named[kind], excluded[kind]
        if split is None or not len(gone):
            continue
        table = split.opened.table
        if len(gone) == len(table):
            raise ChoiceError(
                f"--exclude leaves no image of the {kind} split of {split.data}", cure="take some off the list"
            )
        rest = SelectedSamples(table, positions=np.setdiff1d(np.arange(len(table)), gone))
        named[kind] = replace(split, opened=replace(split.opened, table=rest))
    splits = replace(splits, val=named["val"], test=named["test"], excluded=excluded)
    _check_classes_left(splits)
    return splits


def _check_classes_left(splits: DataSplits) -> None:
    table = splits.train.opened.table
    left = table.labels[splits.trained_on()]
    gone = np.setdiff1d(table.labels, left)
    if len(gone):
        names = listed(class_name(table.class_names, label) for label in gone.tolist())
        raise ChoiceError(
            f"--exclude leaves classes of {splits.train.data} without an image: {names}",
            cure="remove their folders from the data, or take some of their images off the list",
        )


def _used_files(split: NamedSplit, used: NDArray[np.int64] | None = None) -> OpenedSplit:
    """The split with the files of the images that are used only, where each image is a file.

    Args:
        split: the split.
        used: positions in its table, int64; None: all of it.
    """
    opened = split.opened
    positions = np.arange(len(opened.table), dtype=np.int64) if used is None else used
    whole = opened.table
    if isinstance(whole, SelectedSamples):
        positions, whole = whole.positions[positions], whole.whole
    if len(opened.identities) != len(whole):
        return opened
    return replace(
        opened,
        identities=opened.identities[positions],
        file_at=lambda place: opened.file_at(int(positions[place])),
    )


def _without_shared_files(splits: DataSplits) -> DataSplits:
    """Refuse a file of training that is also in another split; give up a test split that selection uses.

    Raises:
        DataAmbiguous: names the file.
    """
    val, test = splits.val, splits.test
    train_files = _used_files(splits.train, splits.trained_on())
    val_files, test_files = (None if split is None else _used_files(split) for split in (val, test))
    for kind, files in (("val", val_files), ("test", test_files)):
        shared = None if files is None else shared_file(train_files, files)
        if shared is not None:
            raise DataAmbiguous(
                f"the same file is in the train split and in the {kind} split: {shared[1]}",
                details=[f"in train  {shared[0]}"],
                cure="remove one of the two, or name other splits",
            )
    if val is None or test is None or val_files is None or test_files is None:
        return splits
    shared = shared_file(val_files, test_files)
    if shared is None:
        return splits
    if val.data == test.data:
        raise DataAmbiguous(
            f"the same file is in the val split and in the test split: {shared[1]}",
            details=[f"in val    {shared[0]}"],
            cure="remove one of the two, or name other splits",
        )
    splits.left_out.add("the test split, as --val-data uses its files; the first", str(shared[1]))
    return replace(splits, test=None)


def path_name(data: str) -> str:
    """Return what a data path is called in messages."""
    return Path(data).name or data
