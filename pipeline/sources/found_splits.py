"""The splits that were found in some data, and which of them are train, val and test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from deit_pipe.pipeline.errors import DataAmbiguous, DataMissing
from deit_pipe.pipeline.sources.left_out import LeftOut, listed
from deit_pipe.pipeline.sources.opened_split import OpenedSplit
from deit_pipe.pipeline.sources.split_names import KEYWORDS, KINDS, Kind, is_exact

WHOLE = "."  # the name of class folders as a whole, whatever they are called
NO_WORD = "without a split's word (train, val, test) in the name"
NOT_CHOSEN = "splits that are not used (--train-split NAME or --val-split NAME takes one)"


@dataclass(frozen=True)
class Columns:
    """How a split is read: which columns of Parquet files, and what is refused.

    Attributes:
        image: as the user named it; None: by the usual names.
        label: likewise.
        must_have_labels: False: without any such column the images are unlabelled, as is usual of test splits.
        empty_classes: True: a class folder without images is kept, for a command that lists what is wrong.
    """

    image: str | None = None
    label: str | None = None
    must_have_labels: bool = True
    empty_classes: bool = False


@dataclass(frozen=True)
class FoundSplit:
    """A split as it is on disk.

    Attributes:
        name: as the files or the folder are called.
        kinds: what the name speaks of: normally one kind, none without a split's word.
        files: in order; a class folder's is the folder.
    """

    name: str
    kinds: frozenset[Kind]
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class FoundData:
    """What is at a data path.

    Attributes:
        path: as given.
        source: what it is, for messages.
        splits: in order of their names.
        open_split: opens one.
        left_out: what was set aside on the way.
        unclear: the refusal to be raised unless the user names the training split.
    """

    path: str
    source: str
    splits: tuple[FoundSplit, ...]
    open_split: Callable[[FoundSplit, Columns], OpenedSplit]
    left_out: LeftOut = field(default_factory=LeftOut)
    unclear: DataAmbiguous | None = None


@dataclass(frozen=True)
class ChosenSplits:
    """Which found split is which; None: there is none."""

    train: FoundSplit | None
    val: FoundSplit | None
    test: FoundSplit | None

    def of(self, kind: Kind) -> FoundSplit | None:
        """Return the split of a kind."""
        return {"train": self.train, "val": self.val, "test": self.test}[kind]


def choose_splits(
    found: FoundData,
    train_split: str | None = None,
    val_split: str | None = None,
    *,
    own_val: bool = True,
) -> ChosenSplits:
    """Decide which split is train, val and test, and add the others to what is left out.

    Args:
        found: the data.
        train_split: name of the training split as found; None: by the usual words.
        val_split: likewise of the validation split.
        own_val: False where validation images come from elsewhere.

    Raises:
        DataAmbiguous: several splits may be meant, or one split was named twice.
        DataMissing: a split that was named is not there.
    """
    if found.unclear is not None and train_split is None:
        raise found.unclear
    taken: dict[Kind, FoundSplit | None] = {}
    if train_split is not None:
        taken["train"] = _named(found, train_split, "--train-split")
    if val_split is not None:
        taken["val"] = _named(found, val_split, "--val-split")
    if (whole := taken.get("train")) is not None and whole.name == WHOLE and val_split is None:
        return ChosenSplits(whole, None, None)  # what is called test is a class of it
    if not own_val:
        taken.setdefault("val", None)
    for kind in KINDS:
        if kind not in taken:
            taken[kind] = _usual(found, kind, [split for split in taken.values() if split is not None])
    val = taken["val"]
    if val is not None and val == (taken["train"] or _usual(found, "train", [])):
        raise DataAmbiguous(
            f"the split {val.name} of {found.path} cannot be both train and val",
            details=[f"found     {_names(found.splits)}"],
            cure="name two splits: --train-split NAME --val-split NAME",
        )
    _count_rest(found, [split for split in taken.values() if split is not None])
    return ChosenSplits(taken["train"], taken["val"], taken["test"])


def validation_splits(found: FoundData, val_split: str | None = None) -> list[FoundSplit]:
    """Return what may serve as validation images in data that is for nothing else, the best first.

    That is the split that was named; else its val split, its test split, all of it.

    Raises:
        DataAmbiguous: several splits may be meant.
        DataMissing: the split that was named is not there.
    """
    if val_split is not None:
        return [_named(found, val_split, "--val-split")]
    if found.unclear is not None:
        raise found.unclear
    usual = (_usual(found, kind, []) for kind in ("val", "test", "train"))
    return [split for split in usual if split is not None]


def _named(found: FoundData, name: str, option: str) -> FoundSplit:
    for split in found.splits:
        if split.name == name:
            return split
    kind = KEYWORDS.get(name.lower())
    meant = _usual(found, kind, []) if kind else None
    if meant is None:
        raise DataMissing(
            f"no split {name} in {found.path}",
            details=[f"found     {_names(found.splits)}"],
            cure=f"choose one: {option} NAME",
        )
    return meant


def _usual(found: FoundData, kind: Kind, taken: list[FoundSplit]) -> FoundSplit | None:
    """Return the split that the usual words mean, None where there is none or it is taken."""
    if not any(split.kinds for split in found.splits):
        rest = [split for split in found.splits if split not in taken]
        return _together(found, rest) if kind == "train" and rest else None
    meant = [split for split in found.splits if kind in split.kinds]
    exact = [split for split in meant if is_exact(split.name)]
    # Where there is an exact name, what is called otherwise is no second choice.
    free = [split for split in exact or meant if split not in taken]
    if len(free) > 1 or any(len(split.kinds) > 1 for split in free):
        option = "train" if kind == "train" else "val"
        raise DataAmbiguous(
            f"which images of {found.path} are the {kind} split?",
            details=[f"found     {_names(free)}"],
            cure=f"choose one: --{option}-split NAME"
            + ("; or move all but one test split out of the data" if kind == "test" else ""),
        )
    return free[0] if free else None


def _together(found: FoundData, splits: list[FoundSplit]) -> FoundSplit:
    """Return files without any split's word as one split."""
    if len(splits) == 1:
        return splits[0]
    return FoundSplit("", frozenset(), tuple(file for split in splits for file in split.files))


def _count_rest(found: FoundData, taken: list[FoundSplit]) -> None:
    used = {file for split in taken for file in split.files}
    for split in found.splits:
        if split not in taken and split.name != WHOLE and used.isdisjoint(split.files):
            found.left_out.add(NOT_CHOSEN if split.kinds else NO_WORD, split.name)


def _names(splits: Iterable[FoundSplit]) -> str:
    return listed(split.name for split in splits) or "none"
