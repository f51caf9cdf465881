"""The teacher as `cache-teacher` uses it: loaded, with a head for the data's classes, able to take the views."""

import torch

from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.progress import note
from deit_pipe.stages.machine.distributed import Processes
from deit_pipe.stages.networks.teacher import Teacher, load_teacher
from deit_pipe.stages.networks.teacher_head import facts_of, plain_classifier
from deit_pipe.stages.networks.teacher_input import read_input
from deit_pipe.stages.networks.teacher_network import wrong_size
from deit_pipe.stages.networks.teacher_sources import RANDOM, is_timms
from deit_pipe.stages.networks.weights import alias_line, write_teacher_run
from deit_pipe.stages.opened.images import say
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.teaching.batch_choice import DEFAULT_BATCH
from deit_pipe.stages.teaching.fitted_folders import fitted_folder, is_fitted_for, knows_classes, was_fitted_from
from deit_pipe.stages.teaching.head_fit import fit_head


def prepare_teacher(
    options: CacheTeacherOptions, group: Processes, table: SampleTable, image_size: int, workers: int
) -> Teacher:
    """The frozen teacher; with a head fitted to the data's classes where that was asked for (rank 0 fits, all load)."""
    names = table.class_names
    usual_fit = options.data == "digits" and is_timms(options.teacher)
    wants_fit = options.fit_head or (options.fit_head is None and usual_fit)
    given = read_input(options)
    say(alias_line(options.teacher) if is_timms(options.teacher) else [])

    def load(weights: str | None, any_head: bool) -> Teacher:
        return load_teacher(
            options.teacher,
            weights=weights,
            num_classes=len(names),
            class_names=names,
            device=group.device,
            precision=options.precision,
            seed=options.seed,
            any_head=any_head,
            image_size=image_size,
            given=given,
        )

    teacher = load(options.teacher_weights, any_head=wants_fit)
    say(teacher.lines)
    check_size(teacher, image_size)
    if options.fit_head and not is_timms(teacher.tag):
        plain_classifier(teacher)  # raises
    if options.fit_head:  # asked for by name: also where it knows the classes, or knows nothing
        fits = not is_fitted_for(teacher, table, teacher.seen_size(image_size))
    else:
        fits = wants_fit and not knows_classes(teacher, names)
    folder = fitted_folder(teacher.tag) if fits else None
    group.barrier()  # all have looked for a teacher's folder before one makes it
    if folder is None:
        return teacher
    if group.first and not was_fitted_from(folder, teacher, table, teacher.seen_size(image_size)):
        why = "has random weights" if teacher.head == RANDOM else "gets a new head for these classes"
        note(f"teacher {teacher.tag} {why}: fitting a head on its frozen features, kept in {folder}")
        batch_size = options.batch_size or DEFAULT_BATCH
        fitted = fit_head(teacher, table, image_size=image_size, batch_size=batch_size, workers=workers)
        write_teacher_run(folder, facts_of(fitted, teacher.seen_size(image_size), None), fitted.model)
    group.barrier()
    return load(str(folder), any_head=False)


def check_size(teacher: Teacher, image_size: int) -> None:
    """Refuse views that the network cannot take, before anything is written.

    Raises:
        UsageProblem: it is made for another.
    """
    try:
        teacher(torch.zeros(1, 3, image_size, image_size, device=teacher.device))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise wrong_size(teacher.tag, teacher.seen_size(image_size), error, teacher.trained_size) from error
