"""Parquet files in the layout of Hugging Face data sets: a column of encoded images and a column of labels.

Rows are read in random order but Parquet can only decode whole row groups, so the last ones are kept in
memory. A set that does not fit in `KEPT_BYTES` per process should be packed first (see packed.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from deit_pipe.pipeline.errors import BadImage, DataCorrupt
from deit_pipe.pipeline.samples import KeyList, SampleTable
from deit_pipe.pipeline.sources.folder_shape import any_images_in_folders
from deit_pipe.pipeline.sources.found_splits import Columns, FoundData, FoundSplit
from deit_pipe.pipeline.sources.left_out import LeftOut
from deit_pipe.pipeline.sources.opened_split import OpenedSplit, opened_from_files
from deit_pipe.pipeline.sources.parquet_columns import (
    IMAGES,
    LABELS,
    ReadLabels,
    choose_column,
    has_labels,
    read_labels,
)
from deit_pipe.pipeline.sources.parquet_splits import DEPTH, find_files, split_files, tables_of_labels

KEPT_BYTES = 512 << 20
SUFFIX = ".parquet"


class ParquetSamples(SampleTable):
    """Samples of one split, in the order of the files' names and rows.

    Attributes:
        files: what they are in.
        image_column: name of the column of encoded images.
        labels_are: what stands in the column of labels.
    """

    def __init__(self, name: str, files: Sequence[Path], columns: Columns) -> None:
        """Read all labels, and no image.

        Raises:
            DataAmbiguous: several columns may be meant.
            DataMissing: no such column.
            DataCorrupt: unreadable, or labels that are none.
            ClassMismatch: files that name their classes differently.
        """
        heads = [_open_file(file) for file in files]
        schemas = [head.schema_arrow for head in heads]
        self.files = tuple(files)
        self.image_column = choose_column(schemas, self.files, columns.image, IMAGES)
        groups = [(i, group) for i, head in enumerate(heads) for group in range(head.num_row_groups)]
        rows = [heads[i].metadata.row_group(group).num_rows for i, group in groups]
        self._groups = groups
        self._starts = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        self._reading = Lock()  # a row group is decoded once, whoever of several threads asks for it
        self._open: dict[int, Any] = {}
        self._kept: OrderedDict[int, Any] = OrderedDict()
        if columns.label is None and not columns.must_have_labels and not has_labels(schemas):
            read = ReadLabels(np.full(int(self._starts[-1]), -1, dtype=np.int64), [], "words")
        else:
            column = choose_column(schemas, self.files, columns.label, LABELS)
            parts = [_read_column(head, column, file) for head, file in zip(heads, files, strict=True)]
            read = read_labels(parts, schemas, column, self.files)
        if len(read.labels) != self._starts[-1]:
            raise DataCorrupt(
                f"the column of labels in {name} has another length than the file says",
                expected=f"{self._starts[-1]} labels",
                got=len(read.labels),
                cure="fetch the data again",
            )
        self.labels_are = read.labels_are
        count = len(read.labels)
        super().__init__(name, KeyList(f"row {row}" for row in range(count)), read.labels, read.class_names)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}, "_kept": OrderedDict(), "_reading": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _reading=Lock())

    def read(self, sample: int) -> bytes:
        """Return the encoded image of a row."""
        group = int(np.searchsorted(self._starts, sample, side="right")) - 1
        row = sample - int(self._starts[group])
        with self._reading:
            images = self._images(group)
        if row >= len(images):
            raise BadImage("the image column is shorter than the file says")
        value = images[row].as_py()
        if value is None:
            raise BadImage("the image column is empty")
        return bytes(value)

    def measure_bytes(self) -> NDArray[np.int64]:
        """Return the length of every encoded image; reads all of them once."""
        lengths = [compute.binary_length(self._images(group)) for group in range(len(self._groups))]
        return np.concatenate([compute.fill_null(part, 0).to_numpy(False) for part in lengths]).astype(np.int64)

    def _images(self, group: int) -> Any:
        """Return the encoded images of a row group, a binary Arrow array."""
        kept = self._kept.get(group)
        if kept is None:
            file, number = self._groups[group]
            if file not in self._open:
                self._open[file] = parquet.ParquetFile(self.files[file], memory_map=True)
            column = self._open[file].read_row_group(number, columns=[self.image_column]).column(0)
            column = column.combine_chunks()
            kept = compute.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column
            self._kept[group] = kept
            while len(self._kept) > 1 and sum(part.nbytes for part in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(group)
        return kept


def find_parquet_splits(data: str, path: Path) -> FoundData | None:
    """Find the splits of Parquet files; None where there are none."""
    left_out = LeftOut()
    if path.is_file():
        if path.suffix.lower() != SUFFIX:
            return None
        return FoundData(data, "Parquet", (FoundSplit(path.stem, frozenset(), (path,)),), _opener(data))
    files = find_files(path, SUFFIX, DEPTH, left_out)
    tables = tables_of_labels(files)
    if not files or (len(tables) == len(files) and any_images_in_folders(path)):
        return None
    return FoundData(data, "Parquet", tuple(split_files(data, path, files)), _opener(data), left_out)


def _opener(data: str) -> Callable[[FoundSplit, Columns], OpenedSplit]:
    def open_split(split: FoundSplit, columns: Columns) -> OpenedSplit:
        table = ParquetSamples(data, split.files, columns)
        return opened_from_files(table, split.files, table.labels_are)

    return open_split


def _open_file(file: Path) -> Any:
    try:
        return parquet.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataCorrupt(f"not a Parquet file: {file}: {error}", cure="fetch it again") from error


def _read_column(head: Any, column: str, file: Path) -> Any:
    try:
        return head.read([column]).column(0)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataCorrupt(f"cannot read column {column} of {file}: {error}", cure="fetch the file again") from error
