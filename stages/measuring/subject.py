"""What `bench` measures: the very job that the defaults of both stages would be, with random weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch

from deit_pipe.pipeline.data_choice import DataChoice
from deit_pipe.pipeline.data_set import DataSet
from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.pipeline.recipe import load_recipe
from deit_pipe.stages.console.progress import note
from deit_pipe.stages.machine.distributed import Processes
from deit_pipe.stages.measuring.forecast import Job
from deit_pipe.stages.measuring.usual_epochs import usual_epochs
from deit_pipe.stages.measuring.views import ViewSource
from deit_pipe.stages.networks.student import describe_student
from deit_pipe.stages.networks.teacher import Teacher, load_teacher
from deit_pipe.stages.networks.teacher_sources import RANDOM
from deit_pipe.stages.opened.images import open_images
from deit_pipe.stages.opened.plain_views import default_crop_ratio, default_image_size, is_small
from deit_pipe.stages.options.bench import BenchOptions
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.logits import read_logits
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.teaching.batch_choice import choose_batch, padding
from deit_pipe.stages.training.adapted_settings import adapt_settings, step_slots
from deit_pipe.stages.training.building import build_trainer
from deit_pipe.stages.training.chosen_student import chosen_student, token_width
from deit_pipe.stages.training.decisions import Decisions, make_loss
from deit_pipe.stages.training.settings import choose_preset, resolve_settings
from deit_pipe.stages.training.trainer import Schedule, Trainer
from deit_pipe.store.formats import TargetFormat
from deit_pipe.store.layout import block_slots_for


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The job, opened.

    Attributes:
        data: the images, by split.
        source: the training images and their views.
        teacher: with its batch size and, of its cache, the block size and the format of its targets.
        trainer: of the student, ready to step, with its schedule and the preset's name.
        cached_epochs: of stage one.
        threads: of torch, in stage one.
    """

    data: DataSet
    source: ViewSource
    teacher: Teacher
    batch_size: int
    block_slots: int
    targets: TargetFormat
    trainer: Trainer
    schedule: Schedule
    preset: str
    cached_epochs: int
    threads: int

    @contextmanager
    def teacher_threads(self) -> Iterator[None]:
        """Give torch the threads that it had before a student of a few parameters took all but one from it."""
        now = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(now)

    @property
    def job(self) -> Job:
        """How much work it is."""
        slots, schedule = self.source.plan.num_slots, self.schedule
        images = self.data.val if self.data.val is not None else self.data.test
        times = schedule.epochs if self.data.val is not None else 1
        return Job(
            cached_views=slots * self.cached_epochs,
            padding=padding(slots, self.block_slots, self.batch_size),
            trained_views=schedule.steps * min(schedule.batch_size, slots) * schedule.epochs,
            trained_epochs=schedule.epochs,
            evaluated=len(images) * times if images is not None else 0,
        )

    @property
    def raw_bytes(self) -> int:
        """Of all training images as raw pixels, from the mean of some."""
        table = self.source.table
        some = np.linspace(0, len(table) - 1, min(64, len(table))).astype(int).tolist()
        return round(float(np.mean([self.source.pixel_bytes(sample) for sample in some])) * len(table))


def open_subject(options: BenchOptions, group: Processes) -> Subject:
    """Images, teacher and student as both stages would have them, with random weights.

    Raises:
        UsageProblem: no such model, or one that cannot take these views.
    """
    threads = torch.get_num_threads()
    data = open_images(options.data, DataChoice())
    table = data.train
    recipe = load_recipe("small" if is_small(table) else "deit")
    source = ViewSource(table, recipe, ViewPlan.for_recipe(len(table), recipe, 0), default_image_size(table))
    caching = CacheTeacherOptions(teacher=options.teacher, data=options.data, device=options.device)
    teacher = load_teacher(
        options.teacher,
        weights=RANDOM,
        num_classes=len(table.class_names),
        class_names=table.class_names,
        device=group.device,
        precision=caching.precision,
        image_size=source.image_size,
    )
    text, taus = read_logits(caching.logits)
    targets = TargetFormat.parse(text, taus, len(table.class_names))
    block = block_slots_for(targets, len(table.class_names), recipe.mix_group, len(table))
    training = TrainStudentOptions(student=options.student, device=options.device)
    cached, _ = usual_epochs(None, "", source)
    trainer, schedule, preset = open_student(training, source, group, cached, block)
    return Subject(
        data=data,
        source=source,
        teacher=teacher,
        batch_size=choose_batch(len(table), block, recipe.mix_group),
        block_slots=block,
        targets=targets,
        trainer=trainer,
        schedule=schedule,
        preset=preset,
        cached_epochs=cached,
        threads=threads,
    )


def open_student(
    options: TrainStudentOptions, source: ViewSource, group: Processes, cached_epochs: int, block_slots: int
) -> tuple[Trainer, Schedule, str]:
    """The student as train-student would build it for these views, its schedule, and the name of its preset."""
    table, plan, size = source.table, source.plan, source.image_size
    preset = choose_preset(options, source.recipe, size, len(table))
    student, sizes = chosen_student(options, size)
    width = token_width(student, sizes)
    settings = resolve_settings(options, preset.values, student, num_samples=len(table), width=width)
    settings, lines = adapt_settings(settings, options, preset.name, plan, group.world)
    for line in lines if group.first else []:
        note(line)
    decided = Decisions(
        names=[],
        preset=preset,
        settings=settings,
        loss=make_loss(options, settings),
        precision=options.precision or ("bf16" if group.device.type == "cuda" else "fp32"),
        config={},
    )
    facts = describe_student(
        student,
        image_size=size,
        class_names=table.class_names,
        crop_ratio=default_crop_ratio(size, student),
        drop_path=settings.drop_path,
        **asdict(sizes),
    )
    trainer = build_trainer(options, decided, facts, source.recipe, group)
    trainer.network.train()
    schedule = Schedule(
        plan=plan,
        epochs=settings.epochs,
        cached_epochs=min(cached_epochs, settings.epochs),
        batch_size=step_slots(settings.batch_size, plan),
        accumulate=options.accumulate,
        order_seed=options.order_seed,
        block_slots=block_slots,
    )
    return trainer, schedule, preset.name
