"""The witness of a block: what the network's own input reduced to when the teacher saw it, for two views of the block.

A fingerprint vouches for uint8 pixels and for drawn numbers; what composing made of them, and of the labels, only a
witness can tell. How the sums are taken is `pipeline.proof.witness`; here they are only kept.

Shapes: n views of an epoch, two for each block (one in a block of a single slot).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from deit_pipe.store.layout import Block

SUMS = 4
VIEWS = 2
PREFIX = "witness."
"""Of the columns that a ledger keeps of it."""


@dataclass(frozen=True, kw_only=True)
class BlockWitness:
    """One or two views of a block, the second being the one that the first is mixed with.

    Attributes:
        slots: of the views.
        sums: for each view, SUMS float32 values.
        labels: for each view, its label and its partner's; -1: unlabelled.
        lam: for each view, the weight of the own image, float32, 0..1.
    """

    slots: tuple[int, ...]
    sums: tuple[tuple[float, ...], ...]
    labels: tuple[tuple[int, int], ...]
    lam: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        return cls(
            slots=tuple(data["slots"]),
            sums=tuple(tuple(row) for row in data["sums"]),
            labels=tuple((own, other) for own, other in data["labels"]),
            lam=tuple(data["lam"]),
        )

    def problem(self, block: "Block") -> str | None:
        """Why it cannot be the witness of this block; None if it can."""
        if not 1 <= len(self.slots) <= VIEWS or len(set(self.slots)) < len(self.slots):
            return f"views {list(self.slots)}, expected one or two"
        if not all(block.start <= slot < block.stop for slot in self.slots):
            return f"views {list(self.slots)} outside the block"
        if [len(part) for part in (self.sums, self.labels, self.lam)] != [len(self.slots)] * 3:
            return "not as many values as views"
        if any(len(row) != SUMS for row in self.sums) or not np.isfinite([*self.lam, *np.ravel(self.sums)]).all():
            return f"sums {list(self.sums)}, expected {SUMS} finite ones a view"
        return None


class Witnesses(NamedTuple):
    """The witnessed views of one epoch, in order of slot.

    Attributes:
        slots: int64 [n].
        sums: float32 [n, SUMS].
        labels: int64 [n, 2], own and partner's; -1: unlabelled.
        lam: float32 [n].
    """

    slots: NDArray[np.int64]
    sums: NDArray[np.float32]
    labels: NDArray[np.int64]
    lam: NDArray[np.float32]


def witness_columns(witnesses: Sequence[BlockWitness | None]) -> dict[str, NDArray[Any]]:
    """One row per block; the slot of an absent view is -1."""
    rows = len(witnesses)
    slots = np.full((rows, VIEWS), -1, np.int64)
    sums = np.zeros((rows, VIEWS, SUMS), np.float32)
    labels = np.full((rows, VIEWS, 2), -1, np.int64)
    lam = np.zeros((rows, VIEWS), np.float32)
    for row, witness in enumerate(witnesses):
        if witness is None:
            continue
        count = len(witness.slots)
        slots[row, :count], lam[row, :count] = witness.slots, witness.lam
        sums[row, :count], labels[row, :count] = witness.sums, witness.labels
    return {f"{PREFIX}slots": slots, f"{PREFIX}sums": sums, f"{PREFIX}labels": labels, f"{PREFIX}lam": lam}


def witness_at(columns: Mapping[str, NDArray[Any]], row: int) -> BlockWitness | None:
    """Turn one row of columns back; None of a block that has none."""
    slots, sums, labels, lam = (columns[f"{PREFIX}{name}"][row] for name in ("slots", "sums", "labels", "lam"))
    count = int((slots >= 0).sum())
    if not count:
        return None
    return BlockWitness(
        slots=tuple(slots[:count].tolist()),
        sums=tuple(tuple(values) for values in sums[:count].tolist()),
        labels=tuple((own, other) for own, other in labels[:count].tolist()),
        lam=tuple(lam[:count].tolist()),
    )


def witnesses_of(columns: Mapping[str, NDArray[Any]], epoch: int) -> Witnesses:
    """The witnessed views of an epoch, of a ledger's columns; none of a ledger of format 1."""
    if f"{PREFIX}slots" not in columns:
        empty = np.zeros(0, np.int64)
        return Witnesses(empty, np.zeros((0, SUMS), np.float32), np.zeros((0, 2), np.int64), np.zeros(0, np.float32))
    rows = columns["epoch"] == epoch
    slots = columns[f"{PREFIX}slots"][rows].reshape(-1)
    order = np.argsort(slots, kind="stable")[int((slots < 0).sum()) :]
    return Witnesses(
        slots[order],
        columns[f"{PREFIX}sums"][rows].reshape(-1, SUMS)[order],
        columns[f"{PREFIX}labels"][rows].reshape(-1, 2)[order],
        columns[f"{PREFIX}lam"][rows].reshape(-1)[order],
    )
