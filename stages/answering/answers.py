"""What a student says of images: the likeliest classes of each head."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deit_pipe.pipeline.cells import render_cells
from deit_pipe.pipeline.compose import compose, normalise
from deit_pipe.pipeline.loader import to_batch
from deit_pipe.pipeline.plan import Cells
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.networks.student import StudentFacts
from deit_pipe.stages.networks.two_heads import heads
from deit_pipe.stages.opened.plain_views import eval_plan, eval_recipe
from deit_pipe.stages.training.evaluation import head_scores


@dataclass(frozen=True)
class Said(Facts):
    """A class with its number and the head's probability for it, 0..1."""

    class_: str
    label: int
    probability: float


@dataclass(frozen=True)
class Answered:
    """An image with what each head says of it, likeliest first."""

    image: str
    said: Mapping[str, Sequence[Said]]

    def to_json(self) -> dict[str, object]:
        """The image, and a list for each head."""
        return {"image": self.image} | {head: [one.to_json() for one in best] for head, best in self.said.items()}


@torch.inference_mode()
def answer(
    model: nn.Module, facts: StudentFacts, table: SampleTable, device: torch.device, top: int
) -> tuple[list[Answered], NDArray[np.uint8]]:
    """Ask about all images of a table at once.

    Returns:
        What is said of each, and the pixels that were seen, uint8 [B, S, S, 3]; in the table's order.
    """
    recipe = eval_recipe(facts.crop_ratio)
    cells = Cells(0, np.arange(len(table)))
    views = to_batch(render_cells(table, recipe, eval_plan(len(table)), cells, facts.image_size))
    mixed = compose(views.to(device), recipe)
    own, dist = heads(model, normalise(mixed, facts.mean, facts.std))
    scored = probabilities(own.float(), None if dist is None else dist.float())
    best = {head: one.topk(min(top, facts.num_classes), dim=1) for head, one in scored.items()}
    found = []
    order = np.argsort(views.samples)  # a plan has an order of its own
    for place in order.tolist():
        said = {
            head: [
                Said(facts.class_names[label], label, value)
                for value, label in zip(one.values[place].tolist(), one.indices[place].tolist(), strict=True)
            ]
            for head, one in best.items()
        }
        found.append(Answered(table.keys[int(views.samples[place])], said))
    return found, views.pixels.numpy()[order]


def probabilities(own: Tensor, dist: Tensor | None) -> dict[str, Tensor]:
    """Softmax [B, C] of both heads fused (mean of logits), and of each; with one head of that."""
    scores = head_scores(own, dist)
    return {head: scores[head].softmax(dim=1) for head in ("fused", "class", "dist") if head in scores}


def answers_text(answers: Iterable[Answered]) -> str:
    """An image, and a line for each head."""
    lines: list[str] = []
    for one in answers:
        lines.append(one.image)
        for head, best in one.said.items():
            lines.append(f"  {head:<6}" + "   ".join(f"{said.class_} {said.probability:.1%}" for said in best))
    return "\n".join(lines)


def answers_csv(answers: Iterable[Answered]) -> str:
    """A row for every image, head and class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "head", "rank", "class", "label", "probability"])
    for one in answers:
        for head, best in one.said.items():
            for rank, said in enumerate(best, 1):
                writer.writerow([one.image, head, rank, said.class_, said.label, f"{said.probability:.6g}"])
    return text.getvalue()
