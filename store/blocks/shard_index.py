"""The index at the end of a zarr shard: where its chunks lie. Bytes only, no zarr.

    chunk, chunk, ..., (offset uint64, bytes uint64) of each chunk, CRC-32C of these; little endian; 2^64 - 1: no chunk

A reader follows the offsets, so that whatever lies before the first chunk is nothing to it: there a block has its
header (`block_object`).
"""

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.layout import ArraySpec, chunk_slots

_NONE = np.uint64(2**64 - 1)
_CRC_BYTES = 4
_ZSTD_MAGIC = 0xFD2FB528
_SIZE_BYTES = (0, 2, 4, 8)  # of a zstd frame's content size, by its flag; a single segment of flag 0 has one byte


class ShardShape(NamedTuple):
    """The chunks of a shard: how many, and the bytes of each before compression."""

    chunks: int
    chunk_bytes: int
    slots: int
    """Of a chunk."""

    @classmethod
    def of(cls, spec: ArraySpec, block_slots: int) -> "ShardShape":
        """The chunks of a block of an array."""
        slots = chunk_slots(spec, block_slots)
        return cls(block_slots // slots, slots * spec.row_bytes, slots)


def shifted(shard: bytes, shape: ShardShape, by: int) -> bytes:
    """The same shard, to lie behind `by` other bytes."""
    entries = _entries(shard, shape).copy()
    there = entries[:, 0] != _NONE
    entries[there, 0] += np.uint64(by)
    index = entries.tobytes()
    return shard[: len(shard) - len(index) - _CRC_BYTES] + index + struct.pack("<I", crc32c(index))


def check_declared(shard: bytes, shape: ShardShape, slots: int) -> None:
    """Refuse a shard that would decode to anything but `slots` rows, before any memory is taken for it.

    Raises:
        ValueError: says what.
    """
    entries = _entries(shard, shape)
    for offset, size in entries[: -(-slots // shape.slots)].tolist():
        if offset + size > len(shard) or size <= _CRC_BYTES:
            raise ValueError("has a chunk outside of itself")
        declared = _declared(shard[offset : offset + min(size, 32)])
        if declared != shape.chunk_bytes:
            raise ValueError(f"has a chunk that declares {declared} bytes, expected {shape.chunk_bytes}")


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of a few bytes: no package that we depend on has it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _entries(shard: bytes, shape: ShardShape) -> NDArray[np.uint64]:
    """Offset and bytes of each chunk, uint64 [chunks, 2]."""
    size = 16 * shape.chunks
    if len(shard) < size + _CRC_BYTES:
        raise ValueError("is shorter than its own index")
    index = shard[-size - _CRC_BYTES : -_CRC_BYTES]
    if struct.unpack("<I", shard[-_CRC_BYTES:])[0] != crc32c(index):
        raise ValueError("has an index that fails its CRC-32C")
    return np.frombuffer(index, "<u8").reshape(-1, 2).astype(np.uint64)


def _declared(chunk: bytes) -> int | None:
    """Bytes that a compressed chunk says it decodes to: of a zstd frame, else of a blosc one; None: it does not say."""
    if len(chunk) >= 6 and struct.unpack_from("<I", chunk)[0] == _ZSTD_MAGIC:
        flags = chunk[4]
        single, flag = bool(flags & 0x20), flags >> 6
        size = 1 if flag == 0 and single else _SIZE_BYTES[flag]
        at = 5 + (0 if single else 1) + (0, 1, 2, 4)[flags & 3]
        if not size:
            return None
        value = int.from_bytes(chunk[at : at + size], "little")
        return value + 256 if size == 2 else value
    if len(chunk) >= 16 and chunk[0] == 2:
        return int(struct.unpack_from("<I", chunk, 4)[0])
    return None


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()
