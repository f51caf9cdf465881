"""Accuracy of a student's heads on plain images, and how often they agree with a teacher."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from deit_pipe.pipeline.compose import compose, normalise
from deit_pipe.pipeline.loader import load_views
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.errors import Missing
from deit_pipe.stages.console.progress import progress
from deit_pipe.stages.machine.distributed import Processes
from deit_pipe.stages.networks.student import StudentFacts
from deit_pipe.stages.networks.teacher import Teacher
from deit_pipe.stages.networks.two_heads import has_two_heads, heads
from deit_pipe.stages.opened.plain_views import eval_cells, eval_plan, eval_recipe
from deit_pipe.stages.training.losses import DistillationLoss
from deit_pipe.stages.training.shown_answers import ShownAnswers

BEST_OF = 5  # "top-5"
CROP_RATIOS = (0.875, 1.0)
FULL_SIZE = 160  # px; smaller images are evaluated whole
Scores = dict[str, dict[str, float | None]]

DISTILLED_HEADS = ("class", "dist", "fused", "fused_softmax")


@dataclass
class HeadCounts:
    """Views of which a head's first, or one of its five best, classes is right; and equals the teacher's."""

    top1: float = 0.0
    top5: float = 0.0
    agree: float = 0.0

    def add(self, scores: Tensor, labels: Tensor, answers: Tensor | None) -> None:
        """Count scores [B, C] against labels [B] and, where there are some, a teacher's answers [B]."""
        best = scores.topk(min(BEST_OF, scores.shape[1]), dim=1).indices
        hits = best == labels[:, None]
        self.top1 += float(hits[:, 0].sum())
        self.top5 += float(hits.any(dim=1).sum())
        if answers is not None:
            self.agree += float((best[:, 0] == answers).sum())


def head_scores(class_logits: Tensor, dist_logits: Tensor | None) -> dict[str, Tensor]:
    """Scores [B, C] of each way to answer: a single head, the mean of logits, the sum of softmaxes.

    The mean of logits is what timm and the official code answer with; the paper (section 4) adds the softmaxes. Their
    answers differ on a few percent of images.
    """
    if dist_logits is None:
        return {"class": class_logits}
    return {
        "class": class_logits,
        "dist": dist_logits,
        "fused": (class_logits + dist_logits) / 2,
        "fused_softmax": class_logits.softmax(dim=-1) + dist_logits.softmax(dim=-1),
    }


@dataclass
class ModelCounts:
    """What a model's heads have answered, by head."""

    model: nn.Module
    heads: dict[str, HeadCounts]

    @classmethod
    def of(cls, model: nn.Module) -> Self:
        """Nothing yet."""
        names = DISTILLED_HEADS if has_two_heads(model) else ("class",)
        return cls(model, {name: HeadCounts() for name in names})

    def add(self, inputs: Tensor, labels: Tensor, answers: Tensor | None) -> dict[str, Tensor]:
        """Count its answers to inputs [B, 3, S, S], and return them by head; the rest as `HeadCounts.add` takes it."""
        class_logits, dist_logits = heads(self.model, inputs)
        scored = head_scores(class_logits.float(), None if dist_logits is None else dist_logits.float())
        for name, scores in scored.items():
            self.heads[name].add(scores, labels, answers)
        return scored

    def over_all(self, group: Processes, seen: int, labelled: int, num_classes: int, *, taught: bool) -> Scores:
        """Shares of the images that all processes have seen, and of those with a label."""
        flat = [value for one in self.heads.values() for value in (one.top1, one.top5, one.agree)]
        images, known, *values = group.sum([float(seen), float(labelled), *flat])
        result: Scores = {}
        for place, name in enumerate(self.heads):
            top1, top5, agree = values[3 * place : 3 * place + 3]
            result[name] = {"top1": top1 / known, "top5": top5 / known if num_classes > BEST_OF else None}
            if taught:
                result[name]["agree"] = agree / images
        return result


def evaluate_student(model: nn.Module, facts: StudentFacts, table: SampleTable, group: Processes, **how: Any) -> Scores:
    """Scores of one model; arguments and errors as of `evaluate_students`."""
    return evaluate_students([model], facts, table, group, **how)[0]


