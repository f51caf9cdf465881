"""Statistics of a block, from the float32 logits: a labels-only cache has no second chance to take them.

Blocks are random subsets of the same views, so their statistics are comparable: a half-dead GPU or a wrong
normalisation shows as an outlier.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.formats import Arrays

CONFIDENCE_BINS = 20  # of [0, 1], each half open, the last closed
_ROWS = 1024  # at a time: the temporaries of a large block would triple its memory


@dataclass(frozen=True, kw_only=True)
class BlockStatistics:
    """Sums and means over the slots of one block."""

    agree: int
    """Slots whose teacher label is the label with the larger weight in the view."""
    agree_either: int
    """Slots whose teacher label is one of the two labels of a mixed view."""
    ties: int
    """Slots whose largest logit is not unique after rounding to float16."""
    top1: float
    """Mean probability of the teacher label, 0..1."""
    entropy: float
    """Mean entropy of the teacher's distribution, nats."""
    topk_mass: float | None
    """Mean probability of the kept classes, top-k only."""
    confidence: tuple[int, ...]
    """Histogram of the probability of the teacher label, CONFIDENCE_BINS counts."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "confidence": list(self.confidence)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        return cls(**{**data, "confidence": tuple(data["confidence"])})


def block_statistics(
    logits: NDArray[np.float32],
    arrays: Arrays,
    labels: NDArray[np.int64],
    partner_labels: NDArray[np.int64] | None = None,
) -> BlockStatistics:
    """Compute the statistics of logits [n, C], their encoded arrays and the true labels [n] of the views."""
    teacher = arrays["teacher_label"].astype(np.int64)
    either = teacher == labels
    agree = int(either.sum())
    if partner_labels is not None:
        either = either | (teacher == partner_labels)
    top1 = np.empty(len(logits))
    entropy = np.empty(len(logits))
    ties = 0
    for start in range(0, len(logits), _ROWS):
        rows = logits[start : start + _ROWS]
        shifted = rows - rows.max(axis=1, keepdims=True)
        weights = np.exp(shifted)
        total = weights.sum(axis=1, dtype=np.float64)
        top1[start : start + _ROWS] = 1 / total
        # entropy = log sum(w) - sum(w log w) / sum(w); far tails have w = 0 and w log w = 0
        entropy[start : start + _ROWS] = np.log(total) - (weights * shifted).sum(axis=1, dtype=np.float64) / total
        half = np.clip(rows, -65504, 65504).astype(np.float16)
        ties += int(((half == half.max(axis=1, keepdims=True)).sum(axis=1) > 1).sum())
    mass = None
    if "topk_logp" in arrays:
        mass = float(np.exp(arrays["topk_logp"].astype(np.float64)).sum(axis=1).mean())
    bins = np.minimum((top1 * CONFIDENCE_BINS).astype(np.int64), CONFIDENCE_BINS - 1)
    return BlockStatistics(
        agree=agree,
        agree_either=int(either.sum()),
        ties=ties,
        top1=float(top1.mean()),
        entropy=float(np.maximum(entropy, 0).mean()),
        topk_mass=mass,
        confidence=tuple(int(n) for n in np.bincount(bins, minlength=CONFIDENCE_BINS)),
    )
