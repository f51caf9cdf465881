"""Note the CRC-32 of every image as it is first read, from whatever process reads it.

Shapes: N samples.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.samples import SampleTable

KNOWN = np.uint64(1 << 32)
"""Added to the CRC-32 of a sample that was read: of others the note is 0."""


class NotedSamples(SampleTable):
    """Another table, whose reads are noted in a file that all loader processes map.

    A note is one aligned 8-byte word, so processes need no lock; two that read the same sample write the same.
    """

    def __init__(self, table: SampleTable, notes: Path) -> None:
        """`notes` is a file of N zeroed uint64, or of earlier notes."""
        super().__init__(table.name, table.keys, table.labels, table.class_names)
        self.table, self._file = table, notes
        self._notes: NDArray[np.uint64] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_notes": None}  # pickled, a map would become a copy

    @property
    def notes(self) -> NDArray[np.uint64]:
        """KNOWN + CRC-32 of each sample that was read, else 0: uint64 [N], mapped."""
        if self._notes is None:
            self._notes = np.memmap(self._file, np.uint64, "r+", shape=(len(self),))
        return self._notes

    def read(self, sample: int) -> bytes | NDArray[np.uint8]:
        """Return the image as the table does."""
        image = self.table.read(sample)
        if not self.notes[sample]:
            self.notes[sample] = KNOWN + np.uint64(encoded_crc(image))
        return image

    def measure_bytes(self) -> NDArray[np.int64]:
        """Return the stored size of every sample, int64 [N]."""
        return self.table.byte_sizes

    @property
    def selected_positions(self) -> NDArray[np.int64] | None:
        """Where these samples are in the whole split, as the table says."""
        return self.table.selected_positions


def encoded_crc(image: bytes | NDArray[np.uint8]) -> int:
    """Return the CRC-32 of an image as a table gives it: encoded bytes, or raw pixels in C order."""
    return zlib.crc32(image if isinstance(image, bytes) else np.ascontiguousarray(image).data)
