"""Of a run's last evaluation: accuracy class by class, and a few images with what each head says. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deit_pipe.stages.pages.parts import CaptionLine, Card, Column, Figure, Table, percent
from deit_pipe.stages.pages.run_metrics import Run

MOST_ROWS = 20
KINDS = {"png": "image/png", "jpeg": "image/jpeg"}


@dataclass(frozen=True)
class Answers:
    """What a page shows of one run."""

    name: str
    classes: Card
    pictures: Sequence[Figure]


def answers_of(one: Run) -> Answers | None:
    """None where the run has no such record: not finished, without images to measure on, or of an earlier version."""
    rows = [row for row in one.shown.get("classes", []) if row["images"]]
    if not rows:
        return None
    by_share = sorted(rows, key=lambda row: row["right"] / row["images"])
    some = rows if len(rows) <= MOST_ROWS else by_share[:MOST_ROWS]
    note = f"by {one.shown['answer']}" + ("" if some is rows else f"; the {MOST_ROWS} worst of {len(rows):,}")
    table = Table(
        [Column("class"), Column("images", "n"), Column("right", "n"), Column("", "bar")],
        [
            [row["class"], f"{row['images']:,}", percent(row["right"] / row["images"], 1), row["right"] / row["images"]]
            for row in some
        ],
    )
    return Answers(
        one.name,
        Card("Accuracy by class", note, table=table, wide=True),
        [figure(one.shown["answer"], picture) for picture in one.shown.get("pictures", []) if picture["kind"] in KINDS],
    )


def figure(answer: str, picture: Mapping[str, Any]) -> Figure:
    """An image; below it its class, and what each head says, the one that counts first."""
    said: dict[str, list[Any]] = picture["said"]
    heads = sorted(said, key=lambda head: head != answer)
    lines = [
        CaptionLine(
            head, f" {said[head][0]} {said[head][1]:.0%}", "right" if said[head][0] == picture["class"] else "wrong"
        )
        for head in heads
    ]
    words = f"{picture['image']}: {picture['class']}; {answer} says {said[answer][0]}"
    source = f"data:{KINDS[picture['kind']]};base64,{picture['data']}"
    return Figure(source, picture["kind"] == "png", words, [CaptionLine(picture["class"]), *lines])
