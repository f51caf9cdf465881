"""The page of `deit-pipe compare --report`: the table, accuracy line by line, accuracy against what a student costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deit_pipe.stages.comparing.compared_runs import Line, differing, measured_words
from deit_pipe.stages.comparing.intervals import Spread
from deit_pipe.stages.comparing.tables import plain, spread_words, table_rows
from deit_pipe.stages.pages.charts import Chart, Frame, nice_ticks, padded_range, percent_format
from deit_pipe.stages.pages.parts import Card, Column, Fold, Table
from deit_pipe.stages.pages.writing import write_page


def write_compare_page(target: Path, lines: Sequence[Line], costs: Sequence[Mapping[str, Any]]) -> None:
    """Write the page of these lines; `costs` of each line's student, where they were measured."""
    headings, rows = table_rows(lines, costs)
    table = Table([Column("line", "n"), *map(Column, headings)], [[str(i), *row] for i, row in enumerate(rows, 1)])
    cards = [Card("Accuracy", "top-1 of the head that counts; bars are one standard deviation", accuracy(lines))]
    if costs:
        cards.append(Card("Accuracy and throughput", "up and right is better", throughput(lines, costs)))
    runs = [one for line in lines for one in line.runs]
    write_page(
        target,
        "compare.html",
        "runs compared",
        about=f"{len(runs)} runs in {len(lines)} lines, top-1 on {measured_words(runs[0])}: mean +- standard deviation",
        table=Card(None, table=table, wide=True),
        charts=cards,
        folds=[
            Fold(
                f"Line {place}: {name_of(line, lines)}",
                [(one.folder, spread_words(Spread(one.top1[one.answer], None, 1))) for one in line.runs]
                + [(name, plain(value)) for name, value in line.settings.items()],
            )
            for place, line in enumerate(lines, 1)
        ],
    )


def name_of(line: Line, lines: Sequence[Line]) -> str:
    """What tells a line from the others: `soft, custom`; all of it is the same where there is only one."""
    return ", ".join(plain(line.settings.get(name)) for name in differing(lines)) or "all runs"


def accuracy(lines: Sequence[Line]) -> Chart:
    """Each line a dot with its spread, numbered as in the table."""
    places = list(range(1, len(lines) + 1))
    return spread_chart(places, lines, [str(place) for place in places], "line", places)


def throughput(lines: Sequence[Line], costs: Sequence[Mapping[str, Any]]) -> Chart:
    """Each line at its student's images a second."""
    rates = [float(cost["img/s"]) for cost in costs]
    ticks = nice_ticks(0, max(rates) * 1.05)
    words = [f"{rate:,.0f} images/s" for rate in rates]
    return spread_chart(rates, lines, words, "images a second", ticks)


def spread_chart(
    xs: Sequence[float], lines: Sequence[Line], words: Sequence[str], x_title: str, x_ticks: Sequence[float]
) -> Chart:
    """Means as dots that bear the line's number, standard deviations as bars."""
    found = [line.top1(line.answer) or Spread(0.0, None, 0) for line in lines]
    ends = [one.mean + side * (one.sd or 0.0) for one in found for side in (-1, 1)]
    low, high = padded_range(ends, (0.0, 1.0))
    ticks = nice_ticks(low, high)
    first, last = min(*xs, *x_ticks), max(*xs, *x_ticks)
    room = (last - first) * 0.06 or 1.0
    frame = Frame(
        (first - room, last + room),
        (min(low, ticks[0]), max(high, ticks[-1])),
        x_title,
        "top-1",
        x_ticks,
        ticks,
        "{:,.0f}".format,
        percent_format(ticks),
    )
    for place, (x, one, line) in enumerate(zip(xs, found, lines, strict=True), 1):
        if one.sd:
            frame.line([(x, one.mean - one.sd), (x, one.mean + one.sd)], "c1")
        frame.dot(x, one.mean, 4, "dot c1", f"{name_of(line, lines)}: {spread_words(one)}, {words[place - 1]}")
        frame.text(x, one.mean, str(place))
    return frame.chart(f"{x_title} and top-1 of {len(lines)} lines")
