"""Blocks that do not look like the others: a half-dead GPU, or a wrong normalisation, shows here.

Every block is a random subset of the same views, so its share of right answers, its confidence and its entropy differ
from the other blocks' by sampling alone. The robust z-score is the distance from the median of all blocks, in units
of the median absolute deviation (times 1.4826, which makes it a standard deviation for normal numbers), or of the
sampling error where that is larger: with few blocks the deviation alone would call the second block of three odd.

Shapes: R records (blocks).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Z_LIMIT = 6.0  # of 47,000 normal blocks and three statistics the largest is about 4.5
FEWEST_BLOCKS = 4  # of two, nobody can say which is wrong
NORMAL = 1.4826
STATISTICS = ("agreement", "confidence", "entropy")


class Outlier(NamedTuple):
    """One block and the statistic that is farthest from the others'."""

    epoch: int
    block: int
    start: int
    stop: int
    rank: int
    statistic: str
    value: float
    typical: float
    """Median over all blocks."""
    spread: float
    """Standard deviation to be expected of a block of this size."""
    z: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; slots as [first, last]."""
        return {
            "epoch": self.epoch,
            "block": self.block,
            "slots": [self.start, self.stop - 1],
            "rank": self.rank,
            "statistic": self.statistic,
            "value": self.value,
            "typical": self.typical,
            "spread": self.spread,
            "z": self.z,
        }


def block_values(columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    """The compared statistics of each block, float64 [R]; shares and probabilities 0..1, entropy in nats."""
    slots = np.maximum(1, columns["stop"] - columns["start"])
    return {
        "agreement": columns["agree"] / slots,
        "confidence": np.asarray(columns["top1"], np.float64),
        "entropy": np.asarray(columns["entropy"], np.float64),
    }


def find_outliers(columns: Mapping[str, NDArray[Any]], num_classes: int, limit: float = Z_LIMIT) -> list[Outlier]:
    """Blocks at least `limit` away from the others, the farthest first; none among fewer than four blocks."""
    count = len(columns["epoch"])
    if count < FEWEST_BLOCKS:
        return []
    values = block_values(columns)
    slots = (columns["stop"] - columns["start"]).astype(np.float64)
    per_view = view_deviations(values, columns["confidence"], num_classes)
    z = np.empty((len(STATISTICS), count))
    spread = np.empty_like(z)
    typical = np.empty(len(STATISTICS))
    for row, name in enumerate(STATISTICS):
        typical[row] = np.median(values[name])
        deviation = NORMAL * np.median(np.abs(values[name] - typical[row]))
        # the measured deviation is that of a block of the usual size; a ragged last block varies more
        measured = deviation * np.sqrt(np.median(slots) / slots)
        spread[row] = np.maximum(measured, per_view[name] / np.sqrt(slots))
        z[row] = (values[name] - typical[row]) / spread[row]
    worst = np.abs(z).argmax(axis=0)
    size = np.abs(z).max(axis=0)
    found = []
    for place in np.argsort(-size, kind="stable")[: int((size >= limit).sum())].tolist():
        row = int(worst[place])
        found.append(
            Outlier(
                epoch=int(columns["epoch"][place]),
                block=int(columns["index"][place]),
                start=int(columns["start"][place]),
                stop=int(columns["stop"][place]),
                rank=int(columns["rank"][place]),
                statistic=STATISTICS[row],
                value=float(values[STATISTICS[row]][place]),
                typical=float(typical[row]),
                spread=float(spread[row, place]),
                z=float(z[row, place]),
            )
        )
    return found


def view_deviations(
    values: Mapping[str, NDArray[np.float64]], confidence: NDArray[np.int64], num_classes: int
) -> dict[str, float]:
    """Standard deviation of each statistic over single views, as far as the ledger tells it.

    Agreement is yes or no. The confidence histogram [R, bins] gives the deviation of the confidence; that of the
    entropy is taken from the same histogram, as if all other classes shared the rest evenly, scaled to the true mean.
    """
    share = float(np.median(values["agreement"]))
    views = max(1, int(confidence.sum()))
    # an event that was never seen may still have a rate of one in the number of views of a block
    share = min(max(share, len(confidence) / (views + 2)), 1 - len(confidence) / (views + 2))
    weights = confidence.sum(axis=0) / views
    bins = len(weights)
    centres = (np.arange(bins) + 0.5) / bins
    rest = 1 - centres
    entropies = -centres * np.log(centres) - rest * np.log(rest / max(1, num_classes - 1))
    mean = float(weights @ entropies)
    scale = float(np.median(values["entropy"])) / mean if mean > 0 else 1.0
    return {
        "agreement": float(np.sqrt(share * (1 - share))),
        "confidence": max(_deviation(centres, weights), 0.5 / bins),
        "entropy": max(_deviation(entropies, weights) * scale, 1e-6),
    }


def blamed_ranks(outliers: list[Outlier], columns: Mapping[str, NDArray[Any]]) -> list[int]:
    """Processes of a distributed run half of whose blocks are outliers: a GPU, not a block, is at fault."""
    ranks, blocks = np.unique(columns["rank"], return_counts=True)
    if len(ranks) < 2:
        return []
    bad = np.bincount([outlier.rank for outlier in outliers], minlength=int(ranks.max()) + 1)
    return [int(rank) for rank, total in zip(ranks, blocks, strict=True) if bad[rank] >= 2 and 2 * bad[rank] >= total]


def _deviation(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    mean = weights @ values
    return float(np.sqrt(weights @ (values - mean) ** 2))
