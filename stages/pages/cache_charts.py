"""The plots of the cache's report: blocks over epochs, confidence, flips, classes, confusions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_pipe.stages.inspection.analysis import FLIP_BINS, Analysis
from deit_pipe.stages.inspection.facts import EpochMeans, Means, TeacherFacts
from deit_pipe.stages.inspection.outliers import block_values
from deit_pipe.stages.pages.charts import Dot, Format, bars, blocks_chart, histogram, percent_format
from deit_pipe.stages.pages.parts import Card, Column, Matrix, MatrixCell, Table, percent

ALL_CLASSES = 20  # up to so many, every class has its row
WORST_CLASSES = 15
PAIRS = 10
MATRIX = 8


def block_cards(teacher: TeacherFacts, columns: Mapping[str, NDArray[Any]]) -> list[Card]:
    """Agreement, confidence and entropy of every block."""
    assert teacher.health is not None
    total = max(1, teacher.blocks_per_epoch)
    values = block_values(columns)
    x = columns["epoch"] + (columns["index"] + 0.5) / total
    odd = {(one.epoch, one.block) for one in teacher.outliers}
    cards = []
    for name, title, unit, bounds in (
        ("agreement", "Agreement with the label", "share of views", (0.0, 1.0)),
        ("confidence", "Confidence", "mean probability of the answer", (0.0, 1.0)),
        ("entropy", "Entropy", "mean over views, nat", (0.0, np.inf)),
    ):
        dots: list[Dot] = []
        marked: list[Dot] = []
        for place, value in enumerate(values[name].tolist()):
            address = int(columns["epoch"][place]), int(columns["index"][place])
            words = f"epoch {address[0]}, block {address[1]}: {shown_value(name, value)}"
            (marked if address in odd else dots).append(Dot(float(x[place]), value, words))
        means = [(one.epoch + 0.5, mean_of(name, one)) for one in teacher.per_epoch]
        low, high = float(values[name].min()), float(values[name].max())
        number = percent_format([low, high]) if name == "agreement" else decimals_format(high - low)
        mean = shown_value(name, mean_of(name, teacher.health.means))
        note = f"{mean} over all views; a dot is a block, the line the epoch's mean"
        words = f"{title} of {len(x)} blocks, from {low:.3f} to {high:.3f}"
        cards.append(Card(title, note, blocks_chart(dots, means, marked, unit, number, words, bounds)))
    return cards


def mean_of(statistic: str, means: Means | EpochMeans) -> float:
    """The mean of a statistic of blocks."""
    if statistic == "agreement":
        return means.agrees_with_label
    return means.mean_entropy if statistic == "entropy" else means.mean_top1_probability


def shown_value(statistic: str, value: float) -> str:
    """A statistic with its unit."""
    if statistic == "agreement":
        return percent(value, 2)
    return f"{value:.3f} nat" if statistic == "entropy" else f"{value:.3f}"


def decimals_format(span: float) -> Format:
    """Decimals enough to tell ticks apart."""
    digits = 1 if span >= 0.5 else 2 if span >= 0.05 else 3 if span >= 0.005 else 4
    return lambda value: f"{value:.{digits}f}"


def coverage_card(teacher: TeacherFacts) -> Card:
    """Committed blocks of every epoch."""
    epochs, total = teacher.coverage, max(1, teacher.blocks_per_epoch)
    whole = sum(1 for one in epochs if one.blocks == total)
    chart = bars(
        [(one.blocks / total, f"epoch {one.epoch}: {one.blocks:,} of {total:,} blocks") for one in epochs],
        "epoch",
        "share of its blocks",
        f"{whole} of {len(epochs)} epochs are whole",
    )
    return Card("Coverage", f"{whole:,} of {len(epochs):,} epochs are whole, {total:,} blocks each", chart)


def confidence_card(means: Means) -> Card:
    """Histogram of the probability of the teacher's answer."""
    counts = means.confidence
    sure = sum(counts[18:]) / max(1, sum(counts))
    chart = histogram(
        counts,
        0,
        1,
        "probability of the teacher's answer",
        "share of views",
        lambda value: f"{value:.1f}",
        "Histogram of the probability that the teacher gives its answer",
    )
    return Card("How sure it is", f"{percent(sure)} of the views are answered with a probability above 0.9", chart)


