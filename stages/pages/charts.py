"""Charts as plain geometry, drawn as inline SVG by `templates/parts.html`: no script, no library.

Colours come from the page's style, so that they follow light and dark. A chart is 380 units wide, about its width on
the page on a phone and in a column of a desktop, so that its text has the size of the text around it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from deit_pipe.stages.console.words import percent

WIDTH, HEIGHT = 380, 232
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 26, 40
MOST_DOTS = 1500

Format = Callable[[float], str]


class Dot(NamedTuple):
    """One point of a chart, with the text shown when it is pointed at."""

    x: float
    y: float
    words: str


class Tick(NamedTuple):
    """A value at its place on an axis."""

    place: str
    text: str


class Mark(NamedTuple):
    """An element of the drawing: `circle`, `rect`, `polyline` or `text`, its style, where it is, what it says."""

    shape: str
    style: str
    places: Sequence[tuple[str, str]]
    words: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class Chart:
    """A finished chart.

    Attributes:
        words: what it shows, for those who cannot see it.
        x_title, y_title, x_ticks, y_ticks: the axes, with units.
        marks: what is drawn, in this order.
    """

    words: str
    x_title: str
    y_title: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    marks: Sequence[Mark]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    base: int = HEIGHT - BOTTOM


@dataclass
class Frame:
    """The area of a chart: scales, grid, axis labels.

    Attributes:
        x, y: (low, high) of the axes, in data units.
        x_title, y_title: what the axes are, with unit.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    x_title: str
    y_title: str
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    x_format: Format = str
    y_format: Format = str
    marks: list[Mark] = field(default_factory=list)

    def place_x(self, value: float) -> float:
        """Horizontal place of a value."""
        low, high = self.x
        return LEFT + (value - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)

    def place_y(self, value: float) -> float:
        """Vertical place of a value."""
        low, high = self.y
        return HEIGHT - BOTTOM - (value - low) / ((high - low) or 1) * (HEIGHT - TOP - BOTTOM)

    def line(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """A line through points given in data units; gaps where a value is not finite."""
        for run in _finite_runs(points):
            if len(run) == 1:
                self.dot(run[0][0], run[0][1], 2, f"dot {style}")
            else:
                path = " ".join(f"{_place(self.place_x(x))},{_place(self.place_y(y))}" for x, y in run)
                self.marks.append(Mark("polyline", f"curve {style}", [("points", path)]))

    def dot(self, x: float, y: float, radius: int, style: str, words: str | None = None) -> None:
        """A dot in data units."""
        places = [("cx", _place(self.place_x(x))), ("cy", _place(self.place_y(y))), ("r", str(radius))]
        self.marks.append(Mark("circle", style, places, words))

    def text(self, x: float, y: float, text: str) -> None:
        """A short text at the upper right of a point in data units."""
        places = [("x", _place(self.place_x(x) + 6)), ("y", _place(self.place_y(y) - 6))]
        self.marks.append(Mark("text", "tick", places, text=text))

    def bar(self, left: float, width: float, top: float, style: str, words: str) -> None:
        """A bar that stands on the axis, given in places."""
        height = self.place_y(0) - top
        sizes = {"x": left, "y": top, "width": width, "height": height}
        self.marks.append(Mark("rect", style, [(name, _place(size)) for name, size in sizes.items()], words))

    def chart(self, words: str) -> Chart:
        """The finished chart; `words` say what it shows to those who cannot see it."""
        return Chart(
            words=words,
            x_title=self.x_title,
            y_title=self.y_title,
            x_ticks=[Tick(_place(self.place_x(value)), self.x_format(value)) for value in self.x_ticks],
            y_ticks=[Tick(_place(self.place_y(value)), self.y_format(value)) for value in self.y_ticks],
            marks=self.marks,
        )


def blocks_chart(
    dots: Sequence[Dot],
    means: Sequence[tuple[float, float]],
    odd: Sequence[Dot],
    y_title: str,
    y_format: Format,
    words: str,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Chart:
    """Every block a dot over its epoch, the epoch's mean a line, odd blocks marked."""
    values = [dot.y for dot in dots] + [dot.y for dot in odd]
    low, high = padded_range(values, bounds)
    ticks = nice_ticks(low, high)
    last = max([dot.x for dot in dots] + [dot.x for dot in odd], default=1)
    width = max(1, math.ceil(last))
    frame = Frame(
        (0, width),
        (min(low, ticks[0]), max(high, ticks[-1])),
        "epoch",
        y_title,
        whole_ticks(width),
        ticks,
        _plain,
        y_format,
    )
    step = max(1, math.ceil(len(dots) / MOST_DOTS))
    for dot in dots[::step]:
        frame.dot(dot.x, dot.y, 2, "dot c1 faint", dot.words)
    frame.line(means, "c1")
    for dot in odd:
        frame.dot(dot.x, dot.y, 4, "dot bad", dot.words)
    return frame.chart(words)


def histogram(
    counts: Sequence[int], low: float, high: float, x_title: str, y_title: str, x_format: Format, words: str
) -> Chart:
    """Bars of equal width between `low` and `high`; heights are shares of all."""
    total = sum(counts) or 1
    shares = [count / total for count in counts]
    ticks = nice_ticks(0, max([*shares, 0.01]))
    frame = Frame(
        (low, high),
        (0, ticks[-1]),
        x_title,
        y_title,
        [low + (high - low) * k / 5 for k in range(6)],
        ticks,
        x_format,
        _percent,
    )
    width = (high - low) / len(counts)
    for place, share in enumerate(shares):
        left, right = frame.place_x(low + place * width), frame.place_x(low + (place + 1) * width)
        top = frame.place_y(share)
        if counts[place]:
            top = min(top, frame.place_y(0) - 1)  # something is there: let it be seen
        edge = f"{x_format(low + place * width)} to {x_format(low + (place + 1) * width)}"
        said = f"{edge}: {counts[place]:,} ({share:.1%})"
        frame.bar(left + 0.5, max(0.5, right - left - 1), top, "area c1", said)
    return frame.chart(words)


def bars(values: Sequence[tuple[float, str]], x_title: str, y_title: str, words: str) -> Chart:
    """A bar for each whole number from 0 on, heights 0..1 of which 1 is complete; with words for each."""
    count = max(1, len(values))
    places = [value + 0.5 for value in whole_ticks(count - 1)]
    frame = Frame(
        (0, count),
        (0, 1),
        x_title,
        y_title,
        places,
        [0, 0.25, 0.5, 0.75, 1],
        lambda value: _plain(value - 0.5),
        _percent,
    )
    width = (WIDTH - LEFT - RIGHT) / count
    for place, (share, text) in enumerate(values):
        left, style = frame.place_x(place) + width * 0.08, "area c1" if share >= 1 else "area part"
        frame.bar(left, width * 0.84, frame.place_y(share), style, text)
    return frame.chart(words)


class Series(NamedTuple):
    """One curve: style class (`c1` .. `c4`, `dashed`), name, points in data units."""

    name: str
    style: str
    points: Sequence[tuple[float, float]]


def curves(
    series: Sequence[Series],
    x_title: str,
    y_title: str,
    y_format: Format,
    words: str,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Chart:
    """Several curves over one axis."""
    values = [y for one in series for _, y in one.points if math.isfinite(y)]
    low, high = padded_range(values, bounds)
    ticks = nice_ticks(low, high)
    xs = [x for one in series for x, _ in one.points]
    first, last = min(xs, default=0), max(xs, default=1)
    if first == last:
        last = first + 1
    frame = Frame(
        (first, last),
        (min(low, ticks[0]), max(high, ticks[-1])),
        x_title,
        y_title,
        nice_ticks(first, last, 5, whole=True),
        ticks,
        _plain,
        y_format,
    )
    for one in series:
        frame.line(one.points, one.style)
    return frame.chart(words)


def padded_range(values: Sequence[float], bounds: tuple[float, float] = (-math.inf, math.inf)) -> tuple[float, float]:
    """Smallest and largest value with some room, inside `bounds`; a range even where all values are equal."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = (high - low) * 0.06 or max(abs(high) * 0.05, 1e-3)
    return max(low - room, bounds[0]), min(high + room, bounds[1])


def nice_ticks(low: float, high: float, count: int = 5, *, whole: bool = False) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten apart) that cover low..high.

    With `whole` they are integers, and stay inside the range.
    """
    span = max(high - low, 1e-12)
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    if whole:
        step = max(1.0, round(step))
        return [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * k, 12) for k in range(first, last + 1)]


def whole_ticks(count: int, most: int = 8) -> list[float]:
    """0, 1, 2, ... or every 2nd, 5th, 10th ... up to `count`."""
    return nice_ticks(0, count, most, whole=True)


def percent_format(values: Sequence[float]) -> Format:
    """Percent with as many decimals as their distance needs."""
    span = max(values, default=1.0) - min(values, default=0.0)
    digits = 0 if span >= 0.05 else 1 if span >= 0.005 else 2
    return lambda value: percent(value, digits)


def _percent(value: float) -> str:
    return f"{value * 100:g} %"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) < 100_000 else f"{value / 1000:,.0f}k"


def _place(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _finite_runs(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if math.isfinite(point[1]):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
