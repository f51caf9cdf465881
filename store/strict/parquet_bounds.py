"""How much a Parquet file decodes to, found before anything is decoded: a few kilobytes can become gigabytes.

The footer cannot be believed alone: the reader allocates what the header of each page says, so these are walked.
"""

from collections.abc import Iterator
from typing import Any

ALWAYS = 16_000_000  # bytes that any file may decode to
PER_BYTE = 512  # and for each byte of it; real sample tables stay below 80
ROWS_ALWAYS = 1 << 20
ROWS_PER_BYTE = 8  # real sample tables have less than 1

_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 12
_VARINTS = (4, 5, 6)
_MOST_FIELDS = 1000


def most_rows(size: int) -> int:
    """How many rows a file of this size may have."""
    return ROWS_ALWAYS + ROWS_PER_BYTE * size


def most_decoded(size: int) -> int:
    """How many bytes a file of this size may decode to."""
    return ALWAYS + PER_BYTE * size


def check_decoded_size(data: bytes, metadata: Any) -> None:
    """Refuse a file that decodes to much more than it is long.

    Args:
        data: the file.
        metadata: its footer, as pyarrow read it.

    Raises:
        ValueError: too many rows, too many bytes, or pages that lie elsewhere than the footer says.
    """
    if metadata.num_rows > most_rows(len(data)):
        raise ValueError(f"{metadata.num_rows:,} rows in {len(data):,} bytes")
    total = 0
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            first = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
            total += sum(_page_sizes(data, int(first), int(chunk.total_compressed_size)))
            if total > most_decoded(len(data)):
                raise ValueError(f"{len(data):,} bytes decode to more than {most_decoded(len(data)):,}")


def _page_sizes(data: bytes, start: int, length: int) -> Iterator[int]:
    """Bytes that each page of a column decodes to."""
    if start < 0 or length < 0 or start + length > len(data):
        raise ValueError("pages outside of the file")
    at, stop = start, start + length
    while at < stop:
        header = _Compact(data, at)
        fields = header.struct(0)
        decoded, stored = fields.get(2, -1), fields.get(3, -1)
        if decoded < 0 or stored < 0:
            raise ValueError("a page without sizes")
        yield decoded
        at = header.at + stored


class _Compact:
    """Thrift's compact protocol, as far as page headers need it: integer fields are kept, the rest is passed over."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def _byte(self) -> int:
        if self.at >= len(self.data):
            raise ValueError("a page header that does not end")
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value = 0
        for place in range(10):
            byte = self._byte()
            value |= (byte & 127) << (7 * place)
            if byte < 128:
                return value
        raise ValueError("a number that does not end")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def struct(self, depth: int) -> dict[int, int]:
        """Integer fields of a struct by their number."""
        if depth > 8:
            raise ValueError("a page header nested too deep")
        found: dict[int, int] = {}
        number = 0
        for _ in range(_MOST_FIELDS):
            head = self._byte()
            kind = head & 15
            if kind == _STOP:
                return found
            number = number + (head >> 4) if head >> 4 else self._integer()
            if kind in _VARINTS:
                found[number] = self._integer()
            else:
                self._skip(kind, depth)
        raise ValueError("a page header of too many fields")

    def _skip(self, kind: int, depth: int) -> None:
        if kind in (_TRUE, _FALSE):
            return
        if kind == _BYTE:
            self._byte()
        elif kind == _DOUBLE:
            self.at += 8
        elif kind == _BINARY:
            length = self._varint()
            self.at += length
        elif kind == _STRUCT:
            self.struct(depth + 1)
        elif kind in (_LIST, _SET):
            head = self._byte()
            count = head >> 4 if head >> 4 != 15 else self._varint()
            if count > _MOST_FIELDS:
                raise ValueError("a page header with a long list")
            for _ in range(count):
                inner = head & 15
                self._integer() if inner in _VARINTS else self._byte() if inner in (_TRUE, _FALSE) else self._skip(
                    inner, depth
                )
        else:
            raise ValueError("a page header of another kind")
