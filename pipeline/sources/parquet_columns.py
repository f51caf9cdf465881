"""Which columns of Parquet files are the images and the labels, and what the labels mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
from numpy.typing import NDArray

from deit_pipe.pipeline.errors import ClassMismatch, DataAmbiguous, DataCorrupt, DataMissing
from deit_pipe.pipeline.sources.left_out import listed
from deit_pipe.pipeline.sources.opened_split import LabelsAre


@dataclass(frozen=True)
class ColumnRule:
    """How a column is found.

    Attributes:
        what: for messages, and the option that names one.
        names: usual ones. `coarse_label` is none: beside `fine_label` it says something else (CIFAR-100).
        can_hold: whether a column of this Arrow type may be it.
    """

    what: str
    names: tuple[str, ...]
    can_hold: Callable[[Any], bool]


class ReadLabels(NamedTuple):
    """The labels of all rows, int64 [N], -1 for none, and what they mean."""

    labels: NDArray[np.int64]
    class_names: list[str]
    labels_are: LabelsAre


def _holds_images(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(_is_bytes(field.type) for field in kind if field.name == "bytes")
    return _is_bytes(kind)


def _is_bytes(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _holds_labels(kind: Any) -> bool:
    return not pa.types.is_nested(kind)


NO_LABEL = ("", "-1")  # as words: what a missing label, or the number for one, is written as
IMAGES = ColumnRule("image", ("image", "img", "jpg", "jpeg", "png", "webp"), _holds_images)
LABELS = ColumnRule("label", ("label", "labels", "fine_label", "target", "class"), _holds_labels)


def choose_column(schemas: Sequence[Any], files: Sequence[Path], asked: str | None, rule: ColumnRule) -> str:
    """Return the name of the column, the same in all files.

    Raises:
        DataMissing: the one asked for is not in some file.
        DataAmbiguous: several usual names.
        DataCorrupt: no usual name in some file, or a column that cannot hold images or labels.
    """
    there = list(schemas[0].names)
    option = f"--{rule.what}-column NAME"
    usable = [name for name in there if rule.can_hold(schemas[0].field(name).type)] if _unique(there) else there
    meant = [asked] if asked is not None else [name for name in usable if name in rule.names]
    if len(meant) > 1:
        raise DataAmbiguous(
            f"which column of {files[0]} holds the {rule.what}s?",
            details=[f"found     {listed(meant)}"],
            cure=f"choose one: {option}",
        )
    for schema, file in zip(schemas, files, strict=True):
        if not meant or meant[0] not in schema.names:
            problem = DataCorrupt if asked is None else DataMissing
            raise problem(
                f"no {rule.what} column {f'{meant[0]} ' if meant else ''}in {file}",
                expected="that column" if meant else f"one of {listed(rule.names)}",
                got=listed(schema.names),
                cure=f"name it: {option}",
            )
        kind = schema.field(meant[0]).type
        if not rule.can_hold(kind):
            raise DataCorrupt(
                f"column {meant[0]} of {file} cannot be {rule.what}s",
                expected="encoded images" if rule is IMAGES else "one label a row",
                got=kind,
                cure=f"name another column: {option}",
            )
    return meant[0]


def has_labels(schemas: Sequence[Any]) -> bool:
    """Tell whether any file has a column that is usually the labels."""
    return any(name in LABELS.names for schema in schemas for name in schema.names)


def read_labels(columns: Sequence[Any], schemas: Sequence[Any], name: str, files: Sequence[Path]) -> ReadLabels:
    """Read the labels of all files; a null or the number -1 is an unlabelled image.

    Raises:
        ClassMismatch: files whose labels mean different things.
        DataCorrupt: labels that do not fit the declared classes.
    """
    columns = [_whole(column) for column in columns]
    numbers = [bool(pa.types.is_integer(column.type)) for column in columns]
    declared = [_declared_names(schema, name) for schema in schemas]
    for file, is_number, names in zip(files, numbers, declared, strict=True):
        if is_number != numbers[0] or (is_number and names != declared[0]):
            raise ClassMismatch(
                f"the labels of {file} do not mean the same as those of {files[0]}",
                expected=_meaning(numbers[0], declared[0]),
                got=_meaning(is_number, names),
                cure="write both files with the same classes",
            )
    if numbers[0]:
        return _numbers(columns, declared[0], name)
    return _words(columns)


def _numbers(columns: Sequence[Any], declared: list[str] | None, name: str) -> ReadLabels:
    try:
        filled = [compute.fill_null(column.cast(pa.int64()), -1).to_numpy() for column in columns]
    except pa.ArrowInvalid as error:
        raise DataCorrupt(f"labels of column {name} are no class numbers: {error}", cure="correct them") from error
    labels = np.concatenate([np.zeros(0, np.int64), *filled])
    classes = declared or [str(i) for i in range(int(labels.max(initial=-1)) + 1)]
    if len(labels) and not -1 <= labels.min() <= labels.max() < len(classes):
        raise DataCorrupt(
            f"labels {labels.min()}..{labels.max()} do not fit {len(classes)} classes",
            expected=f"0..{len(classes) - 1}, or -1 or null for unlabelled images",
            cure=f"correct column {name}",
        )
    return ReadLabels(labels, classes, "named numbers" if declared else "numbers")


def _whole(column: Any) -> Any:
    """A column of floats that are whole numbers or missing as integers: what pandas makes of integers with gaps."""
    if not pa.types.is_floating(column.type):
        return column
    known = compute.if_else(compute.is_nan(column), None, column)
    try:
        return known.cast(pa.int64())
    except pa.ArrowInvalid:
        return column


def _words(columns: Sequence[Any]) -> ReadLabels:
    # A missing number in a column of floats is NaN, which is no word.
    words = [
        None if word is None or word != word or str(word) in NO_LABEL else str(word)
        for column in columns
        for word in column.to_pylist()
    ]
    classes = sorted({word for word in words if word is not None})
    number: dict[str | None, int] = {word: i for i, word in enumerate(classes)}
    number[None] = -1
    labels = np.asarray([number[word] for word in words], dtype=np.int64)
    return ReadLabels(labels, classes, "words")


def _unique(names: Sequence[str]) -> bool:
    return len(set(names)) == len(names)


def _meaning(is_number: bool, names: list[str] | None) -> str:
    if not is_number:
        return "words"
    return f"numbers of {listed(names)}" if names else "numbers without names"


def _declared_names(schema: Any, column: str) -> list[str] | None:
    """Return the class names that the `datasets` library wrote into the file's metadata."""
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])
        names = about["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names]
