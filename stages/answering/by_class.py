"""Accuracy by class, and what is taken for what."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.answering.in_order import read_in_order
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.networks.student import StudentFacts
from deit_pipe.stages.networks.two_heads import heads
from deit_pipe.stages.training.evaluation import head_scores

SHOWN = 20


@dataclass(frozen=True)
class ClassRow(Facts):
    """A class: its images, how many are right (top1 their share), and which class the others are mostly taken for."""

    class_: str
    images: int
    top1: float
    taken_for: str | None
    often: int


@dataclass(frozen=True)
class Pair(Facts):
    """How many images of a class are said to be of another, or of the same."""

    class_: str
    said: str
    images: int


@dataclass(frozen=True)
class Counts:
    """Labelled images by true and said class, int64 [C, C]."""

    names: Sequence[str]
    matrix: NDArray[np.int64]

    def rows(self) -> list[ClassRow]:
        """Of every class that has an image, in the order of the classes."""
        found = []
        for label, counts in enumerate(self.matrix):
            images, right = int(counts.sum()), int(counts[label])
            if not images:
                continue
            wrong = counts.copy()
            wrong[label] = 0
            often = int(wrong.max())
            taken = self.names[int(wrong.argmax())] if often else None
            found.append(ClassRow(self.names[label], images, right / images, taken, often))
        return found

    def pairs(self) -> list[Pair]:
        """All that occur, in the order of the classes."""
        return [
            Pair(self.names[true], self.names[said], int(self.matrix[true, said]))
            for true, said in np.argwhere(self.matrix).tolist()
        ]


def count_answers(
    model: nn.Module, facts: StudentFacts, table: SampleTable, device: torch.device, **how: Any
) -> Counts:
    """Ask about every image; both heads fused by the mean of logits answer, or the only one."""

    def said(pixels: Tensor) -> dict[str, Tensor]:
        own, dist = heads(model, pixels)
        scores = head_scores(own.float(), None if dist is None else dist.float())
        return {"said": scores["fused" if dist is not None else "class"].argmax(dim=1)}

    parts = [one["said"] for one in read_in_order(said, facts, table, device, title="by class", **how)]
    answers, labelled = np.concatenate(parts).astype(np.int64), table.labels >= 0
    matrix = np.zeros((facts.num_classes, facts.num_classes), np.int64)
    np.add.at(matrix, (table.labels[labelled], answers[labelled]), 1)
    return Counts(facts.class_names, matrix)


def per_class_lines(rows: Sequence[ClassRow]) -> list[str]:
    """For a person: all of few classes, the worst of many."""
    shown = rows if len(rows) <= SHOWN else sorted(rows, key=lambda row: row.top1)[:SHOWN]
    width = max(len(row.class_) for row in shown)
    lines = [] if shown is rows else [f"  the {SHOWN} worst of {len(rows):,} classes; all are in --json"]
    for row in shown:
        taken = "" if row.taken_for is None else f"   {row.often:,} taken for {row.taken_for}"
        lines.append(f"  {row.class_:<{width}}  top-1 {row.top1:7.2%} of {row.images:,}{taken}")
    return lines


def confusion_lines(counts: Counts) -> list[str]:
    """For a person: the whole table of few classes, the commonest mistakes of many."""
    names, matrix = counts.names, counts.matrix
    if len(names) <= SHOWN:
        width = max(len(f"{int(matrix.max()):,}"), len(str(len(names) - 1)))
        rows = [f"{label} {name}" for label, name in enumerate(names)]
        first = max(map(len, [*rows, "class, said:"]))
        lines = [f"  {'class, said:':<{first}}  " + "  ".join(f"{label:>{width}}" for label in range(len(names)))]
        for row, numbers in zip(rows, matrix.tolist(), strict=True):
            cells = "  ".join(f"{number or '.':>{width}}" for number in numbers)
            lines.append(f"  {row:<{first}}  {cells}")
        return lines
    wrong = sorted((one for one in counts.pairs() if one.class_ != one.said), key=lambda one: -one.images)
    if not wrong:
        return ["  no class is taken for another"]
    width = max(len(one.class_) for one in wrong[:SHOWN])
    return [
        f"  the {len(wrong[:SHOWN])} commonest of {len(wrong):,} kinds of mistakes; all are in --json and --csv",
        *(f"  {one.class_:<{width}}  {one.images:,} taken for {one.said}" for one in wrong[:SHOWN]),
    ]


def pairs_csv(pairs: Sequence[Pair]) -> str:
    """A row for every pair."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", "said", "images"])
    writer.writerows([one.class_, one.said, one.images] for one in pairs)
    return text.getvalue()
