"""The classifier of a teacher: taken off, fitted anew, written down."""

from dataclasses import replace

import torch
from torch import nn

from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.networks.teacher import Teacher, classes_cure
from deit_pipe.stages.networks.teacher_sources import is_timms
from deit_pipe.stages.networks.weights import TeacherRun, digest


def plain_classifier(teacher: Teacher) -> nn.Module:
    """The one layer that makes the logits.

    Raises:
        UsageProblem: it is none that can be fitted by itself.
    """
    if not is_timms(teacher.tag):
        raise UsageProblem(
            f"no head can be fitted on {teacher.tag}", expected="one of timm's models", cure=classes_cure(teacher)
        )
    classifier = teacher.model.get_classifier()  # type: ignore[operator]
    pointwise = isinstance(classifier, nn.Conv2d) and classifier.kernel_size == (1, 1)
    if not (pointwise or type(classifier) is nn.Linear) or classifier.bias is None:
        raise UsageProblem(
            f"no head can be fitted on {teacher.tag}",
            expected="one linear layer with a bias as its classifier",
            got=type(classifier).__name__,
            cure=f"train all of it with: deit-pipe train-teacher --teacher {teacher.tag}",
        )
    assert isinstance(classifier, nn.Module)
    return classifier


def with_head(teacher: Teacher, head: nn.Module, table: SampleTable) -> Teacher:
    """The same frozen body with a classifier that was fitted to these samples."""
    class_names = table.class_names
    teacher.model.reset_classifier(len(class_names))  # type: ignore[operator]
    classifier = plain_classifier(teacher)
    with torch.no_grad():
        for name, value in head.named_parameters():
            own = getattr(classifier, name)
            own.copy_(value.reshape(own.shape))  # a 1 x 1 convolution is a linear layer too
    model = teacher.model.to(teacher.device).eval().requires_grad_(False)
    return replace(
        teacher,
        model=model,
        weights_sha256=digest(model.state_dict()),
        head="fitted",
        num_classes=len(class_names),
        class_names=class_names,
        val_top1=None,
        body=teacher.body or teacher.source,
        body_sha256=teacher.weights_sha256,
        fitted_on=table.digest,
    )


def facts_of(teacher: Teacher, image_size: int, val_top1: float | None) -> TeacherRun:
    """What `teacher.json` says of it."""
    assert teacher.class_names is not None
    return TeacherRun(
        model=teacher.tag,
        head=teacher.head,
        image_size=image_size,
        mean=teacher.mean,
        std=teacher.std,
        class_names=teacher.class_names,
        val_top1=val_top1,
        body=teacher.body,
        body_sha256=teacher.body_sha256,
        fitted_on=teacher.fitted_on,
    )