def flip_card(analysis: Analysis) -> Card:
    """Histogram over samples of how stable their label is."""
    if analysis.flip_rate is None:
        return Card("Label flips", "no sample has been seen twice yet")
    steady = float(analysis.flips[-1] / max(1, analysis.flips.sum()))
    chart = histogram(
        analysis.flips.tolist(),
        0,
        1,
        "share of its views with the sample's usual answer",
        "share of samples",
        lambda value: percent(value, 0),
        f"Histogram of label stability in {FLIP_BINS} bins",
    )
    note = f"{percent(analysis.flip_rate, 2)} of views flip, {percent(steady)} of samples never or hardly ever do"
    return Card("Label flips between views of one sample", note, chart)


def class_card(analysis: Analysis, names: Sequence[str]) -> Card:
    """Accuracy of every class, or of the worst where there are many."""
    accuracy, views, said = analysis.class_accuracy, analysis.class_views, analysis.confusion.sum(axis=0)
    known = np.flatnonzero(views)
    order = known[np.argsort(accuracy[known], kind="stable")]
    many = len(names) > ALL_CLASSES
    rows = [
        [names[one], float(accuracy[one]), percent(accuracy[one]), f"{views[one]:,}", f"{said[one]:,}"]
        for one in order[: WORST_CLASSES if many else ALL_CLASSES].tolist()
    ]
    columns = [*map(Column, ("class", "right", "", "views", "said"), ("name", "bar", "n", "n", "n"))]
    title = f"The {len(rows)} hardest of {len(names):,} classes" if many else "Accuracy of each class"
    return Card(title, "views: of that true class; said: how often the teacher gives it", table=Table(columns, rows))


def classes_card(analysis: Analysis) -> Card:
    """How many classes have which accuracy, for many classes."""
    accuracy = analysis.class_accuracy
    accuracy = accuracy[np.isfinite(accuracy)]
    chart = histogram(
        np.histogram(accuracy, 20, (0, 1))[0].tolist(),
        0,
        1,
        "accuracy",
        "share of classes",
        lambda value: percent(value, 0),
        "Histogram of the accuracy of classes",
    )
    note = f"median {percent(float(np.median(accuracy)))}, worst {percent(float(accuracy.min()))}"
    return Card("Classes by accuracy", note, chart)


def confusion_cards(analysis: Analysis, names: Sequence[str]) -> list[Card]:
    """The most frequent mistakes as a list, and as a matrix of their classes."""
    pairs = analysis.confused_pairs(PAIRS)
    if not pairs:
        return [Card("Most confused classes", "the teacher made no mistake on the views that were looked at")]
    share = {(true, said): count / int(analysis.class_views[true]) for true, said, count in pairs}
    most = max(share.values())
    rows: list[list[str | float]] = [
        [
            names[true],
            names[said],
            share[true, said] / most,
            percent(share[true, said], 2),
            f"{count:,}",
        ]
        for true, said, count in pairs
    ]
    columns = [*map(Column, ("true", "said", "share", "", "views"), ("name", "name", "bar", "n", "n"))]
    note = "rows: true class; columns: what the teacher says; in % of the row's views"
    return [
        Card(
            "Most frequent mistakes",
            "by number of views; share: of the views of the true class",
            table=Table(columns, rows),
        ),
        Card("Confusion of these classes", note, matrix=matrix(analysis, names, pairs)),
    ]


def matrix(analysis: Analysis, names: Sequence[str], pairs: Sequence[tuple[int, int, int]]) -> Matrix:
    """The classes in `pairs` against each other, darker where more is confused."""
    classes = sorted(list(dict.fromkeys(one for true, said, _ in pairs for one in (true, said)))[:MATRIX])
    shares = analysis.confusion[np.ix_(classes, classes)] / np.maximum(1, analysis.class_views[classes])[:, None]
    most = max(float((shares - np.diag(np.diag(shares))).max()), 1e-9)
    rows = []
    for row, true in enumerate(classes):
        cells = []
        for column, said in enumerate(classes):
            share = float(shares[row, column])
            words = f"{names[true]} answered {names[said]}: {share:.2%}"
            digits = 0 if share >= 0.0995 else 1 if share >= 0.00095 else 2
            text = f"{share * 100:.{digits}f}" if share else ""
            cells.append(MatrixCell(text, words, share / most, own=row == column))
        rows.append(cells)
    return Matrix([names[one] for one in classes], rows)
