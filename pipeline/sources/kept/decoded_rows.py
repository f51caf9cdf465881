"""Decode the images of one Parquet row group, a few at a time; a stranger's file cannot make them take any memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as parquet

from deit_pipe.pipeline.errors import DataCorrupt

AT_ONCE = 8 << 20  # bytes of images that are decoded together
# What a few bytes can be made to unpack to: more than this many times what the file says is refused.
MOST_TIMES, MOST_MORE = 16, 64 << 20


class RowGroup(NamedTuple):
    """A row group: the place of its file, its number there, its rows, and its bytes as the file says."""

    file: int
    number: int
    rows: int
    size: int


def open_for_rows(file: Path) -> Any:
    """Open a Parquet file so that it is read in pieces.

    Raises:
        DataCorrupt: it cannot be opened.
    """
    try:
        return parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise DataCorrupt(f"cannot read {file}: {error}", cure="put the file back, or fetch it again") from error


def decoded_rows(opened: Any, column: str, group: RowGroup, file: Path) -> Iterator[Any]:
    """Yield the images of a row group as binary Arrow arrays.

    Args:
        opened: what `open_for_rows` returned.
        column: of bytes, or of structs with a field `bytes`.
        group: which one.
        file: for messages.

    Raises:
        DataCorrupt: it cannot be decoded, holds other rows than it says, or unpacks to far more.
    """
    where = f"row group {group.number} of {file}"
    most, size, rows = MOST_TIMES * group.size + MOST_MORE, 0, 0
    at_once = max(1, min(1024, AT_ONCE * group.rows // max(group.size, 1)))
    try:
        for batch in opened.iter_batches(at_once, row_groups=[group.number], columns=[column], use_threads=False):
            images = batch.column(column)  # by its name: for `a.b` Arrow also reads the field b of a
            part = compute.struct_field(images, "bytes") if pa.types.is_struct(images.type) else images
            size, rows = size + part.nbytes, rows + len(part)
            if size > most:
                raise DataCorrupt(
                    f"{where} unpacks to more than {MOST_TIMES} times the {group.size:,} bytes that the file says",
                    cure="write the file again, without a dictionary of images",
                )
            yield part
    except (pa.ArrowException, OSError) as error:
        raise DataCorrupt(f"cannot read {where}: {error}", cure="fetch the file again") from error
    if rows != group.rows:
        raise DataCorrupt(f"{where} holds {rows:,} images, and says {group.rows:,}", cure="fetch the file again")


def as_bytes(part: Any) -> Iterator[memoryview | None]:
    """Yield the images of an array without a copy, None for a null."""
    for value in part:
        buffer = value.as_buffer()
        yield None if buffer is None else memoryview(buffer)
