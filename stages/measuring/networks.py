"""What a teacher and a student cost here, by themselves and fed by the loader."""

from collections.abc import Callable, Iterator
from itertools import count
from itertools import repeat as again
from typing import Any

import torch
from torch import Tensor

from deit_pipe.pipeline.compose import compose, dominant_labels, partner_labels
from deit_pipe.pipeline.loader import ViewBatch, load_views
from deit_pipe.pipeline.plan import Cells
from deit_pipe.pipeline.proof.recheck import rechecked
from deit_pipe.stages.machine.cost_model import NetworkCost
from deit_pipe.stages.machine.distributed import Processes
from deit_pipe.stages.measuring.clocks import Taken, repeat
from deit_pipe.stages.measuring.target_reads import ScratchTargets
from deit_pipe.stages.measuring.views import ViewSource
from deit_pipe.stages.networks.teacher import Teacher
from deit_pipe.stages.opened.proof import StudentInput
from deit_pipe.stages.teaching.block_witness import WitnessTaker
from deit_pipe.stages.training.targets import TensorTargets
from deit_pipe.stages.training.trainer import Schedule, Trainer
from deit_pipe.store.layout import Block


def network_cost(taken: Taken) -> NetworkCost:
    """Of one view."""
    return NetworkCost(seconds=taken.seconds / taken.units, core_seconds=taken.core_seconds / taken.units)


def loaded(source: ViewSource, cells: Iterator[Cells], workers: int, device: torch.device) -> Any:
    """Batches as a run gets them, some views of each looked at again; a generator, to be closed."""
    views = load_views(
        source.table,
        source.recipe,
        source.plan,
        cells,
        image_size=source.image_size,
        workers=workers,
        pin_memory=device.type == "cuda",
    )
    return rechecked(views, source.plan.seed)


def answering(teacher: Teacher, source: ViewSource, views: Iterator[ViewBatch]) -> Callable[[], int]:
    """Stage one's work on a batch: to the device, composed, answered, back."""

    def work() -> int:
        batch = next(views)
        mixed = compose(batch.to(teacher.device, non_blocking=True), source.recipe)
        teacher.padded(mixed, len(batch)).cpu()
        return len(batch)

    return work


def filling(teacher: Teacher, source: ViewSource, views: Iterator[ViewBatch], per_block: int) -> Callable[[], int]:
    """The same, with the labels and the witnesses that a block of so many batches keeps of them."""
    number = count()
    witness: WitnessTaker

    def work() -> int:
        nonlocal witness
        batch, here = next(views), next(number)
        if here % per_block == 0:
            witness = WitnessTaker(teacher, Block(0, here // per_block, 0, 0))
        mixed = compose(batch.to(teacher.device, non_blocking=True), source.recipe)
        answers = teacher.padded(mixed, len(batch), witness.look_at(batch))
        dominant_labels(batch).numpy(), partner_labels(batch).numpy()
        answers.cpu()
        return len(batch)

    return work


def teacher_alone(teacher: Teacher, source: ViewSource, batch_size: int, seconds: float) -> NetworkCost:
    """Of the views of a batch that is there already."""
    batch = next(loaded(source, source.cells(batch_size), 0, teacher.device))
    taken = repeat(answering(teacher, source, again(batch)), seconds, teacher.device)
    return network_cost(taken)


def teacher_fed(
    teacher: Teacher, source: ViewSource, batch_size: int, block_slots: int, workers: int, seconds: float
) -> float:
    """Views a second of this process while its workers make them, in blocks of so many slots."""
    views = loaded(source, source.cells(batch_size, ragged=False), workers, teacher.device)
    work = filling(teacher, source, views, max(1, block_slots // batch_size))
    try:
        return repeat(work, seconds, teacher.device, warm_up=3).rate
    finally:
        views.close()


class GivenTargets:
    """The labels, as a teacher who is always right would give them; they cost what reading others beside them does."""

    def __init__(self, num_classes: int, read: Iterator[Any] | None = None) -> None:
        """`read`: something is taken from it for each batch, and not looked at; None: they cost nothing."""
        self.num_classes, self._read = num_classes, read

    def next(self, views: ViewBatch, mixed: Tensor) -> list[TensorTargets]:
        """Targets of the batch, on the device of its pixels."""
        if self._read is not None:
            next(self._read)
        labels = views.labels.clamp(min=0).to(mixed.device, non_blocking=True)
        return [TensorTargets(kind="none", num_classes=self.num_classes, taus=(), teacher_label=labels)]

    def watch(self, views: ViewBatch, given: StudentInput) -> None:
        """Nothing to compare with."""

    def confirm(self) -> None:
        """Nothing to compare with."""

    def close(self) -> None:
        """Nothing to end."""


def stepping(
    trainer: Trainer, schedule: Schedule, views: Iterator[ViewBatch], read: Iterator[Any] | None = None
) -> Callable[[], int]:
    """Stage two's work on a batch: a whole optimiser step; `read` as `GivenTargets` takes it."""
    sizes = schedule.part_sizes(trainer.group)
    batches = trainer.batches(views, GivenTargets(trainer.facts.num_classes, read))

    def work() -> int:
        trainer.step(batches, sizes, 0)
        return sum(sizes)

    return work


def student_alone(trainer: Trainer, source: ViewSource, schedule: Schedule, seconds: float) -> NetworkCost:
    """Of the views of a batch that is there already."""
    batch = next(loaded(source, schedule.cells(trainer.group, 0, 0), 0, trainer.group.device))
    work = stepping(trainer, schedule, again(batch))
    return network_cost(steps_together(work, seconds, trainer.group))


def student_fed(
    trainer: Trainer,
    source: ViewSource,
    schedule: Schedule,
    workers: int,
    seconds: float,
    there: ScratchTargets | None = None,
) -> float:
    """Views a second of this process while its workers make them, and targets are read of the cache that is there."""
    views = loaded(source, endless(trainer.group, schedule), workers, trainer.group.device)
    read = there.stream(schedule.part_sizes(trainer.group)[0], endless=True) if there is not None else None
    try:
        return steps_together(stepping(trainer, schedule, views, read), seconds, trainer.group).rate
    finally:
        views.close()
        if read is not None:
            read.close()  # ends its threads


def endless(group: Processes, schedule: Schedule) -> Iterator[Cells]:
    """The cells of the run, again and again."""
    while True:
        yield from schedule.cells(group, 0, 0)


def steps_together(work: Callable[[], int], seconds: float, group: Processes) -> Taken:
    """As `repeat`, but the same number of times in every process: they wait for each other in each step."""
    few = repeat(work, 0.0, group.device, warm_up=2)
    step = group.sum([few.seconds / 2])[0] / group.world
    times = max(2, round(seconds / step))
    group.barrier()
    return repeat(lambda: sum(work() for _ in range(times)), 0.0, group.device, warm_up=0, least=1)
