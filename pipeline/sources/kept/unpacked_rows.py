"""One row group's images, unpacked into a file so that each is read from its place.

The images one after the other, then a table of (start, length, CRC-32) of each, then its length and CRC-32. An image
that is null has the length -1. Nothing of it is trusted: every image is compared with its CRC-32 when it is read.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_TAIL = struct.Struct("<8sQI")  # magic, rows, CRC-32 of the table
_MAGIC = b"dp-rows1"
_ROW = np.dtype([("start", "<i8"), ("length", "<i8"), ("crc", "<u4")])
_NULL = -1

RowTable = NDArray[np.void]


class Damaged(Exception):
    """Not what was written; caught where it is made again."""


def write_rows(file: Path, images: Iterable[bytes | memoryview | None]) -> None:
    """Write the images of a row group, all or nothing.

    Raises:
        OSError: it cannot be written; nothing is left.
    """
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as opened:
            rows, place = [], 0
            for image in images:
                if image is None:
                    rows.append((place, _NULL, 0))
                    continue
                opened.write(image)
                rows.append((place, len(image), zlib.crc32(image)))
                place += len(image)
            table = np.array(rows, dtype=_ROW).tobytes()
            opened.write(table + _TAIL.pack(_MAGIC, len(rows), zlib.crc32(table)))
        Path(name).replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def read_table(file: Path, rows: int) -> RowTable:
    """Read the table of a file of so many rows, [rows] of start, length (-1: null) and crc.

    Raises:
        Damaged: it is another, or not whole.
        OSError: not there.
    """
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        long = rows * _ROW.itemsize + _TAIL.size
        if size < long:
            raise Damaged(file)
        opened.seek(size - long)
        data = opened.read(long)
    magic, count, crc = _TAIL.unpack(data[-_TAIL.size :])
    table = data[: -_TAIL.size]
    if magic != _MAGIC or count != rows or crc != zlib.crc32(table):
        raise Damaged(file)
    return np.frombuffer(table, dtype=_ROW)


def read_image(file: Path, table: RowTable, row: int) -> bytes | None:
    """Read one image, None for a null.

    Raises:
        Damaged: its bytes are others.
        OSError: not there.
    """
    start, length, crc = table[row].item()
    if length == _NULL:
        return None
    with file.open("rb", buffering=0) as opened:
        opened.seek(start)
        image = opened.read(length)
    if len(image) != length or zlib.crc32(image) != crc:
        raise Damaged(file)
    return image


def lengths_of(table: RowTable) -> NDArray[np.int64]:
    """Length of every image, int64, 0 for a null."""
    lengths: NDArray[np.int64] = np.maximum(table["length"], 0).astype(np.int64)
    return lengths
