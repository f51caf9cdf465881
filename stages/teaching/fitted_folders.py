"""Folders of teachers with fitted heads: where one is kept, and whether it is the one that is wanted."""

from pathlib import Path

from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.networks.teacher import Teacher
from deit_pipe.stages.networks.teacher_sources import TEACHER_RUN, own_teacher_run
from deit_pipe.stages.networks.weights import read_teacher_run


def fitted_folder(tag: str) -> Path:
    """Where a head fitted on this teacher is kept: a folder that is free, or holds an earlier one of the same teacher.

    Raises:
        Mismatch: trained teachers are in both; a fitted head never replaces one.
    """
    folders = (TEACHER_RUN, own_teacher_run(tag))
    for folder in folders:
        facts = read_teacher_run(folder)
        if facts is None or (facts.model == tag and facts.head == "fitted"):
            return folder
    raise Mismatch(
        f"no place for the fitted head of {tag}: {' and '.join(map(str, folders))} hold other teachers",
        expected="one of them to be free",
        cure=f"move one away, or fit it elsewhere with: deit-pipe train-teacher --teacher {tag} --fit-head --out DIR",
    )


def knows_classes(teacher: Teacher, class_names: tuple[str, ...]) -> bool:
    """Whether it answers with as many classes, and with these where it says which."""
    return teacher.num_classes == len(class_names) and teacher.class_names in (None, class_names)


def is_fitted_for(teacher: Teacher, table: SampleTable, image_size: int) -> bool:
    """Whether its head was fitted on these very samples at this size."""
    return teacher.head == "fitted" and teacher.fitted_on == table.digest and teacher.trained_size == image_size


def was_fitted_from(folder: Path, teacher: Teacher, table: SampleTable, image_size: int) -> bool:
    """Whether a folder holds the head that fitting this teacher's body on these samples gives."""
    facts = read_teacher_run(folder)
    return (
        facts is not None
        and facts.head == "fitted"
        and (facts.body_sha256, facts.fitted_on, facts.image_size) == (teacher.weights_sha256, table.digest, image_size)
        and facts.class_names == table.class_names
        and (facts.mean, facts.std) == (teacher.mean, teacher.std)
    )
