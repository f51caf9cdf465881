"""Batches that are proven: composed views with their labels and a teacher's answers, compared with what it saw.

Whoever trains on a cache gets its batches here, the command and the Python face alike: fingerprints are compared before
a batch is composed, the witnesses of what it became beside it.

Shapes: B views in a batch, S the side of a view, C classes.
"""

import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deit_pipe.pipeline.compose import compose, labelled_share, mixed_labels, normalise
from deit_pipe.pipeline.loader import ViewBatch, load_views
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.proof.recheck import rechecked
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.opened.proof import StudentInput
from deit_pipe.stages.training.targets import Answers, TargetSource, TensorTargets


@dataclass(frozen=True, kw_only=True)
class InputForm:
    """How views become a network's input, and labels a loss's.

    Attributes:
        mean: of the network's normalisation, RGB, 0..1 units; `std` likewise.
        num_classes: C.
        smoothing: of the true labels.
        channels_last: memory format of the images.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_classes: int
    smoothing: float
    channels_last: bool = False


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a student's step is given; its tensors are on one device.

    Attributes:
        epoch: cached epoch of all views.
        slots: int64 numpy [B], positions in the epoch's order.
        samples: int64 numpy [B], positions in the sample table.
        images: float32 [B, 3, S, S]: erased, mixed, normalised.
        labels: float32 [B, C]: true labels, smoothed, mixed like the images; a row sums to its labelled share.
        labelled: float32 [B]: share of each view that labelled images cover; 1 where all have a label.
        teachers: the answers of each teacher.
        smoothing: of the labels.
    """

    epoch: int
    slots: NDArray[np.int64]
    samples: NDArray[np.int64]
    images: Tensor
    labels: Tensor
    labelled: Tensor
    teachers: tuple[Answers, ...]
    smoothing: float

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def teacher(self) -> Answers:
        """The answers of the first teacher, mostly the only one."""
        return self.teachers[0]

    @property
    def targets(self) -> list[TensorTargets]:
        """The answers as they are stored, one for each teacher, as a `DistillationLoss` takes them."""
        return [answers.targets for answers in self.teachers]


def checked_views(
    table: SampleTable,
    recipe: Recipe,
    plan: ViewPlan,
    cells: Iterable[Cells],
    *,
    image_size: int,
    workers: int,
    device: torch.device,
) -> Generator[ViewBatch, None, None]:
    """Load the views of these cells for a device, some of each batch looked at again after the hand-over."""
    loaded = load_views(
        table,
        recipe,
        plan,
        cells,
        image_size=image_size,
        workers=workers,
        pin_memory=device.type == "cuda",
    )
    return rechecked(loaded, plan.seed)


class ProvenBatches:
    """Views and targets of the same cells, put together.

    Attributes:
        view_seconds, target_seconds: that the last batch was waited for.
    """

    def __init__(
        self,
        views: Iterator[ViewBatch],
        targets: TargetSource,
        recipe: Recipe,
        form: InputForm,
        device: torch.device,
    ) -> None:
        """Put together `views`, as `checked_views` gives them, and `targets` of the same cells; closes neither."""
        self._views, self._targets, self._recipe = views, targets, recipe
        self._form, self._device = form, device
        self.view_seconds = self.target_seconds = 0.0

    def __iter__(self) -> Iterator[Batch]:
        """One after the other; none is handed out before everything about it is compared."""
        for views in self._views:
            batch = self._put_together(views)
            self.confirm()
            yield batch

    def take(self) -> Batch:
        """The next batch; whoever takes it confirms it before its result is used.

        Raises:
            Mismatch: a view is not the cached one.
        """
        started = time.perf_counter()
        views = next(self._views)
        self.view_seconds = time.perf_counter() - started
        return self._put_together(views)

    def confirm(self) -> None:
        """Compare the witnesses of what was taken since the last call.

        Raises:
            Mismatch: a view is composed, or a label mixed, otherwise than the teacher's.
        """
        self._targets.confirm()

    def _put_together(self, on_host: ViewBatch) -> Batch:
        form = self._form
        batch = on_host.to(self._device, non_blocking=True)
        mixed = compose(batch, self._recipe)
        composed = time.perf_counter()
        answers = self._targets.next(on_host, mixed)
        self.target_seconds = time.perf_counter() - composed
        if form.channels_last:
            mixed = mixed.to(memory_format=torch.channels_last)
        inputs = normalise(mixed, form.mean, form.std)
        labels = mixed_labels(batch, form.num_classes, form.smoothing)
        labelled = labelled_share(batch)
        given = StudentInput(
            inputs=inputs,
            mean=form.mean,
            std=form.std,
            labels=labels,
            labelled=labelled,
            smoothing=form.smoothing,
        )
        self._targets.watch(on_host, given)
        return Batch(
            epoch=on_host.epoch,
            slots=on_host.slots,
            samples=on_host.samples,
            images=inputs,
            labels=labels,
            labelled=labelled,
            teachers=tuple(Answers(one) for one in answers),
            smoothing=form.smoothing,
        )
