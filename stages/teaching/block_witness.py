"""The witness of a block, taken while the teacher answers: the views that tell most, at the teacher's own input."""

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from deit_pipe.pipeline.compose import partner_labels
from deit_pipe.pipeline.loader import ViewBatch
from deit_pipe.pipeline.proof.witness import rows_of, telling_views, witness_sums
from deit_pipe.stages.networks.teacher import Teacher
from deit_pipe.store.layout import Block
from deit_pipe.store.proof.witness import BlockWitness


class WitnessTaker:
    """Looks at the batches of one block as they pass; views of a later one are taken if they tell more."""

    def __init__(self, teacher: Teacher, block: Block) -> None:
        self._teacher = teacher
        # by turns, so that a small cache has witnesses of both
        self._prefer_cutmix = block.index % 2 == 1
        self._best = -1
        self._witness: BlockWitness | None = None
        self._sums: Tensor | None = None

    def look_at(self, batch: ViewBatch) -> Callable[[Tensor], None] | None:
        """What is to be called with the teacher's input for this batch (on the host here); None: nothing is."""
        tells, places = telling_views(batch, self._prefer_cutmix)
        if tells <= self._best:
            return None
        others = partner_labels(batch)
        self._best = tells
        self._witness = BlockWitness(  # of the batch nothing is kept: its memory may be used again
            slots=tuple(int(batch.slots[place]) for place in places),
            sums=(),
            labels=tuple((int(batch.labels[place]), int(others[place])) for place in places),
            lam=tuple(float(batch.lam[place]) for place in places),
        )

        def take(inputs: Tensor) -> None:
            self._sums = witness_sums(rows_of(inputs, places), self._teacher.mean, self._teacher.std)

        return take

    def finish(self) -> BlockWitness:
        """The witness, of the batches looked at."""
        assert self._witness is not None
        assert self._sums is not None
        return replace(self._witness, sums=tuple(tuple(row) for row in self._sums.tolist()))
