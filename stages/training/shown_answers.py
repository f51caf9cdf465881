"""What a run's page shows of its last evaluation: how many of each class are right, and a few images with answers."""

import base64
import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from deit_pipe.pipeline.loader import ViewBatch
from deit_pipe.pipeline.samples import SampleTable, class_name
from deit_pipe.stages.machine.distributed import Processes

KEPT = 6  # images that are right, and as many that are wrong
SIDE, SQUARES = 96, 64  # pixels of a kept image, at most; up to so many nothing is lost
HEADS = ("fused", "class", "dist")


class ShownAnswers:
    """Gathers while a student is evaluated: `right` and `images` of each class; the first images of either kind."""

    def __init__(self, answer: str, table: SampleTable) -> None:
        """Of the head that counts, on these images."""
        self.answer, self.table = answer, table
        self.counts = torch.zeros(len(table.class_names), 2, dtype=torch.float64)
        self.kept: dict[bool, list[dict[str, Any]]] = {True: [], False: []}

    def add(self, views: ViewBatch, scored: dict[str, Tensor]) -> None:
        """Count a batch: logits [B, C] of each way of answering."""
        labels = views.labels
        right = scored[self.answer].argmax(dim=1).cpu() == labels
        known = labels >= 0
        pairs = torch.stack([right, torch.ones_like(right)], dim=1)[known].double()
        self.counts.index_add_(0, labels[known], pairs)
        for place in torch.nonzero(known).flatten().tolist():
            kept = self.kept[bool(right[place])]
            if len(kept) < KEPT:
                kept.append(self._picture(views, scored, place))
            elif all(len(one) == KEPT for one in self.kept.values()):
                break

    def share(self, group: Processes) -> None:
        """Sum the counts of all processes; each keeps its own images."""
        self.counts = torch.tensor(group.sum(self.counts.flatten().tolist()), dtype=torch.float64).reshape(-1, 2)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: `answer`, `classes` (class, images, right), `pictures`, wrong ones first."""
        rows = zip(self.table.class_names, self.counts.long().tolist(), strict=True)
        return {
            "answer": self.answer,
            "classes": [{"class": name, "images": images, "right": right} for name, (right, images) in rows],
            "pictures": [*self.kept[False], *self.kept[True]],
        }

    def _picture(self, views: ViewBatch, scored: dict[str, Tensor], place: int) -> dict[str, Any]:
        names, said = self.table.class_names, {}
        for head in HEADS:
            if head in scored:
                best = scored[head][place].float().softmax(dim=0).max(dim=0)
                said[head] = [class_name(names, int(best.indices)), float(best.values)]
        kind, data = encoded(views.pixels[place].numpy())
        return {
            "image": self.table.keys[int(views.samples[place])],
            "class": class_name(names, int(views.labels[place])),
            "said": said,
            "kind": kind,
            "data": base64.b64encode(data).decode(),
        }


def encoded(pixels: NDArray[np.uint8]) -> tuple[str, bytes]:
    """A small picture of pixels uint8 [S, S, 3], and its kind: png, or jpeg where it is large."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    kind = "png" if max(image.size) <= SQUARES else "jpeg"
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    image.save(file, kind)
    return kind, file.getvalue()
