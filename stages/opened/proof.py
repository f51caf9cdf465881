"""The proof of a step: its views are those that a teacher saw, and so are the tensors and labels made of them.

Fingerprints are compared on the host before a step. Witnesses are computed on the device beside it, for the few views
that have one, and looked at when the step has ended, so that the device never waits for them; the step's result is not
used before.

Shapes: B views of a batch, n witnessed ones, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deit_pipe.pipeline.loader import ViewBatch
from deit_pipe.pipeline.proof.witness import SUMS, TOLERANCE, expected_labels, rows_of, witness_sums
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.opened.replay import ReplayContext, program_versions
from deit_pipe.store.proof.witness import Witnesses

WitnessesOf = Callable[[int], Witnesses]
LABELS_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class StudentInput:
    """What a student and its loss are given for a batch.

    Attributes:
        inputs: float32 [B, 3, S, S], the very tensor that the network gets.
        mean: that its normalisation is said to take, RGB; `std` likewise.
        labels: float32 [B, C], the rows that the loss gets.
        labelled: float32 [B], labelled share of each view, as the loss gets it.
        smoothing: that is said to be in the labels.
    """

    inputs: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: Tensor
    labelled: Tensor
    smoothing: float


@dataclass(frozen=True, kw_only=True)
class _Pending:
    """Numbers [n, SUMS + C + 1] on their way from the device, and what they must be."""

    views: ViewBatch
    places: list[int]
    got: Tensor
    expected: NDArray[np.float32]
    arrived: "torch.cuda.Event | None"


class WitnessCheck:
    """Compares what the student is given with the witnesses of one or more teachers' blocks."""

    def __init__(self, witnesses: Sequence[WitnessesOf], where: ReplayContext) -> None:
        """`witnesses` give those of an epoch, a teacher each; `where` is for the message."""
        self._sources, self._where = witnesses, where
        self._of_epoch: dict[tuple[int, int], Witnesses] = {}
        self._pending: list[_Pending] = []

    def watch(self, views: ViewBatch, given: StudentInput) -> None:
        """Take the sums of the witnessed views of a batch; nothing is compared yet, and no device is waited for."""
        for number in range(len(self._sources)):
            found = self._witnesses(number, views.epoch)
            places, rows = _common(views.slots, found.slots)
            if not places:
                continue
            classes = given.labels.shape[1]
            with torch.no_grad():
                sums = witness_sums(rows_of(given.inputs, places), given.mean, given.std)
                labels, labelled = rows_of(given.labels, places), rows_of(given.labelled, places)
                got, arrived = _to_host(torch.cat([sums, labels.float(), labelled.float()[:, None]], dim=1))
            wanted = expected_labels(found.labels[rows], found.lam[rows], classes, given.smoothing)
            expected = np.concatenate([found.sums[rows], wanted], axis=1)
            self._pending.append(_Pending(views=views, places=places, got=got, expected=expected, arrived=arrived))

    @property
    def waiting(self) -> int:
        """How many views were taken and not compared yet."""
        return sum(len(one.places) for one in self._pending)

    def confirm(self) -> None:
        """Compare what was taken since the last call.

        Raises:
            Mismatch: names the first view that the student was given otherwise than the teacher.
        """
        if self._pending and (different := self.compare()):
            raise different[0]

    def compare(self) -> list[Mismatch]:
        """Compare what was taken since the last call; an error for each view that differs."""
        pending, self._pending = self._pending, []
        errors = []
        for one in pending:
            if one.arrived is not None:
                one.arrived.synchronize()
            got = one.got.numpy()
            # written so that a NaN differs
            different = ~(np.abs(got - one.expected) <= TOLERANCE)
            for row in np.flatnonzero(different.any(axis=1)).tolist():
                errors.append(self._error(one, row, got[row], different[row]))
        return errors

    def _witnesses(self, number: int, epoch: int) -> Witnesses:
        address = number, epoch
        if address not in self._of_epoch:
            self._of_epoch = {key: value for key, value in self._of_epoch.items() if key[1] == epoch}
            self._of_epoch[address] = self._sources[number](epoch)
        return self._of_epoch[address]

    def _error(self, one: _Pending, row: int, got: NDArray[np.float32], different: NDArray[np.bool_]) -> Mismatch:
        inputs = bool(different[:SUMS].any())
        show = _sums if inputs else _labels
        made = "erasing, mixing or normalising" if inputs else "mixing the labels"
        return Mismatch(
            f"witness differs: {self._where.cell(one.views, one.places[row])}: "
            f"the student is given {'another input' if inputs else 'other labels'} than the teacher",
            expected=show(one.expected[row]),
            got=show(got),
            details=[
                f"the pixels are the cached ones (fingerprint); what was made of them is not: {made}",
                program_versions(self._where.then),
            ],
            cure="use the program and the libraries that the cache was made with, or make a new cache",
        )


def _common(slots: NDArray[np.int64], witnessed: NDArray[np.int64]) -> tuple[list[int], NDArray[np.int64]]:
    """Places in `slots` of those that are witnessed, and their rows in `witnessed` (ascending)."""
    rows = np.searchsorted(witnessed, slots)
    inside = rows < len(witnessed)
    inside[inside] = witnessed[rows[inside]] == slots[inside]
    places = np.flatnonzero(inside)
    return places.tolist(), rows[places]


def _to_host(values: Tensor) -> tuple[Tensor, "torch.cuda.Event | None"]:
    """Start a copy to the host; on CUDA it is there when the event has happened."""
    if values.device.type != "cuda":
        return values.cpu(), None
    there = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    there.copy_(values, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()
    return there, arrived


def _sums(values: NDArray[np.float32]) -> str:
    return "sums " + " ".join(f"{value:+.6f}" for value in values[:SUMS].tolist())


def _labels(values: NDArray[np.float32]) -> str:
    """The largest parts of a row, and the labelled share."""
    row, share = values[SUMS:-1], float(values[-1])
    largest = np.argsort(-row, kind="stable")[:LABELS_SHOWN].tolist()
    parts = ", ".join(f"class {label} {row[label]:.4f}" for label in largest)
    return f"{parts} (labelled share {share:.4f}, sum {row.sum():.4f})"
