"""What a teacher says about plain images, compared with their labels."""

from collections.abc import Generator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.networks.teacher import Teacher
from deit_pipe.stages.teaching.plain_images import STEP, PlainImages
from deit_pipe.stages.teaching.skill import Estimate, calibration_error, skill, wilson


@dataclass(frozen=True)
class Answers:
    """Answers to n labelled images.

    Attributes:
        labels: true classes, int64 [n].
        said: the teacher's classes, int64 [n].
        confidence: the probability it gives them, float64 [n], 0..1.
        num_classes: C.
    """

    labels: NDArray[np.int64]
    said: NDArray[np.int64]
    confidence: NDArray[np.float64]
    num_classes: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which answers are the label, bool [n]."""
        return np.asarray(self.said == self.labels)

    @cached_property
    def accuracy(self) -> Estimate:
        """Share of the images that is answered right: top-1."""
        return wilson(float(self.right.mean()), len(self))

    @cached_property
    def skill(self) -> Estimate:
        """See `teaching.skill`."""
        return skill(self.labels, self.said, self.num_classes)

    @property
    def calibration_error(self) -> float:
        """ECE, 0..1."""
        return calibration_error(self.confidence, self.right)

    def first(self, count: int) -> "Answers":
        """Only the first `count`."""
        part = slice(count)
        return Answers(self.labels[part], self.said[part], self.confidence[part], self.num_classes)


def ask_in_steps(
    teacher: Teacher, images: PlainImages, image_size: int, most: int | None = None
) -> Generator[Answers, None, None]:
    """Yield all answers so far after every 256 images, and after the last; nothing where no image is labelled.

    Raises:
        Mismatch: an answer is not finite.
    """
    labels, said = np.empty(0, np.int64), np.empty(0, np.int64)
    confidence = np.empty(0, np.float64)
    total = len(images) if most is None else min(most, len(images))
    for pixels, batch_labels in images.read(image_size, teacher.device, total):
        logits = teacher(pixels).double()
        if not bool(torch.isfinite(logits).all()):
            raise Mismatch(
                f"teacher {teacher.tag} ({teacher.source}) gives answers that are not finite",
                expected="logits",
                got="nan or infinity: its weights are broken, or overflow",
                cure="give other weights with --teacher-weights, or --precision fp32",
            )
        sure, best = torch.softmax(logits, dim=1).max(dim=1)
        labels = np.concatenate([labels, batch_labels])
        said = np.concatenate([said, best.cpu().numpy()])
        confidence = np.concatenate([confidence, sure.cpu().numpy()])
        if len(labels) % STEP == 0 or len(labels) == total:
            yield Answers(labels, said, confidence, teacher.num_classes)


def ask(teacher: Teacher, images: PlainImages, image_size: int, most: int | None = None) -> Answers | None:
    """All answers at once; None where no image is labelled."""
    answers = None
    for answers in ask_in_steps(teacher, images, image_size, most):  # noqa: B007  # the last is all of them
        pass
    return answers
