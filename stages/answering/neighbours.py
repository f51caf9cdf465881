"""How much a student's vectors know: classes of the nearest training images, and a linear classifier on them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.answering.vectors import read_vectors
from deit_pipe.stages.networks.student import StudentFacts
from deit_pipe.stages.opened.images import labelled_part

SHARPNESS = 0.07  # a neighbour votes with exp(cosine / 0.07), as usual for such students
AT_ONCE = 1024


@dataclass(frozen=True)
class Labelled:
    """Vectors float32 [N, D] by column, and labels int64 [N]; all held in memory."""

    vectors: dict[str, Tensor]
    labels: Tensor


@dataclass(frozen=True)
class Neighbours:
    """Share of images that their `k` nearest training images classify right, by the column of the vectors."""

    k: int
    top1: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """`k` and the columns, side by side."""
        return {"k": self.k, **self.top1}


def labelled_vectors(
    model: nn.Module, facts: StudentFacts, table: SampleTable, device: torch.device, **how: Any
) -> Labelled:
    """Of the images that have a label.

    Raises:
        Missing: none has.
    """
    table = labelled_part(table)
    parts: dict[str, list[NDArray[np.float32]]] = {}
    for found in read_vectors(model, facts, table, device, title="reading vectors", **how):
        for name, value in found.items():
            parts.setdefault(name, []).append(value)
    return Labelled(
        {name: torch.from_numpy(np.concatenate(values)) for name, values in parts.items()},
        torch.from_numpy(table.labels),
    )


def nearest_neighbours(known: Labelled, asked: Labelled, k: int, num_classes: int) -> dict[str, float]:
    """Top-1 of each column, 0..1: the k nearest by cosine vote for their class, near ones louder."""
    found = {}
    for name, own in known.vectors.items():
        keys = F.normalize(own, dim=1)
        right = 0
        queries_of = F.normalize(asked.vectors[name], dim=1)
        for start in range(0, len(queries_of), AT_ONCE):
            queries, labels = queries_of[start : start + AT_ONCE], asked.labels[start : start + AT_ONCE]
            near = (queries @ keys.T).topk(min(k, len(keys)), dim=1)
            votes = torch.zeros(len(queries), num_classes)
            votes.scatter_add_(1, known.labels[near.indices], (near.values / SHARPNESS).exp())
            right += int((votes.argmax(dim=1) == labels).sum())
        found[name] = right / len(asked.labels)
    return found


def linear_probe(known: Labelled, asked: Labelled, fit: Callable[[Tensor, Tensor], nn.Module]) -> dict[str, float]:
    """Top-1 of each column, 0..1, of a classifier that `fit` makes of vectors and labels."""
    found = {}
    for name, own in known.vectors.items():
        head = fit(own, known.labels)
        with torch.inference_mode():
            said = head(asked.vectors[name]).argmax(dim=1)
        found[name] = float((said == asked.labels).double().mean())
    return found


def vector_lines(knn: Neighbours | None, probe: Mapping[str, float] | None, images: int) -> list[str]:
    """What neighbours and probe found, for a person; of what was asked."""
    found = [] if knn is None else [(f"{knn.k} nearest", knn.top1)]
    found += [] if probe is None else [("linear probe", probe)]
    return [
        f"  {what} of {images:,} training images: "
        + "   ".join(f"{name} {top1:.2%}" for name, top1 in by_column.items())
        for what, by_column in found
    ]
