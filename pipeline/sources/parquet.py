"""Parquet files in the layout of Hugging Face data sets: a column of encoded images and a column of labels.

How images are read at random, in how much memory and on how much disk: see kept/row_groups.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from deit_pipe.pipeline.errors import BadImage, DataCorrupt
from deit_pipe.pipeline.samples import KeyList, SampleTable
from deit_pipe.pipeline.sources.folder_shape import any_images_in_folders
from deit_pipe.pipeline.sources.found_splits import Columns, FoundData, FoundSplit
from deit_pipe.pipeline.sources.kept.decoded_rows import RowGroup
from deit_pipe.pipeline.sources.kept.row_groups import RowGroups
from deit_pipe.pipeline.sources.left_out import LeftOut, printable
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
        groups = [
            _group_of(head, i, number, self.image_column)
            for i, head in enumerate(heads)
            for number in range(head.num_row_groups)
        ]
        self.row_groups = RowGroups(self.files, self.image_column, groups)
        self._starts = np.concatenate([[0], np.cumsum([group.rows for group in groups], dtype=np.int64)])
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

    def read(self, sample: int) -> bytes:
        """Return the encoded image of a row."""
        group = int(np.searchsorted(self._starts, sample, side="right")) - 1
        image = self.row_groups.read(group, sample - int(self._starts[group]))
        if image is None:
            raise BadImage("the image column is empty")
        return image

    def measure_bytes(self) -> NDArray[np.int64]:
        """Return the length of every encoded image; reads all of them once, and keeps it for later runs."""
        return self.row_groups.lengths()


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
        opened = opened_from_files(table, split.files, table.labels_are)
        return replace(opened, lines=_unpacked_lines(table.row_groups))

    return open_split


def _unpacked_lines(groups: RowGroups) -> tuple[str, ...]:
    """Say what reading at random may leave on the disk, and where."""
    size = groups.unpacked_bytes
    if not size:
        return ()
    folder, much = groups.room(), f"up to {size / 1e9:.1f} GB" if size >= 1e8 else f"up to {size / 1e6:.0f} MB"
    if folder is None:
        return (f"no room to keep images unpacked ({much}): reading them at random is slow; pack them: deit-pipe pack",)
    return (f"images that are read again are kept unpacked, {much}, in {printable(str(folder))} (may be deleted)",)


def _group_of(head: Any, file: int, number: int, column: str) -> RowGroup:
    """Describe a row group: its rows, and the bytes of the images' column as the file says."""
    about = head.metadata.row_group(number)
    columns = (about.column(i) for i in range(about.num_columns))
    size = sum(one.total_uncompressed_size for one in columns if f"{one.path_in_schema}.".startswith(f"{column}."))
    return RowGroup(file, number, about.num_rows, size)


def _open_file(file: Path) -> Any:
    try:
        return parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)  # else Arrow's threads read it
    except (pa.ArrowInvalid, OSError) as error:
        raise DataCorrupt(f"not a Parquet file: {file}: {error}", cure="fetch it again") from error


def _read_column(head: Any, column: str, file: Path) -> Any:
    try:
        # By its name: asked for `a.b` Arrow also reads the field b of a. A pool of threads may hang an exit.
        return head.read([column], use_threads=False).column(column)
    except (pa.ArrowInvalid, OSError, KeyError) as error:  # KeyError: two of that name
        raise DataCorrupt(f"cannot read column {column} of {file}: {error}", cure="fetch the file again") from error
