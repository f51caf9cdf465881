"""The user's images as three splits: training sees `train` and nothing else, selection uses `val` only, `test` is for
the last word.

`open_data` is the one place where a data path becomes samples.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.data_choice import DEFAULT_VAL_FRACTION, DataChoice
from deit_pipe.pipeline.data_splits import DataSplits, NamedSplit, open_splits, path_name
from deit_pipe.pipeline.errors import DataAmbiguous
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.pipeline.selected_samples import SelectedSamples
from deit_pipe.pipeline.sources.exclude_list import digest_of
from deit_pipe.pipeline.sources.left_out import printable
from deit_pipe.pipeline.sources.split_names import is_exact
from deit_pipe.pipeline.subsets import Draw, draw_part, part_of

__all__ = ["FIELDS", "DataChoice", "DataSet", "open_data"]

FIELDS = tuple(field.name for field in fields(DataChoice))


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The splits of a data path.

    Attributes:
        data: the path or name that was opened.
        choice: what decided; `val_fraction` is a number here, never None.
        train: what training sees; labels -1 are unlabelled images.
        val: for selection only, or None; every image has a label.
        test: for neither training nor selection, or None; every image has a label.
        lines: what was found, for a person: files and images per split, what was left out and why.
    """

    data: str
    choice: DataChoice
    train: SampleTable
    val: SampleTable | None
    test: SampleTable | None
    lines: tuple[str, ...] = ()


def open_data(data: str, choice: DataChoice | None = None) -> DataSet:
    """Open all splits of `data`.

    In this order: the splits as they are found, other validation images, what is excluded, images held out, the part
    that is used, the part that keeps its labels. Each draw depends on `subset_seed` and on nothing the others drew.

    Raises:
        DataMissing: nothing there, no training images, or a split or column that was named is not there.
        DataAmbiguous: it can be understood in more than one way, or a file is in two splits.
        ChoiceError: a choice that this data has no use for.
        ClassMismatch: splits that do not have the same classes.
        DataCorrupt: files that are not what they say they are.
    """
    choice = choice or DataChoice()
    return data_set_of(data, choice, open_splits(data, choice))


def data_set_of(data: str, choice: DataChoice, splits: DataSplits) -> DataSet:
    """Draw what is held out, used and labelled of opened splits.

    Raises:
        DataAmbiguous: validation images twice.
    """
    choice = replace(choice, val_fraction=_val_fraction(data, choice, splits))
    whole = splits.train.opened.table
    train, held_out = _draw(whole, splits.trained_on(), choice)
    val = held_out if splits.val is None else splits.val.opened.table
    test = None if splits.test is None else splits.test.opened.table
    lines = [_train_line(splits, choice, train, held_out), _val_line(splits, held_out)]
    if splits.test is not None:
        lines.append(f"test {_size(splits.test)}, not used in training or selection")
    if choice.excluded:
        lines.append(_excluded_line(splits, choice))
    lines += splits.left_out.lines()
    lines += dict.fromkeys(line for one in (splits.train, splits.val, splits.test) if one for line in one.opened.lines)
    return DataSet(
        data=data,
        choice=choice,
        train=train,
        val=val,
        test=test,
        lines=tuple(f"{printable(path_name(data))}: {line}" for line in lines),
    )


def _val_fraction(data: str, choice: DataChoice, splits: DataSplits) -> float:
    if choice.val_fraction is None:
        alone = splits.val is None and splits.test is None
        return DEFAULT_VAL_FRACTION if alone else 0.0
    if choice.val_fraction and splits.val is not None:
        where = splits.val.data if choice.val_data else f"{data}, called {splits.val.name}"
        raise DataAmbiguous(
            f"validation images twice: held out (--val-fraction {choice.val_fraction}) and those of {where}",
            cure="leave --val-fraction out, or leave the other validation images out",
        )
    return float(choice.val_fraction)


def _draw(whole: SampleTable, there: NDArray[np.int64], choice: DataChoice) -> tuple[SampleTable, SampleTable | None]:
    """Return the training samples that are used of those `there` (positions), and those held out, if any."""
    labels, seed = whole.labels, choice.subset_seed
    used = there
    labelled = used[labels[used] >= 0]
    held_out: SampleTable | None = None
    # Every class keeps an image to train on.
    spare = len(labelled) - len(np.unique(labels[labelled]))
    if choice.val_fraction and spare > 0:
        count = min(max(part_of(len(labelled), choice.val_fraction), 1), spare)
        kept = draw_part(labels, labelled, len(labelled) - count, seed, Draw.TRAINED_ON)
        held = np.setdiff1d(labelled, kept)
        held_out = SelectedSamples(whole, positions=held)
        used = np.setdiff1d(used, held)
    if choice.fraction < 1:
        used = draw_part(labels, used, max(part_of(len(used), choice.fraction), 1), seed, Draw.USED)
    new_labels = labels[used]
    if choice.labelled_fraction < 1:
        labelled = used[new_labels >= 0]
        count = part_of(len(labelled), choice.labelled_fraction)
        if choice.labelled_fraction:
            count = max(count, 1)
        kept = draw_part(labels, labelled, count, seed, Draw.USED)
        new_labels = np.where(np.isin(used, kept), new_labels, -1)
    if len(used) == len(whole) and np.array_equal(new_labels, labels):
        return whole, held_out
    return SelectedSamples(whole, positions=used, labels=new_labels), held_out


def _train_line(splits: DataSplits, choice: DataChoice, train: SampleTable, held_out: SampleTable | None) -> str:
    unlabelled = len(train) - train.num_labelled
    about = [_files(splits.train)]
    if held_out is not None:
        about.append(f"{len(held_out):,} held out for val")
    if choice.fraction < 1:
        about.append(f"{choice.fraction:g} of {'them' if held_out is None else 'the others'} used")
    if choice.labelled_fraction < 1:
        about.append(f"{choice.labelled_fraction:g} of the labels kept")
    if len(about) > 1:
        about.append(f"seed {choice.subset_seed}")
    if splits.train.name and not is_exact(splits.train.name):
        about.append(f"called {printable(splits.train.name)}")
    without = f", {unlabelled:,} of them unlabelled" if unlabelled else ""
    return f"train {_images(train)} in {len(train.class_names):,} classes{without} ({', '.join(about)})"


def _excluded_line(splits: DataSplits, choice: DataChoice) -> str:
    counts = [f"{len(gone):,} of {kind}" for kind, gone in splits.excluded.items() if len(gone)]
    return f"excluded {', '.join(counts)} (list sha256 {digest_of(choice.excluded)[:12]})"


def _val_line(splits: DataSplits, held_out: SampleTable | None) -> str:
    if splits.val is None:
        return "val none" if held_out is None else f"val {_images(held_out)} held out of train"
    line = f"val {_size(splits.val)}"
    if splits.val.data != splits.train.data:
        line += f" of {printable(splits.val.data)}"
    name = splits.val.name
    return line + (f" (called {printable(name)})" if name and name != "val" else "")


def _size(split: NamedSplit) -> str:
    return f"{_images(split.opened.table)}{' in ' if split.opened.files else ', '}{_files(split)}"


def _images(table: SampleTable) -> str:
    return f"{len(table):,} image{'s' * (len(table) != 1)}"


def _files(split: NamedSplit) -> str:
    count = split.opened.files
    return f"{count:,} file{'s' * (count != 1)}" if count else "embedded"
