"""The plots of a training run's page: heads, losses, agreement, learning rate, speed, waits; one run or two."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deit_pipe.stages.pages.charts import Format, Series, curves, legend, percent_format
from deit_pipe.stages.pages.html import Html, tag
from deit_pipe.stages.pages.run_metrics import WAITS, Run

HEADS = (("class", "class head", "c1"), ("dist", "distillation head", "c2"), ("fused", "both fused", "c3"))
LOSSES = (
    ("loss", "total", "c1"),
    ("label_loss", "label term", "c2"),
    ("distillation_loss", "distillation term", "c3"),
)
UNIT = (0.0, 1.0)

Line = Mapping[str, Any]


def lines_of(
    runs: Sequence[Run], value: Callable[[Line], Any], name: str, style: str, *, steps: bool = False
) -> list[Series]:
    """One curve for each run that has the value, the second run's dashed."""
    found = []
    for place, one in enumerate(runs):
        points = []
        for line in one.steps if steps else one.epochs:
            number = value(line)
            if isinstance(number, int | float) and math.isfinite(number):
                points.append((line["step"] if steps else line["epoch"] + 1, float(number)))
        if points:
            found.append(Series(name, style + (" dashed" if place else ""), points))
    return found


def chart_card(
    title: str,
    note: str,
    series: list[Series],
    runs: Sequence[Run],
    x_title: str,
    y_title: str,
    number: Format = "{:g}".format,
    bounds: tuple[float, float] = (0, math.inf),
) -> Html:
    """A titled chart with its legend; a note instead where there is nothing to draw."""
    if not series:
        return tag("section", tag("h3", title), tag("p", "nothing recorded yet"), class_="card")
    values = [y for one in series for _, y in one.points]
    words = f"{title}: {min(values):.4g} to {max(values):.4g}"
    drawn = curves(series, x_title, y_title, number, words, bounds)
    names = {one.name: one.style.removesuffix(" dashed") for one in series}
    entries = list(names.items()) if len(names) > 1 else []
    if len(runs) > 1:
        shade = next(iter(names.values())) if len(names) == 1 else "plain"
        entries += [(one.name, shade + (" dashed" if place else "")) for place, one in enumerate(runs)]
    return tag(
        "section",
        tag("h3", title),
        tag("p", note),
        legend(entries) if entries else None,
        drawn,
        class_="card",
    )


def heads_card(runs: Sequence[Run]) -> Html:
    """Top-1 of every head."""

    def top1(head: str) -> Callable[[Line], Any]:
        return lambda line: line.get("val", {}).get(head, {}).get("top1")

    series = [one for head, words, style in HEADS for one in lines_of(runs, top1(head), words, style)]
    number = percent_format([y for one in series for _, y in one.points])
    return chart_card(
        "Accuracy of the heads",
        "top-1 on the validation images",
        series,
        runs,
        "epoch",
        "top-1",
        number,
        UNIT,
    )


def loss_card(runs: Sequence[Run]) -> Html:
    """The loss and its parts."""

    def value(key: str) -> Callable[[Line], Any]:
        return lambda line: line.get(key)

    series = [one for key, words, style in LOSSES for one in lines_of(runs, value(key), words, style)]
    return chart_card("Loss", "mean of each epoch", series, runs, "epoch", "loss, nat")


def agreement_card(runs: Sequence[Run]) -> Html:
    """Agreement of the distillation head with the teacher, on training views."""
    series = lines_of(runs, lambda line: line.get("agreement"), "agreement", "c1")
    number = percent_format([y for one in series for _, y in one.points])
    note = "share of training views on which the distillation head says what the teacher said"
    return chart_card("Agreement with the teacher", note, series, runs, "epoch", "share of views", number, UNIT)


def rate_card(runs: Sequence[Run]) -> Html:
    """Learning rate."""
    series = lines_of(runs, lambda line: line.get("lr"), "learning rate", "c1")
    return chart_card("Learning rate", "in each epoch", series, runs, "epoch", "learning rate")


def speed_card(runs: Sequence[Run]) -> Html:
    """Views per second."""
    series = lines_of(runs, lambda line: line.get("views_per_second"), "views", "c1", steps=True)
    return chart_card("Speed", "between two records", series, runs, "step", "views per second", "{:,.0f}".format)


def wait_card(runs: Sequence[Run]) -> Html:
    """Where the time of a step goes."""

    def share(part: str) -> Callable[[Line], Any]:
        def of(line: Line) -> float | None:
            total = sum(line.get(name, 0.0) for name in WAITS)
            return line[part] / total if total and part in line else None

        return of

    series = [
        *lines_of(runs, share(WAITS[0]), "for views", "c2", steps=True),
        *lines_of(runs, share(WAITS[1]), "for targets", "c3", steps=True),
    ]
    number = percent_format([0.0, *(y for one in series for _, y in one.points)])
    note = "share of a step's time spent waiting; the rest is computing"
    return chart_card("Waiting", note, series, runs, "step", "share of the time", number, UNIT)
