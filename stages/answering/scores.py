"""What `evaluate` measures, as typed facts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deit_pipe.stages.answering.by_class import ClassRow, Pair
from deit_pipe.stages.answering.neighbours import Neighbours
from deit_pipe.stages.answering.speed import Speed
from deit_pipe.stages.console.facts import Facts, if_there


@dataclass(frozen=True)
class HeadScore(Facts):
    """Shares 0..1 of images: right; right among the five best, None of few classes; answered as the teacher does."""

    top1: float
    top5: float | None
    agree: float | None = if_there()


@dataclass(frozen=True, kw_only=True)
class StudentScores(Facts):
    """Accuracy of a student.

    Attributes:
        run, split, images, crop_ratio, images_per_second: what was measured, on what, how, how fast.
        scores: by way of answering: class, dist, fused, fused_softmax.
        by_crop_ratio: the same at both published crop ratios; None where one was measured.
        per_class, confusion: of the fused heads, or the only one; where they were asked for, as the rest is.
        knn, linear_probe: of neighbours and of a fitted classifier, by column of the vectors.
        speed: what the student costs to use.
    """

    run: str
    split: str
    images: int
    crop_ratio: float
    images_per_second: float
    scores: Mapping[str, HeadScore]
    by_crop_ratio: Mapping[str, Mapping[str, HeadScore]] | None
    per_class: Sequence[ClassRow] | None = if_there()
    confusion: Sequence[Pair] | None = if_there()
    knn: Neighbours | None = if_there()
    linear_probe: Mapping[str, float] | None = if_there()
    speed: Speed | None = if_there()


def head_scores_of(recorded: Mapping[str, Mapping[str, Any]]) -> dict[str, HeadScore]:
    """Scores as an evaluation gives them."""
    return {head: HeadScore(**values) for head, values in recorded.items()}
