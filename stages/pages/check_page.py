"""The page of `deit-pipe check-data --report`: counts, and every kind of finding with pictures of the images."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deit_pipe.pipeline.decode import decode
from deit_pipe.pipeline.errors import PipelineError
from deit_pipe.pipeline.sources.left_out import printable
from deit_pipe.stages.checking.check_text import class_counts
from deit_pipe.stages.checking.findings import KINDS, Finding, by_kind
from deit_pipe.stages.checking.images import CheckedImages
from deit_pipe.stages.pages.cell_picture import data_uri, encoded
from deit_pipe.stages.pages.parts import CaptionLine, Card, Column, Figure, Table, Tile
from deit_pipe.stages.pages.writing import write_page

PICTURES = 24  # of a kind
OF_ONE = 4  # pictures of one finding
ROWS = 200  # of a table


class Section(NamedTuple):
    """A kind of finding: its table, and pictures of the first."""

    heading: str
    card: Card
    figures: Sequence[Figure]


def write_check_page(
    target: Path, data: str, images: CheckedImages, findings: Sequence[Finding], lines: Sequence[str], *, deep: bool
) -> int:
    """Write the page; its size in bytes."""
    tiles = [
        Tile(f"{len(images):,}", "", "images, all of them read" if deep else "images, none of them read"),
        Tile(f"{len(images.class_names):,}", "", "classes"),
        *(Tile(f"{len(found):,}", "", KINDS[kind].heading) for kind, found in by_kind(findings).items()),
    ]
    kinds = [split.kind for split in images.splits]
    rows = [[printable(name), *(f"{count:,}" for count in counts)] for name, counts in class_counts(images)]
    return write_page(
        target,
        "check.html",
        f"check of {data}",
        data=printable(data),
        tiles=tiles,
        lines=[printable(line) for line in lines],
        counts=Card(
            "Images per class",
            shown_words(len(rows)),
            table=Table([Column("class", "name"), *(Column(kind, "n") for kind in kinds)], rows[:ROWS]),
            wide=True,
        ),
        sections=[section(images, kind, found) for kind, found in by_kind(findings).items()],
    )


def section(images: CheckedImages, kind: str, found: Sequence[Finding]) -> Section:
    """One kind: what it is about as a table, with pictures where images can be shown."""
    rows = [[printable(", ".join(one.names[:OF_ONE])), f"{len(one.names):,}", printable(one.note)] for one in found]
    table = Table([Column("what", "name", code=True), Column("how many", "n"), Column("why")], rows[:ROWS])
    figures = [
        picture for one in found[:PICTURES] for image in one.images[:OF_ONE] for picture in figure(images, image, one)
    ]
    return Section(KINDS[kind].heading, Card(None, shown_words(len(rows)), table=table, wide=True), figures[:PICTURES])


def figure(images: CheckedImages, image: int, finding: Finding) -> list[Figure]:
    """The picture of an image; none where it cannot be decoded."""
    try:
        pixels = np.ascontiguousarray(np.asarray(decode(images.read(image))))
    except (PipelineError, OSError, ValueError):
        return []
    mime, data = encoded(pixels)
    name = printable(images.name(image))
    caption = [CaptionLine(printable(images.class_of(image))), CaptionLine("", name.rpartition("/")[2], "where")]
    return [Figure(data_uri(mime, data), mime == "image/png", f"{name}: {printable(finding.note)}", caption)]


def shown_words(rows: int) -> str | None:
    """Said where a table does not show everything."""
    return f"the first {ROWS} of {rows:,}" if rows > ROWS else None
