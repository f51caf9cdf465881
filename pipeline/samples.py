"""The sample table: an ordered list of images with their labels.

A sample is an image by its position, 0..N-1. Positions are stable: folders are sorted by name, files keep
their own order.

Shapes: N samples, H and W the size of one image.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray


class KeyList(Sequence[str]):
    """Strings in one buffer: a million paths without a million objects to copy into every worker process."""

    def __init__(self, strings: Iterable[str]) -> None:
        encoded = [string.encode("utf-8", "surrogateescape") for string in strings]
        self._blob = b"".join(encoded)
        self._ends = np.cumsum([len(piece) for piece in encoded], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"no string {index} in a list of {len(self)}")
        start = int(self._ends[index - 1]) if index else 0
        return self._blob[start : int(self._ends[index])].decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))


class SampleTable(ABC):
    """Ordered samples of one split. Can be pickled; sources open their files again in each worker process.

    Several threads may read at once.

    Attributes:
        name: where the samples come from, for messages.
        keys: one short name per sample (path below the folder, or row).
        labels: int64 [N], 0..len(class_names)-1, or -1: an unlabelled image.
        class_names: in the order of the labels.
    """

    def __init__(self, name: str, keys: Sequence[str], labels: NDArray[np.int64], class_names: Sequence[str]) -> None:
        self.name = name
        self.keys = keys
        self.labels = np.ascontiguousarray(labels, dtype=np.int64)
        self.class_names = tuple(class_names)

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def read(self, sample: int) -> bytes | NDArray[np.uint8]:
        """Return the encoded image, or raw uint8 pixels [H, W] or [H, W, 3] which skip the decoder."""

    @abstractmethod
    def measure_bytes(self) -> NDArray[np.int64]:
        """Return the stored size of every sample, int64 [N]."""

    @cached_property
    def byte_sizes(self) -> NDArray[np.int64]:
        """Stored size of every sample, int64 [N]; for a folder this asks the file system once per file."""
        return self.measure_bytes()

    @property
    def num_labelled(self) -> int:
        """How many samples have a label."""
        return int(np.count_nonzero(self.labels >= 0))

    @property
    def selected_positions(self) -> NDArray[np.int64] | None:
        """Where these samples are in the whole split, int64 [N]; None: they are the whole split, in order."""
        return None

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the number of samples, the class names and the labels in order.

        Paths and file sizes stay out of it, so that a folder and its Parquet or packed copy agree; that the
        pixels are the same is what the fingerprints of the views vouch for. Of a part of a split, the chosen
        positions are covered too: other images with equal labels in a row are other samples.
        """
        head: dict[str, object] = {"num_samples": len(self), "class_names": list(self.class_names)}
        positions = self.selected_positions
        if positions is not None:
            head["selected"] = hashlib.sha256(positions.astype("<i8").tobytes()).hexdigest()
        text = json.dumps(head, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape"))
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()


class ArraySamples(SampleTable):
    """Equal-sized raw images held in one array: uint8 [N, H, W] or [N, H, W, 3]."""

    def __init__(
        self,
        name: str,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64],
        class_names: Sequence[str],
        keys: Sequence[str] | None = None,
    ) -> None:
        rows = KeyList(f"row {i}" for i in range(len(labels))) if keys is None else keys
        super().__init__(name, rows, labels, class_names)
        self.pixels = pixels

    def read(self, sample: int) -> NDArray[np.uint8]:
        """Return the pixels, uint8 [H, W] or [H, W, 3]."""
        image: NDArray[np.uint8] = self.pixels[sample]
        return image

    def measure_bytes(self) -> NDArray[np.int64]:
        """Return H * W * channels for every sample."""
        return np.full(len(self), self.pixels[0].size if len(self) else 0, dtype=np.int64)


UNLABELLED = -1  # label of an image that only the teacher teaches


def class_name(class_names: Sequence[str], label: int) -> str:
    """Return the name of a label, "unlabelled" for -1."""
    return "unlabelled" if label == UNLABELLED else class_names[label]
