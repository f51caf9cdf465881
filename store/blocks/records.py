"""The records of a teacher as they were read: which blocks there are, and what is wrong with some."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store import sealed
from deit_pipe.store.proof.witness import Witnesses, witnesses_of
from deit_pipe.store.record import BlockRecord
from deit_pipe.store.sealed import Cell


class Damage(NamedTuple):
    """A bad file of a ledger, or a block whose header is bad.

    `epochs` is the range it covered; `lost` is False if it says nothing that is not said elsewhere; `foreign`: it is
    whole, but of another teacher or cache, so it is refused and never replaced: put back, it may be worth days of a
    teacher. `cell` is set for a block, and `array` then says in which part of it.
    """

    key: str
    epochs: tuple[int, int]
    lost: bool
    what: str
    foreign: bool = False
    cell: Cell | None = None
    array: str = "ledger"


class Ledger:
    """The records of one teacher: indexed ones as columns, the others as records.

    Attributes:
        epochs: how many are wanted; None if nothing says so.
        loose: records that no index has.
        class_counts: teacher labels per class of the epochs that an index has.
        sealed_keys: names of the index files that were read.
        keys: every file of the teacher's ledger when it was listed, also those of other modules.
    """

    def __init__(
        self,
        epochs: int | None,
        columns: dict[str, NDArray[Any]],
        loose: dict[Cell, BlockRecord],
        class_counts: dict[int, NDArray[np.int64]],
        damage: list[Damage],
        sealed_keys: list[str],
        keys: tuple[str, ...] = (),
    ) -> None:
        self.epochs = epochs
        self.loose = loose
        self.class_counts = class_counts
        self.damage = damage
        self.sealed_keys = sealed_keys
        self.keys = keys
        self._columns = columns
        self._rows: dict[Cell, int] = sealed.newest_rows(columns) if columns else {}

    @cached_property
    def sealed_epochs(self) -> set[int]:
        """Epochs that have class counts, which come with the seal, and no loose records."""
        return set(self.class_counts) - {epoch for epoch, _ in self.loose}

    def __contains__(self, cell: Cell) -> bool:
        return cell in self.loose or cell in self._rows

    def __len__(self) -> int:
        return len(self.cells())

    def cells(self) -> set[Cell]:
        """All committed (epoch, block index)."""
        return self.loose.keys() | self._rows.keys()

    def record(self, epoch: int, index: int) -> BlockRecord:
        """Return the record of a committed block.

        Raises:
            KeyError: it is not committed.
        """
        if (epoch, index) in self.loose:
            return self.loose[epoch, index]
        return sealed.record_at(self._columns, self._rows[epoch, index])

    def records(self) -> Iterable[BlockRecord]:
        """All records in order of epoch and slot."""
        return (self.record(*cell) for cell in sorted(self.cells()))

    def columns(self) -> dict[str, NDArray[Any]]:
        """All records as columns [records], in order.

        epoch, index, start, stop, rank, run, written, agree, agree_either,
        ties, top1, entropy, topk_mass (NaN where there is none), confidence [records, 20], bytes.ARRAY,
        sha256.ARRAY; since format 2 also cache, teacher, witness.slots [records, 2] (-1: no second view),
        witness.sums [records, 2, 4], witness.labels [records, 2, 2], witness.lam [records, 2].
        """
        rows = np.array([row for cell, row in self._rows.items() if cell not in self.loose], np.int64)
        if len(rows):
            rows = rows[np.lexsort((self._columns["index"][rows], self._columns["epoch"][rows]))]
            sealed_part = {name: column[rows] for name, column in self._columns.items()}
            if not self.loose:
                return sealed_part
        loose_part = sealed.to_columns([self.loose[cell] for cell in sorted(self.loose)])
        if not len(rows):
            return loose_part
        merged = {name: np.concatenate([sealed_part[name], loose_part[name]]) for name in sealed_part}
        order = np.lexsort((merged["index"], merged["epoch"]))
        return {name: column[order] for name, column in merged.items()}

    @property
    def stored_bytes(self) -> int:
        """Bytes of all blocks, without their headers."""
        return sum(int(column.sum()) for name, column in self._all_columns.items() if name.startswith("bytes."))

    def witnesses(self, epoch: int) -> Witnesses:
        """The witnessed views of an epoch; none in format 1."""
        return witnesses_of(self._all_columns, epoch)

    @cached_property
    def _all_columns(self) -> dict[str, NDArray[Any]]:
        return self.columns()
