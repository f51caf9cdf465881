"""CRC-32 of the encoded images, beside a cache: tells a changed image from a changed library. No identity.

    encoded/TEACHER-RANK.crc    of the samples that a rank of a stage-one run was the first to read:
                                "deit-crc", N (uint64), N bits (first sample in the highest bit, padded to bytes),
                                a uint32 for each set bit, CRC-32 of all before; little endian

Each writer has its own file and loses nothing of what others wrote; a damaged or absent file only means that a cause
cannot be proven.

Shapes: N samples.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.places.location import Location, ObjectMissing
from deit_pipe.store.places.opening import open_location

FOLDER = "encoded"
_MAGIC = b"deit-crc"
KNOWN = np.uint64(1 << 32)
"""Added to the CRC-32 of a sample that was read: of others the note is 0."""


def encoded_key(teacher: str, rank: int) -> str:
    """Key of one writer's file."""
    return f"{FOLDER}/{teacher}-{rank}.crc"


def write_encoded(location: str | Path | Location, teacher: str, rank: int, notes: NDArray[np.uint64]) -> None:
    """Replace one writer's file; `notes` is uint64 [N], KNOWN + CRC-32 or 0."""
    known = notes >= KNOWN
    crcs = (notes[known] - KNOWN).astype("<u4")
    body = _MAGIC + struct.pack("<Q", len(notes)) + np.packbits(known).tobytes() + crcs.tobytes()
    open_location(location).put(encoded_key(teacher, rank), body + struct.pack("<I", zlib.crc32(body)))


def read_encoded(location: str | Path | Location, samples: int, key: str | None = None) -> NDArray[np.uint64]:
    """What all files (or the one of `key`) know of `samples` samples, uint64 [N]: KNOWN + CRC-32, or 0."""
    place = open_location(location)
    notes = np.zeros(samples, np.uint64)
    for name in sorted(place.sizes(FOLDER)) if key is None else [key]:
        try:
            part = _parse(place.get(name), samples)
        except ObjectMissing:
            continue
        if part is not None:
            notes = np.where(notes == 0, part, notes)
    return notes


def _parse(data: bytes, samples: int) -> NDArray[np.uint64] | None:
    start = len(_MAGIC) + 8
    bits = -(-samples // 8)
    if len(data) < start + bits + 4 or data[:start] != _MAGIC + struct.pack("<Q", samples):
        return None
    body, (stated,) = data[:-4], struct.unpack("<I", data[-4:])
    known = np.unpackbits(np.frombuffer(body, np.uint8, bits, start))[:samples].astype(np.bool_)
    if zlib.crc32(body) != stated or len(body) != start + bits + 4 * int(known.sum()):
        return None
    notes = np.zeros(samples, np.uint64)
    notes[known] = np.frombuffer(body, "<u4", offset=start + bits).astype(np.uint64) + KNOWN
    return notes
