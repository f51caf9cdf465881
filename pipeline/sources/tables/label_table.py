"""Tables that say which image has which label: CSV, or Parquet without the images.

Columns are found by their usual names: the image's file, its label, and, where there is one, its split. Rows are in the
table's order.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as parquet

from deit_pipe.pipeline.errors import DataAmbiguous, DataCorrupt, DataMissing
from deit_pipe.pipeline.sources.folder_shape import is_image
from deit_pipe.pipeline.sources.left_out import listed, printable
from deit_pipe.pipeline.sources.parquet_columns import LABELS

CSV_SUFFIXES = (".csv", ".tsv")
PARQUET_SUFFIX = ".parquet"
MOST_BYTES = 2 << 30
SEPARATORS = ",;\t"
FILE_NAMES = (
    "file",
    "file_name",
    "filename",
    "path",
    "file_path",
    "filepath",
    "image",
    "image_path",
    "img",
    "id",
    "image_id",
)
LABEL_NAMES = (*LABELS.names, "class_name", "category", "breed", "species")
SPLIT_NAMES = ("split", "subset", "partition")


class LabelRow(NamedTuple):
    """One row: the image's file as it is written, its label (None: unlabelled), its split ("": no such column)."""

    file: str
    label: Any
    split: str


def read_label_table(table: Path, file_column: str | None, label_column: str | None) -> list[LabelRow]:
    """Read a table.

    Args:
        table: a .csv, .tsv or .parquet file.
        file_column: name of the column of files; None: by the usual names.
        label_column: likewise of the labels.

    Raises:
        DataMissing: no such file or column, or no rows.
        DataAmbiguous: several columns may be meant.
        DataCorrupt: not a table.
    """
    if not table.is_file():
        raise DataMissing(f"no table of labels {table}", cure="put it there, or name another: --labels FILE")
    suffix = table.suffix.lower()
    if suffix in CSV_SUFFIXES:
        names, rows = _read_csv(table)
    elif suffix == PARQUET_SUFFIX:
        names, rows = _read_parquet(table)
    else:
        raise DataCorrupt(
            f"not a table of labels: {table}", expected=".csv, .tsv or .parquet", cure="write one of these"
        )
    if len(set(names)) < len(names):
        raise DataAmbiguous(
            f"two columns of {table} have one name", details=[f"found     {listed(names)}"], cure="rename one"
        )
    file = _column(table, names, file_column, FILE_NAMES, "file", "--image-column")
    label = _column(table, names, label_column, LABEL_NAMES, "label", "--label-column", but=file)
    splits = [i for i, name in enumerate(names) if name.lower() in SPLIT_NAMES]
    found: list[LabelRow] = []
    for row in rows:
        if row[file] in (None, ""):
            raise DataCorrupt(f"row {len(found) + 1} of {table} names no file", cure="correct the table")
        split = row[splits[0]] if splits else ""
        found.append(LabelRow(str(row[file]), row[label], "" if split is None else str(split)))
    if not found:
        raise DataMissing(f"no rows in {table}", expected="one row per image", cure="give another table: --labels FILE")
    return found


def _column(
    table: Path,
    names: Sequence[str],
    asked: str | None,
    usual: Sequence[str],
    what: str,
    option: str,
    but: int | None = None,
) -> int:
    """Return the place of a column: the one that was asked for, else the only one with a usual name."""
    if asked is not None:
        if asked not in names:
            raise DataMissing(
                f"no column {printable(asked)} in {table}",
                got=listed(names),
                cure=f"name the {what} column: {option} NAME",
            )
        return names.index(asked)
    meant = [i for i, name in enumerate(names) if name.strip().lower() in usual and i != but]
    if len(meant) > 1:
        raise DataAmbiguous(
            f"which column of {table} is the {what}?",
            details=[f"found     {listed(names[i] for i in meant)}"],
            cure=f"choose one: {option} NAME",
        )
    if not meant:
        raise DataMissing(
            f"no {what} column in {table}",
            expected=f"one of {listed(usual, 6)}",
            got=listed(names),
            cure=f"name it: {option} NAME",
        )
    return meant[0]


def _read_csv(table: Path) -> tuple[list[str], list[list[Any]]]:
    try:
        if table.stat().st_size > MOST_BYTES:
            raise DataCorrupt(f"too large for a table of labels: {table}", cure="write it as Parquet")
        text = table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataCorrupt(f"not UTF-8: {table}: byte {error.start}", cure="save the table as UTF-8") from error
    except OSError as error:
        raise DataMissing(f"cannot read {table}: {error.strerror}", cure="make it readable") from error
    head = text.partition("\n")[0]
    separator = max(SEPARATORS, key=head.count)
    try:
        lines = list(csv.reader(text.splitlines(keepends=True), delimiter=separator, strict=True))
    except csv.Error as error:
        raise DataCorrupt(f"not CSV: {table}: {error}", cure="write the table again") from error
    lines = [line for line in lines if line]
    if not lines:
        raise DataMissing(
            f"no rows in {table}", expected="a line of names, then one row per image", cure="--labels FILE"
        )
    names, rows = [name.strip() for name in lines[0]], lines[1:]
    if len(names) == 2 and is_image(names[0]):  # no line of names
        names, rows = ["file", "label"], lines
    for number, row in enumerate(rows, 2):
        if len(row) != len(names):
            raise DataCorrupt(
                f"row {number} of {table} has another number of fields than the first line",
                expected=f"{len(names)}: {listed(names)}",
                got=f"{len(row)}: {listed(row)}",
                cure="quote fields that hold a separator",
            )
    return names, rows


def _read_parquet(table: Path) -> tuple[list[str], list[list[Any]]]:
    open_file: Callable[..., Any] = parquet.ParquetFile
    try:
        if table.stat().st_size > MOST_BYTES:
            raise DataCorrupt(f"too large for a table of labels: {table}", cure="leave columns out of it")
        # Without a pool of threads, which may hang a process at its end.
        columns = open_file(table, buffer_size=1 << 20, pre_buffer=False).read(use_threads=False)
        names = list(columns.schema.names)
        kept = [name for name in names if not pa.types.is_nested(columns.schema.field(name).type)]
        values = [columns.column(name).to_pylist() for name in kept] if len(set(names)) == len(names) else []
    except (pa.ArrowInvalid, OSError) as error:
        raise DataCorrupt(f"not a Parquet file: {table}: {error}", cure="write the table again") from error
    return (kept if values else names), [list(row) for row in zip(*values, strict=True)]
