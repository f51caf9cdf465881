"""Where a run's targets come from: a cache, which every view is compared with; a teacher in the loop; nowhere."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from deit_pipe.pipeline.loader import ViewBatch
from deit_pipe.pipeline.plan import Cells
from deit_pipe.stages.networks.teacher import Teacher
from deit_pipe.stages.opened.arrays import CachedArrays
from deit_pipe.stages.opened.proof import StudentInput, WitnessCheck
from deit_pipe.stages.opened.replay import ReplayContext, check_replay
from deit_pipe.stages.training.targets import TensorTargets, on_device
from deit_pipe.store.formats import TargetFormat, Targets, decode, encode
from deit_pipe.store.reader import TargetReader


class CachedTargets:
    """Reads the targets of a known sequence of cells, ahead of the steps."""

    def __init__(
        self, readers: Sequence[TargetReader], cells: Callable[[], Iterable[Cells]], context: ReplayContext
    ) -> None:
        """Read from `readers` (one per teacher), for `cells()` in order.

        Args:
            readers: in the order of the loss's teacher weights.
            cells: gives, each time anew, the cells that the views are loaded for; every reader has its own thread.
            context: for the message when a view differs.
        """
        self._context = context
        self._witnesses = WitnessCheck([reader.witnesses for reader in readers], context)
        self._open = ExitStack()
        self._streams: list[Iterator[Targets]] = [reader.stream(cells()) for reader in readers]
        for stream in self._streams:
            self._open.callback(stream.close)  # type: ignore[attr-defined]  # they are generators

    def next(self, views: ViewBatch, mixed: Tensor) -> list[TensorTargets]:
        """The next batch's targets, its views proven to be the cached ones.

        Raises:
            Mismatch: a view differs.
        """
        answers = []
        for stream in self._streams:
            targets = next(stream)
            assert targets.fingerprint is not None
            check_replay(views, targets.fingerprint, self._context)
            answers.append(on_device(targets, mixed.device))
        return answers

    def watch(self, views: ViewBatch, given: StudentInput) -> None:
        """Take the witnesses of what the student is given."""
        self._witnesses.watch(views, given)

    def confirm(self) -> None:
        """Compare them, when the step has ended; raises Mismatch."""
        self._witnesses.confirm()

    def close(self) -> None:
        """End the background reading."""
        self._open.close()


class OnlineTargets:
    """Asks a teacher in every step, as DeiT does: the baseline that cached training must equal.

    Its answers pass the same encode and decode as the cache's format. It runs at the cache's teacher batch size,
    padded, so that its float bits are the cached ones whenever its batches are.
    """

    def __init__(
        self,
        teacher: Teacher,
        targets: TargetFormat,
        batch_size: int,
        cached: CachedArrays | None = None,
        context: ReplayContext | None = None,
    ) -> None:
        """Ask `teacher`; where `cached` has blocks, views are compared with them (`context` is for the message)."""
        self._teacher, self._format, self._batch_size = teacher, targets, batch_size
        self._committed = None if cached is None or context is None else CommittedViews(cached, context)

    def next(self, views: ViewBatch, mixed: Tensor) -> list[TensorTargets]:
        """The teacher's answers to these mixed pixels.

        Raises:
            Mismatch: a view differs from the cached one.
        """
        if self._committed is not None:
            self._committed.compare(views)
        parts = []
        for start in range(0, len(mixed), self._batch_size):
            logits = self._teacher.padded(mixed[start : start + self._batch_size], self._batch_size)
            parts.append(logits.cpu().numpy())
        arrays = encode(np.concatenate(parts), self._format)
        return [on_device(decode(arrays, self._format), mixed.device)]

    def watch(self, views: ViewBatch, given: StudentInput) -> None:
        """Take the witnesses of what the student is given, where there are any."""
        if self._committed is not None:
            self._committed.witnesses.watch(views, given)

    def confirm(self) -> None:
        """Compare them; raises Mismatch."""
        if self._committed is not None:
            self._committed.witnesses.confirm()

    def close(self) -> None:
        """Nothing to end."""


class CommittedViews:
    """What a cache that may be incomplete can prove: the views of its committed blocks.

    Attributes:
        witnesses: of those blocks.
    """

    def __init__(self, cached: CachedArrays, context: ReplayContext) -> None:
        self._cached, self._context = cached, context
        self._there: tuple[int, NDArray[np.bool_]] = (-1, np.zeros(0, np.bool_))
        self.witnesses = WitnessCheck([cached.witnesses], context)

    def compare(self, views: ViewBatch) -> None:
        """Compare the fingerprints of the views that are committed.

        Raises:
            Mismatch: one differs. CacheCorrupt: a block is damaged.
        """
        if self._there[0] != views.epoch:
            self._there = views.epoch, self._cached.committed(views.epoch)
        there = self._there[1][views.slots]
        if there.any():
            known = views.fingerprints.copy()
            known[there] = self._cached.rows("fingerprint", views.epoch, views.slots[there])
            check_replay(views, known, self._context)


class NoTargets:
    """For the loss `none` on a cache that is only planned: nothing to learn from, nothing to compare with."""

    def next(self, views: ViewBatch, mixed: Tensor) -> list[TensorTargets]:
        """No teacher, no answers."""
        return []

    def watch(self, views: ViewBatch, given: StudentInput) -> None:
        """Nothing to compare with."""

    def confirm(self) -> None:
        """Nothing to compare with."""

    def close(self) -> None:
        """Nothing to end."""
