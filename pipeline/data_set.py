"""The user's images as three splits, and the choices that decide which images are in them.

`open_data` is the one place where a data path becomes samples: training sees `train` and nothing else, selection
uses `val` only, `test` is for the last word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from deit_pipe.pipeline.errors import DataMissing
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.pipeline.sources.open_samples import open_samples


@dataclass(frozen=True, kw_only=True)
class DataChoice:
    """Which images of a data path are used, and which of their labels. Recorded with a cache.

    Attributes:
        train_split: name of the training split as it is found on disk; None: by the usual names.
        val_split: name of the split that selection uses, such as `test`; None: by the usual names.
        image_column: of Parquet; None: by the usual names.
        label_column: likewise.
        val_data: another path whose images are the validation images; None: the data's own.
        val_fraction: part of the training images held out for validation, 0..1 exclusive of 1; None: 0.1 where the
            data has neither a validation nor a test split, else 0.
        fraction: part of the training images that is used, above 0 up to 1, stratified by class.
        labelled_fraction: part of the training images that keeps its label, 0..1, stratified; the others become
            unlabelled.
        subset_seed: of all three draws, 0..2**63-1.
    """

    train_split: str | None = None
    val_split: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    val_data: str | None = None
    val_fraction: float | None = None
    fraction: float = 1.0
    labelled_fraction: float = 1.0
    subset_seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values of every field."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`; absent fields keep their default, unknown ones are a TypeError."""
        return cls(**values)


FIELDS = tuple(field.name for field in fields(DataChoice))


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The splits of a data path.

    Attributes:
        data: the path or name that was opened.
        choice: what decided; `val_fraction` is a number here, never None.
        train: what training sees; labels -1 are unlabelled images.
        val: for selection only, or None.
        test: for neither training nor selection, or None.
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

    Raises:
        DataMissing: nothing there, or no training images.
    """
    choice = choice or DataChoice()
    train = open_samples(data, "train")
    try:
        val = open_samples(data, "val")
    except DataMissing:
        val = None
    return DataSet(data=data, choice=choice, train=train, val=val, test=None)