@torch.inference_mode()
def evaluate_students(
    models: Sequence[nn.Module],
    facts: StudentFacts,
    table: SampleTable,
    group: Processes,
    *,
    batch_size: int = 128,
    workers: int = 0,
    crop_ratio: float | None = None,
    teacher: Teacher | None = None,
    quiet: bool = True,
    shown: ShownAnswers | None = None,
    shown_of: nn.Module | None = None,
) -> list[Scores]:
    """Top-1 and top-5 of every head over all labelled images, each counted once on any number of processes.

    Unlabelled images (label -1) count only in the agreement with a teacher. All models see the same batches: an image
    is decoded once. `shown` gathers what a page shows of the model `shown_of`.

    Returns:
        for each model `{"class": {"top1": ..., "top5": ...}, "dist": ..., "fused": ..., "fused_softmax": ...}`,
        fractions 0..1; with a teacher also `agree`. A model without distillation head has only `class`. `top5` is None
        where there are no more than 5 classes: it would be 1 whatever the student says.

    Raises:
        Missing: no image has a label.
    """
    check_has_labels(table)
    training = [model.training for model in models]
    for model in models:
        model.eval()
        group.share(model.buffers())  # batch normalisation as it is kept, not as this process's last part left it
    recipe = eval_recipe(facts.crop_ratio if crop_ratio is None else crop_ratio)
    counts = [ModelCounts.of(model) for model in models]
    seen = labelled = 0
    cells = eval_cells(len(table), batch_size)[group.rank :: group.world]
    with progress(
        "evaluating", sum(len(cell.slots) for cell in cells), "images", quiet=quiet or not group.first
    ) as bar:
        for views in load_views(
            table,
            recipe,
            eval_plan(len(table)),
            cells,
            image_size=facts.image_size,
            workers=workers,
            pin_memory=group.device.type == "cuda",
        ):
            batch = views.to(group.device, non_blocking=True)
            mixed = compose(batch, recipe)
            inputs = normalise(mixed, facts.mean, facts.std)
            answers = None if teacher is None else teacher(mixed).argmax(dim=1)
            for one in counts:
                scored = one.add(inputs, batch.labels, answers)
                if shown is not None and one.model is shown_of:
                    shown.add(views, scored)
            seen += len(views)
            labelled += int((views.labels >= 0).sum())
            bar.advance(len(views))
    for model, before in zip(models, training, strict=True):
        model.train(before)
    if shown is not None:
        shown.share(group)
    return [one.over_all(group, seen, labelled, facts.num_classes, taught=teacher is not None) for one in counts]


def check_has_labels(table: SampleTable) -> None:
    """Refuse images of which none says what is right.

    Raises:
        Missing: no image has a label.
    """
    if not (table.labels >= 0).any():
        raise Missing(
            f"{table.name} has no labelled image to evaluate on",
            expected=f"labels of {len(table.class_names)} classes",
            got=f"{len(table)} images without label",
            cure="give labelled images with --val-data (train-student) or --data (evaluate)",
        )


def by_crop_ratio(
    model: nn.Module,
    facts: StudentFacts,
    table: SampleTable | None,
    group: Processes,
    known: Scores | None,
    init_from: str | None,
    **how: Any,
) -> dict[str, Scores] | None:
    """Scores at both published crop ratios, by ratio: the official code's 0.875 (438 px at 384) and timm's 1.

    Args:
        model: the student.
        facts: of it.
        table: what is measured on.
        group: of processes.
        known: its scores at its own ratio, which are not measured again.
        init_from: the run that it started from; both ratios are reported of such students only, unless their images
            are small.
        how: as `evaluate_student` takes it.
    """
    if init_from is None or table is None or not known or facts.image_size < FULL_SIZE:
        return None
    return {
        f"{ratio:g}": known
        if ratio == facts.crop_ratio
        else evaluate_student(model, facts, table, group, crop_ratio=ratio, **how)
        for ratio in CROP_RATIOS
    }


def best_answer(model: nn.Module, loss: DistillationLoss, labelled: bool = True) -> str:
    """Which answer counts as the run's result: the fused heads where both are trained, else the one that is.

    Without a single labelled image nothing trains the class head.
    """
    taught = loss.kind != "none" and loss.alpha > 0
    if not has_two_heads(model) or not (taught or loss.dist_label):
        return "class"
    return "dist" if taught and (loss.alpha == 1 or not labelled) else "fused"
