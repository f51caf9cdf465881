"""Which student a run trains: its name and sizes, as asked for or as the views suggest."""

from dataclasses import asdict

import timm

from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.networks.custom_student import (
    CUSTOM,
    CustomSizes,
    custom_sizes,
    custom_text,
    is_custom,
    read_custom,
)
from deit_pipe.stages.networks.starting_weights import find_start
from deit_pipe.stages.networks.student import StudentFacts, describe_student
from deit_pipe.stages.networks.weights import resolve_tag
from deit_pipe.stages.opened.plain_views import default_crop_ratio
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.training.published import TrainingSettings
from deit_pipe.store.manifest import Manifest


def chosen_student(options: TrainStudentOptions, image_size: int) -> tuple[str, CustomSizes]:
    """Name and custom sizes: as asked; of the weights this one starts from; else DeiT-Ti, or custom for small images.

    Raises:
        UsageProblem: custom sizes that cannot be read.
    """
    if options.student and not is_custom(options.student):
        return options.student, CustomSizes()
    model, sizes = ("deit_tiny_distilled_patch16_224" if image_size >= 160 else CUSTOM), CustomSizes()
    if options.init_from:
        old = find_start(options.init_from, options.student)
        model = old.model
        sizes = custom_sizes(old.sizes)
    return (CUSTOM, read_custom(options.student, sizes)) if options.student else (model, sizes)


def student_text(options: TrainStudentOptions, image_size: int) -> str:
    """The student as `--student` takes it; sizes that are those of the weights it starts from are left out."""
    model, _ = chosen_student(options, image_size)
    return model if model != CUSTOM else custom_text(read_custom(options.student or CUSTOM))


def student_facts(
    options: TrainStudentOptions, manifest: Manifest, table: SampleTable, settings: TrainingSettings
) -> StudentFacts:
    """The student for these views and classes."""
    model, sizes = chosen_student(options, manifest.image_size)
    return describe_student(
        model,
        image_size=manifest.image_size,
        class_names=table.class_names,
        crop_ratio=options.eval_crop_ratio or default_crop_ratio(manifest.image_size, model),
        drop_path=settings.drop_path,
        **asdict(sizes),
    )


def token_width(student: str, sizes: CustomSizes) -> int:
    """Features of each token of a student: as asked for a custom one, else timm's."""
    if student == CUSTOM:
        return sizes.width
    model = timm.create_model(resolve_tag(student).partition(".")[0], pretrained=False)
    return int(model.num_features)
