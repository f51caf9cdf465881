"""What a page is put together from, as plain values; `templates/parts.html` has a macro for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from deit_pipe.stages.console import words
from deit_pipe.stages.pages.charts import Chart


class Tile(NamedTuple):
    """One of the numbers that are looked for first."""

    value: str
    unit: str
    words: str


class Column(NamedTuple):
    """A table's column. `style`: `n` numbers, `name` cut off where too long, `bar` shares drawn as bars."""

    heading: str
    style: str | None = None
    code: bool = False


@dataclass(frozen=True)
class Table:
    """A table that scrolls inside its box where it is too wide; `total`: the last row is a sum."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str | float]]
    total: bool = False


class MatrixCell(NamedTuple):
    """A cell of a matrix: its text, the text shown when it is pointed at, how dark it is (0..1), on the diagonal."""

    text: str
    words: str
    shade: float
    own: bool


@dataclass(frozen=True)
class Matrix:
    """A square table, rows and columns of the same names; `long` names are written downwards."""

    names: Sequence[str]
    rows: Sequence[Sequence[MatrixCell]]

    @property
    def long(self) -> bool:
        """Whether a name is too long for the head of a column."""
        return max(map(len, self.names)) > 4


@dataclass(frozen=True)
class Card:
    """A titled box with a chart, a table or a matrix; `legend`: (name, style of its curve)."""

    title: str | None
    note: str | None = None
    chart: Chart | None = None
    table: Table | None = None
    matrix: Matrix | None = None
    legend: Sequence[tuple[str, str]] = ()
    wide: bool = False


class CaptionLine(NamedTuple):
    """A line under a picture: a name in bold, text, and how it looks (`right`, `wrong`, `where`)."""

    name: str
    text: str = ""
    style: str | None = None


@dataclass(frozen=True)
class Figure:
    """A small picture with a caption.

    Attributes:
        source: the picture as an address.
        small: its pixels are shown as squares.
        words: shown when it is pointed at, and read to those who cannot see it.
        caption: line by line.
    """

    source: str
    small: bool
    words: str
    caption: Sequence[CaptionLine]


@dataclass(frozen=True)
class Fold:
    """Names and values under a title that opens them."""

    title: str
    values: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, title: str, values: Mapping[str, Any]) -> "Fold":
        """Lists are written with commas."""
        return cls(title, [(name, plain(value)) for name, value in values.items()])


def plain(value: Any) -> str:
    """A value as text."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def percent(share: float | None, digits: int = 1) -> str:
    """`12.3 %`, never broken into two lines."""
    return words.percent(share, digits).replace(" ", "\u00a0")
