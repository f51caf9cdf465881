"""A cache that is ready to train from: its images opened and checked, its teachers complete; it gives proven batches.

`train-student` takes its targets here, and whoever has a trainer of his own his batches.
"""

import numbers
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any

import numpy as np
import torch

from deit_pipe.pipeline.data_set import DataSet
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.machine.distributed import Processes, choose_device
from deit_pipe.stages.machine.workers import choose_workers
from deit_pipe.stages.opened.cache import OpenedCache
from deit_pipe.stages.opened.cache import open_cache as open_views_of
from deit_pipe.stages.opened.replay import ReplayContext
from deit_pipe.stages.opened.same_program import check_same_program
from deit_pipe.stages.options.fields import is_number
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.training.adapted_settings import step_slots
from deit_pipe.stages.training.cached_run import asked_teachers, open_reader
from deit_pipe.stages.training.proven_batches import Batch, InputForm, ProvenBatches, checked_views
from deit_pipe.stages.training.target_sources import CachedTargets
from deit_pipe.stages.training.trainer import Schedule
from deit_pipe.store.manifest import TeacherIdentity
from deit_pipe.store.reader import TargetReader

Place = str | os.PathLike[str]
MAX_WHOLE = (1 << 31) - 1
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Cache:
    """Views and the answers of their teachers, opened for training; made by `open_cache`.

    Attributes:
        images: the splits; `images.train` is what the teachers saw.
    """

    def __init__(self, opened: OpenedCache, images: DataSet, readers: Sequence[TargetReader]) -> None:
        """Of a cache, the images it was made from and its complete teachers, checked by whoever opened them."""
        self.images = images
        self._opened, self._readers = opened, tuple(readers)
        self.context = ReplayContext(opened.stored, images.train)

    @property
    def place(self) -> str:
        """Folder or URL, as it was given."""
        return self._opened.place

    @property
    def plan(self) -> ViewPlan:
        """Which sample sits in which slot; the steps of an epoch are `plan.batch_count(batch_size)`."""
        return self._opened.plan

    @property
    def recipe(self) -> Recipe:
        """Which views may be drawn."""
        return self._opened.recipe

    @property
    def image_size(self) -> int:
        """Side of a view in pixels."""
        return self._opened.manifest.image_size

    @property
    def class_names(self) -> tuple[str, ...]:
        """In label order."""
        return self.images.train.class_names

    @property
    def teachers(self) -> tuple[TeacherIdentity, ...]:
        """Whose answers the batches hold, in this order."""
        return tuple(reader.identity for reader in self._readers)

    @property
    def epochs(self) -> int:
        """Epochs that all its teachers answered to; later passes show them again in turn, in another order."""
        return min(reader.epochs for reader in self._readers)

    def check_program(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        """Compose a test batch and compare it with what the cache recorded.

        Raises:
            Mismatch: this program, on this device, composes otherwise.
        """
        opened = self._opened
        check_same_program(opened.place, opened.provenance, opened.recipe, mean, std, device)

    def targets(self, cells: Callable[[], Iterable[Cells]]) -> CachedTargets:
        """The teachers' answers to these cells, read ahead; `cells` gives them anew each time."""
        return CachedTargets(self._readers, cells, self.context)

    def batches(
        self,
        batch_size: int,
        epoch: int = 0,
        *,
        start: int = 0,
        device: str | torch.device = "auto",
        workers: int | None = None,
        rank: int = 0,
        world: int = 1,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        smoothing: float = 0.1,
        order_seed: int | None = None,
    ) -> Iterator[Batch]:
        """The batches of one pass as `train-student` takes them, each proven before it is handed out.

        Every view's fingerprint is compared with the teacher's, and so is what became of the witnessed ones: the very
        images and labels of the batch. A ragged last batch is left out, unless it is the only one.

        Args:
            batch_size: views of a step over all processes; whole mix groups for each of them.
            epoch: pass of the run, from 0; after the cached epochs they come again, shuffled.
            start: steps of this pass that are done already.
            device: auto, cpu, cuda, ...: where the tensors are.
            workers: that make views; None: one for each core, at most 16.
            rank: of this process, which gets its share of each step.
            world: number of processes.
            mean: that the student's images are normalised with, RGB, 0..1 units.
            std: likewise.
            smoothing: of the true labels.
            order_seed: shuffle from the first pass on.

        Raises:
            UsageProblem, PlanError: an argument that cannot be. Mismatch: this program composes otherwise than the
                teacher's; while iterating also: a view differs, and is named.
        """
        asked = TrainStudentOptions(
            batch_size=batch_size, device=str(device), workers=workers, smoothing=smoothing, order_seed=order_seed
        )
        for name, given in (("batch_size", batch_size), ("smoothing", smoothing)):
            if given is None:  # an option that a preset decides; here nothing does
                raise UsageProblem(f"{name} cannot be None: no preset decides it here")
        rank, world = self._share(batch_size, rank, world)
        epoch, start = check_whole("epoch", epoch, 0), self._start(batch_size, start)
        group = Processes(rank, world, choose_device(asked.device))
        form = InputForm(
            mean=three_numbers("mean", mean, least=0.0),
            std=three_numbers("std", std, least=1e-6),
            num_classes=len(self.class_names),
            smoothing=smoothing,
        )
        self.check_program(form.mean, form.std, group.device)
        schedule = Schedule(
            plan=self.plan,
            epochs=epoch + 1,
            cached_epochs=self.epochs,
            batch_size=step_slots(batch_size, self.plan),
            accumulate=1,
            order_seed=order_seed,
            block_slots=self.teachers[0].block_slots,
        )
        return self._proven(lambda: schedule.cells(group, epoch, start), form, group.device, choose_workers(workers))

    def _share(self, batch_size: int, rank: int, world: int) -> tuple[int, int]:
        """Rank and world, checked."""
        world, rank = check_whole("world", world, 1), check_whole("rank", rank, 0)
        if rank >= world:
            raise UsageProblem(f"rank {rank} does not exist among {world} processes", expected=f"0 to {world - 1}")
        self.plan.check_batch(batch_size, world)
        return rank, world

    def _start(self, batch_size: int, start: int) -> int:
        """Steps that are done, checked: all of a pass at most."""
        start, steps = check_whole("start", start, 0), self.plan.batch_count(step_slots(batch_size, self.plan))
        if start > steps:
            raise UsageProblem(f"start {start:,} is beyond the end: a pass has {steps:,} steps of {batch_size:,} views")
        return start

    def _proven(
        self, cells: Callable[[], Iterator[Cells]], form: InputForm, device: torch.device, workers: int
    ) -> Iterator[Batch]:
        with ExitStack() as stack:
            views = checked_views(
                self.images.train,
                self.recipe,
                self.plan,
                cells(),
                image_size=self.image_size,
                workers=workers,
                device=device,
            )
            stack.callback(views.close)  # ends its workers
            targets = stack.enter_context(closing(self.targets(cells)))
            yield from ProvenBatches(views, targets, self.recipe, form, device)


def open_cache(
    path: Place, *, data: Place | None = None, teacher: str | None = None, val_data: Place | None = None
) -> Cache:
    """Open a cache, check that the images are its own and its teachers complete.

    Args:
        path: folder or URL of the cache.
        data: its images, as in `--data`; None: where they were when it was made.
        teacher: names of its teachers, `a` or `a,b`; None: the only one.
        val_data: other validation images.

    Raises:
        UsageProblem: an argument that cannot be. CacheMissing, DataMissing: nothing there.
        CacheIncomplete: the teacher has not answered to everything. CacheMismatch: other images, or another program.
        CacheCorrupt: it is damaged.
    """
    given: dict[str, Any] = {"cache": path, "data": data, "teacher": teacher, "val_data": val_data}
    asked = TrainStudentOptions(**given)  # a path becomes the text that it is
    if asked.teacher is not None and ":" in asked.teacher:
        raise UsageProblem(
            f"teacher {asked.teacher!r} gives weights, which batches do not have",
            expected="names of teachers: a or a,b",
            cure="give the weights to the loss: DistillationLoss(..., teacher_weights=(0.7, 0.3))",
        )
    opened = open_views_of(asked.cache)
    images = opened.open_images(asked.data, asked.val_data)
    readers = [open_reader(asked.cache, name) for name in asked_teachers(opened.stored, asked.teacher)]
    return Cache(opened, images, readers)


def check_whole(name: str, value: object, least: int) -> int:
    """A whole number of at least `least`, numpy's too, that an address of random numbers can hold.

    Raises:
        UsageProblem: it is none.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not least <= value <= MAX_WHOLE:  # type: ignore[operator]
        most = f", at most {MAX_WHOLE:,}" if whole else ""
        raise UsageProblem(f"{name} cannot be {value!r}: expected a whole number of at least {least}{most}")
    return int(value)  # type: ignore[call-overload, no-any-return]


def three_numbers(name: str, values: Any, least: float) -> tuple[float, ...]:
    """A mean or std, checked; numbers of 0..255 would be taken for a picture that is next to black.

    Raises:
        UsageProblem: not one number for each of red, green, blue, or not in units of 0..1.
    """
    three = isinstance(values, Sequence | np.ndarray) and len(values) == 3
    if not three or not all(is_number(value) and least <= value <= 1.0 for value in values):
        raise UsageProblem(
            f"{name} cannot be {values!r}",
            expected=f"three numbers: red, green, blue, each from {least:g} to 1",
            cure="numbers of 0..255 are divided by 255",
        )
    return tuple(float(value) for value in values)
