"""How good answers are: accuracy, skill with its interval, calibration. Numbers only; no images, no torch.

Shapes: n answered images, C classes, K of them seen.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Z = 1.96  # two-sided 95 %
CALIBRATION_BINS = 15


class Estimate(NamedTuple):
    """A number with the 95 % interval around it."""

    value: float
    low: float
    high: float


def wilson(share: float, count: float) -> Estimate:
    """A share of `count` independent answers (a real number: it may be an effective count), with Wilson's interval.

    Unlike the normal interval it stays inside 0..1 and has a width when all answers are right.
    """
    spread = 1 + Z * Z / count
    middle = (share + Z * Z / (2 * count)) / spread
    half = Z / spread * float(np.sqrt(share * (1 - share) / count + (Z / (2 * count)) ** 2))
    return Estimate(share, middle - half, middle + half)


def class_accuracy(labels: NDArray[np.int64], said: NDArray[np.int64], num_classes: int) -> Estimate:
    """Mean accuracy of the classes seen: every class counts the same, however many images it has.

    Its variance is that of K class means of n_c images, sum(1/n_c) / K^2 of a single answer's, so the interval is
    Wilson's for K^2 / sum(1/n_c) answers. Spread between the classes only makes the true variance smaller.

    Args:
        labels: true classes, int64 [n], 0..C-1, n at least 1.
        said: answers, likewise.
        num_classes: C.
    """
    images = np.bincount(labels, minlength=num_classes)
    right = np.bincount(labels[labels == said], minlength=num_classes)
    seen = images > 0
    share = float((right[seen] / images[seen]).mean())
    return wilson(share, float(seen.sum() ** 2 / (1 / images[seen]).sum()))


def skill(labels: NDArray[np.int64], said: NDArray[np.int64], num_classes: int) -> Estimate:
    """Mean class accuracy on the scale where 0 is guessing and 1 is always right: (a - 1/C) / (1 - 1/C)."""
    chance = 1 / num_classes
    return Estimate(*((a - chance) / (1 - chance) for a in class_accuracy(labels, said, num_classes)))


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """ECE: mean distance between confidence and accuracy over 15 equal bins of (0, 1], weighted by their answers.

    Args:
        confidence: probability of the answer given, float64 [n], 0..1.
        right: whether it was the label, bool [n].
    """
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    gap = np.bincount(bins, confidence - right, CALIBRATION_BINS)
    return float(np.abs(gap).sum() / len(confidence))
