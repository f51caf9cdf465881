"""A part of a split, or a split with other labels, without a copy of anything.

Shapes: N samples of the part, M of the whole split.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.errors import BadImage
from deit_pipe.pipeline.samples import SampleTable


class SelectedSamples(SampleTable):
    """Some samples of another table, in the order of the positions.

    Attributes:
        whole: the table that reads the images, never itself a selection.
        positions: int64 [N], of the samples in `whole`.
    """

    whole: SampleTable
    positions: NDArray[np.int64]

    def __init__(
        self,
        table: SampleTable,
        *,
        positions: NDArray[np.int64] | None = None,
        labels: NDArray[np.int64] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Choose from `table`.

        Args:
            table: may itself be a selection.
            positions: int64 [N], of `table`; None: all of it.
            labels: int64 [N], instead of the table's own.
            class_names: instead of the table's own.
        """
        chosen = np.arange(len(table), dtype=np.int64) if positions is None else positions
        own = table.labels[chosen]
        whole: SampleTable = table
        if isinstance(table, SelectedSamples):
            whole, chosen = table.whole, table.positions[chosen]
        self.whole = whole
        self.positions = np.ascontiguousarray(chosen, dtype=np.int64)
        keys = SelectedKeys(whole.keys, self.positions)
        super().__init__(
            table.name,
            keys,
            own if labels is None else labels,
            table.class_names if class_names is None else class_names,
        )

    @property
    def selected_positions(self) -> NDArray[np.int64] | None:
        """Where these samples are in the whole split; None where all of them are here, in order."""
        every = len(self.positions) == len(self.whole)
        return None if every and bool((np.diff(self.positions) == 1).all()) else self.positions

    def read(self, sample: int) -> bytes | NDArray[np.uint8]:
        """Return the image; an error names the sample by its number here."""
        place = int(self.positions[sample])
        try:
            return self.whole.read(place)
        except BadImage as error:
            raise BadImage(str(error).replace(f"sample {place} (", f"sample {sample} (", 1)) from error

    def measure_bytes(self) -> NDArray[np.int64]:
        """Return the stored sizes of the chosen samples, int64 [N]."""
        return self.whole.byte_sizes[self.positions]


class SelectedKeys(Sequence[str]):
    """The keys at some positions of a longer list."""

    def __init__(self, keys: Sequence[str], positions: NDArray[np.int64]) -> None:
        self._keys = keys
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self._keys[position] for position in self._positions[index].tolist()]
        return self._keys[int(self._positions[index])]

    def __iter__(self) -> Iterator[str]:
        return (self._keys[position] for position in self._positions.tolist())
