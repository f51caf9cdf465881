"""The plots of a training run's page: heads, losses, agreement, learning rate, speed, waits; one run or two."""

import math
from collections.abc import Callable, Sequence

from deit_pipe.stages.pages.charts import Format, Series, curves, percent_format
from deit_pipe.stages.pages.parts import Card
from deit_pipe.stages.pages.run_metrics import WAITS, EpochLine, Run, StepLine

HEADS = (("class", "class head", "c1"), ("dist", "distillation head", "c2"), ("fused", "both fused", "c3"))
LOSSES: tuple[tuple[Callable[[EpochLine], float | None], str, str], ...] = (
    (lambda line: line.loss, "total", "c1"),
    (lambda line: line.label_loss, "label term", "c2"),
    (lambda line: line.distillation_loss, "distillation term", "c3"),
)
UNIT = (0.0, 1.0)

Points = list[tuple[float, float]]


def by_epoch(value: Callable[[EpochLine], float | None]) -> Callable[[Run], Points]:
    """The points of a curve over epochs, counted from 1; none where the value is not recorded."""
    return lambda run: [(line.epoch + 1, y) for line in run.epochs if (y := value(line)) is not None]


def by_step(value: Callable[[StepLine], float | None]) -> Callable[[Run], Points]:
    """The points of a curve over steps."""
    return lambda run: [(line.step, y) for line in run.steps if (y := value(line)) is not None]


def curves_of(runs: Sequence[Run], points: Callable[[Run], Points], name: str, style: str) -> list[Series]:
    """One curve for each run that has points, the second run's dashed."""
    found = [(points(one), " dashed" if place else "") for place, one in enumerate(runs)]
    return [Series(name, style + dashes, drawn) for drawn, dashes in found if drawn]


def chart_card(
    title: str,
    note: str,
    series: list[Series],
    runs: Sequence[Run],
    x_title: str,
    y_title: str,
    number: Format = "{:g}".format,
    bounds: tuple[float, float] = (0, math.inf),
) -> Card:
    """A titled chart with its legend; a note instead where there is nothing to draw."""
    if not series:
        return Card(title, "nothing recorded yet")
    values = [y for one in series for _, y in one.points]
    words = f"{title}: {min(values):.4g} to {max(values):.4g}"
    names = {one.name: one.style.removesuffix(" dashed") if len(runs) > 1 else one.style for one in series}
    entries = list(names.items()) if len(names) > 1 else []
    if len(runs) > 1:
        shade = next(iter(names.values())) if len(names) == 1 else "plain"
        entries += [(one.name, shade + (" dashed" if place else "")) for place, one in enumerate(runs)]
    return Card(title, note, curves(series, x_title, y_title, number, words, bounds), legend=entries)


def top1_points(head: str) -> Callable[[Run], Points]:
    """Top-1 of a head, epoch by epoch."""
    return by_epoch(lambda line: line.top1.get(head))


def heads_card(runs: Sequence[Run]) -> Card:
    """Top-1 of every head."""
    series = [one for head, words, style in HEADS for one in curves_of(runs, top1_points(head), words, style)]
    series += levels(runs)
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


def levels(runs: Sequence[Run]) -> list[Series]:
    """Lines at the teacher's accuracy and at chance, where a finished run says them; two runs may differ in both."""
    if len(runs) != 1 or not runs[0].epochs:
        return []
    ends = (1, runs[0].epochs[-1].epoch + 1)
    found = []
    for key, words, style in (("teacher_top1", "teacher", "plain"), ("chance", "chance", "plain dashed")):
        share = runs[0].result.get(key)
        if isinstance(share, float) and ends[1] > 1:
            found.append(Series(words, style, [(epoch, share) for epoch in ends]))
    return found


def loss_card(runs: Sequence[Run]) -> Card:
    """The loss and its parts."""
    series = [one for value, words, style in LOSSES for one in curves_of(runs, by_epoch(value), words, style)]
    return chart_card("Loss", "mean of each epoch", series, runs, "epoch", "loss, nat")


def agreement_card(runs: Sequence[Run]) -> Card:
    """Agreement of the distillation head with the teacher, on training views."""
    series = curves_of(runs, by_epoch(lambda line: line.agreement), "agreement", "c1")
    number = percent_format([y for one in series for _, y in one.points])
    note = "share of training views on which the distillation head says what the teacher said"
    return chart_card("Agreement with the teacher", note, series, runs, "epoch", "share of views", number, UNIT)


def rate_card(runs: Sequence[Run]) -> Card:
    """Learning rate."""
    series = curves_of(runs, by_epoch(lambda line: line.lr), "learning rate", "c1")
    return chart_card("Learning rate", "in each epoch", series, runs, "epoch", "learning rate")


def speed_card(runs: Sequence[Run]) -> Card:
    """Views per second."""
    series = curves_of(runs, by_step(lambda line: line.views_per_second), "views", "c1")
    return chart_card("Speed", "between two records", series, runs, "step", "views per second", "{:,.0f}".format)


def wait_card(runs: Sequence[Run]) -> Card:
    """Where the time of a step goes."""
    series = [
        *curves_of(runs, by_step(lambda line: line.share(WAITS[0])), "for views", "c2"),
        *curves_of(runs, by_step(lambda line: line.share(WAITS[1])), "for targets", "c3"),
    ]
    number = percent_format([0.0, *(y for one in series for _, y in one.points)])
    note = "share of a step's time spent waiting; the rest is computing"
    return chart_card("Waiting", note, series, runs, "step", "share of the time", number, UNIT)
