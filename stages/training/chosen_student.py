"""Which student a run trains: its name and sizes, as asked for or as the views suggest."""

from pathlib import Path

import timm

from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.networks.student import CUSTOM, StudentFacts, describe_student, read_facts
from deit_pipe.stages.networks.weights import resolve_tag
from deit_pipe.stages.opened.plain_views import default_crop_ratio
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.training.settings import FEW_WIDTH, TrainingSettings
from deit_pipe.store.manifest import Manifest


def chosen_student(options: TrainStudentOptions, image_size: int) -> tuple[str, dict[str, int | None]]:
    """Name and custom sizes: as asked; of the run this one starts from; else DeiT-Ti, or custom for small images."""
    sizes: dict[str, int | None] = {
        "patch_size": options.patch_size, "width": options.width, "depth": options.depth, "heads": options.heads
    }  # fmt: skip
    if options.student:
        return options.student, sizes
    if options.init_from:
        old = read_facts(Path(options.init_from))
        names = {"patch_size": "patch_size", "width": "embed_dim", "depth": "depth", "heads": "num_heads"}
        kept = {name: old.sizes.get(theirs) for name, theirs in names.items()}
        return old.model, {**kept, **({"patch_size": options.patch_size} if options.patch_size else {})}
    return ("deit_tiny_distilled_patch16_224" if image_size >= 160 else CUSTOM), sizes


def student_facts(
    options: TrainStudentOptions, manifest: Manifest, table: SampleTable, settings: TrainingSettings
) -> StudentFacts:
    """The student for these views and classes."""
    model, sizes = chosen_student(options, manifest.image_size)
    return describe_student(
        model, image_size=manifest.image_size, class_names=table.class_names,
        crop_ratio=options.eval_crop_ratio or default_crop_ratio(manifest.image_size, model),
        drop_path=settings.drop_path, **sizes,  # type: ignore[arg-type]
    )  # fmt: skip


def token_width(student: str, sizes: dict[str, int | None]) -> int:
    """Features of each token of a student: as asked for a custom one, else timm's."""
    if student == CUSTOM:
        return sizes["width"] or FEW_WIDTH
    model = timm.create_model(resolve_tag(student).partition(".")[0], pretrained=False)
    return int(model.num_features)
