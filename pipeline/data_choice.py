"""Which images of a data path are used, and which of their labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from deit_pipe.pipeline.errors import ChoiceError
from deit_pipe.pipeline.plan import MAX_SEED

# Held out where the data has neither a validation nor a test split.
DEFAULT_VAL_FRACTION = 0.1
# Bytes of the names of excluded images: a cache's manifest, which records them, is read up to twice that.
MOST_EXCLUDED = 2_000_000


@dataclass(frozen=True, kw_only=True)
class DataChoice:
    """Which images of a data path are used, and which of their labels. Recorded with a cache.

    Attributes:
        train_split: name of the training split as it is found on disk; None: by the usual names.
        val_split: name of the split that selection uses, such as `test`; None: by the usual names.
        image_column: of Parquet; None: by the usual names.
        label_column: likewise.
        val_data: another path whose images are the validation images; None: the data's own.
        val_fraction: part of the labelled training images held out for validation, 0..1 exclusive of 1; None: 0.1
            where the data has neither a validation nor a test split, else 0.
        fraction: part of the training images that is used, above 0 up to 1, stratified by class.
        labelled_fraction: part of the labelled training images that keeps its label, 0..1, stratified; the others
            become unlabelled.
        subset_seed: of all three draws, 0..2**63-1.
        exclude: the file that named the images that are left away; where it was, no part of the choice.
        excluded: their names, of all splits, as `exclude_list` reads them; so the file is not needed again.
        labels: a table of labels for a folder of images; None: the one in the folder, where there is one.

    Raises:
        ChoiceError: a value out of its range.
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
    exclude: str | None = field(default=None, compare=False)
    excluded: tuple[str, ...] = ()
    labels: str | None = None

    def __post_init__(self) -> None:
        for name in ("train_split", "val_split", "image_column", "label_column", "val_data", "exclude", "labels"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value):
                raise ChoiceError(f"{_option(name)} {value!r} is no name: expected a text that is not empty")
        if self.val_fraction is not None:
            _check_part("val_fraction", self.val_fraction, "0 <= part < 1", lambda part: 0 <= part < 1)
        _check_part("fraction", self.fraction, "0 < part <= 1", lambda part: 0 < part <= 1)
        _check_part("labelled_fraction", self.labelled_fraction, "0 <= part <= 1", lambda part: 0 <= part <= 1)
        if type(self.subset_seed) is not int or not 0 <= self.subset_seed <= MAX_SEED:
            raise ChoiceError(f"{_option('subset_seed')} {self.subset_seed!r} is not in 0..{MAX_SEED}")
        names: object = self.excluded
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            raise ChoiceError(f"the excluded images are no list of names: {names!r}")
        object.__setattr__(self, "excluded", tuple(sorted(set(self.excluded))))
        if sum(len(json.dumps(name)) for name in self.excluded) > MOST_EXCLUDED:
            raise ChoiceError(
                f"{len(self.excluded):,} excluded images are too many to be recorded with a cache",
                expected=f"names of {MOST_EXCLUDED / 1e6:g} MB together",
                cure="move such images out of the data",
            )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values of every field; what came later only where it says something, as older programs wrote."""
        values = asdict(self)
        if self.labels is None:
            del values["labels"]
        if not self.excluded:
            del values["exclude"], values["excluded"]
        else:
            values["excluded"] = list(self.excluded)
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`; absent fields keep their default, unknown ones are a TypeError."""
        return cls(**values)


def _check_part(name: str, value: object, expected: str, fits: Callable[[float], bool]) -> None:
    # NaN fits no range.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not fits(value):
        raise ChoiceError(f"{_option(name)} {value} is out of range: {expected}")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
