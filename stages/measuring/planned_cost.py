"""What caching so many images would cost before there is any: `cache-teacher --estimate --samples N`. Arithmetic."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.console.words import human_bytes, human_duration
from deit_pipe.stages.machine.cost_model import break_even
from deit_pipe.stages.networks.teacher_sources import is_timms
from deit_pipe.stages.networks.weights import alias_line, published_classes, resolve_tag
from deit_pipe.stages.opened.images import say
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.training.published import DEIT

# Bytes a view on disk of real logits at 1,000 classes: RESULTS.md, "Store: bytes and rounding of every format".
MEASURED_CLASSES = 1000
LABEL, FINGERPRINT = 1.32, 4.03
TOPK_10, DENSE8, DENSE = 26.83, 740.27, 1618.23  # each with its label
TRAINED = DEIT.epochs
USUAL = (30, 100, 300)


class PlannedEpochs(NamedTuple):
    """A number of cached epochs, and what it costs.

    Attributes:
        epochs: cached.
        views: that the teacher answers.
        teacher_seconds: at the stated rate.
        reuse: how often a run of `TRAINED` epochs shows each view.
        pays_after: students trained until the cache has cost less than a teacher in every step.
        bytes: on disk, by format.
    """

    epochs: int
    views: int
    teacher_seconds: float
    reuse: float
    pays_after: float
    bytes: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self._asdict()


@dataclass(frozen=True)
class PlannedCost(Facts):
    """What caching so many images would cost, by arithmetic.

    Attributes:
        samples, classes, teacher_rate: of the data; views a second, as stated.
        trained_epochs: of a student.
        bytes_per_view, planned: on disk by format; a column for each number of cached epochs.
    """

    samples: int
    classes: int
    teacher_rate: float
    trained_epochs: int
    bytes_per_view: Mapping[str, float]
    planned: Sequence[PlannedEpochs]


def stored_bytes(classes: int) -> dict[str, float]:
    """Bytes a view by format, all included.

    A label takes its entropy, at most log2 C bits; a kept class as much as at 1,000; dense formats grow with C.
    """
    label = LABEL * math.log2(max(classes, 2)) / math.log2(MEASURED_CLASSES)
    kept = (TOPK_10 - LABEL) * min(10, classes) / 10
    share = classes / MEASURED_CLASSES
    found = {
        "none": label,
        "topk:10": label + kept,
        "dense8": label + (DENSE8 - LABEL) * share,
        "dense": label + (DENSE - LABEL) * share,
    }
    return {name: size + FINGERPRINT for name, size in found.items()}


def planned_epochs(samples: int, classes: int, epochs: int, rate: float) -> PlannedEpochs:
    """One column of the table; `rate`: views a second of the teacher."""
    views = samples * epochs
    seconds, online = views / rate, samples * TRAINED / rate  # beside what the student itself takes in either case
    return PlannedEpochs(
        epochs=epochs,
        views=views,
        teacher_seconds=seconds,
        reuse=TRAINED / epochs,
        pays_after=break_even(seconds, 0.0, online),
        bytes={name: round(size * views) for name, size in stored_bytes(classes).items()},
    )


def planned_cost(options: CacheTeacherOptions, samples: int) -> CommandResult[PlannedCost]:
    """The table for the usual numbers of cached epochs, and the one asked for.

    Raises:
        UsageProblem: without --estimate.
    """
    if not options.estimate:
        raise UsageProblem("--samples says of how many images to estimate the cost", cure="give --estimate too")
    if not is_timms(options.teacher):
        raise UsageProblem(
            f"--samples takes the number of classes from a timm model, and --teacher {options.teacher} is none",
            cure="name one of as many classes, such as regnety_160 for ImageNet's, or give the images with --data",
        )
    say(alias_line(options.teacher))
    classes, rate = published_classes(resolve_tag(options.teacher)), options.teacher_rate
    numbers = sorted({*USUAL, options.epochs or USUAL[0]})
    columns = [planned_epochs(samples, classes, number, rate) for number in numbers]
    rows = [
        ("", [f"{one.epochs} epochs" for one in columns]),
        ("views", [f"{one.views:,}" for one in columns]),
        (f"teacher at {rate:,.0f}/s", [human_duration(one.teacher_seconds) for one in columns]),
        ("each view is seen", [f"{one.reuse:.3g} x" for one in columns]),
        ("pays after", [f"{one.pays_after:.2f} students" for one in columns]),
        *((f"--logits {name}", [human_bytes(one.bytes[name]) for one in columns]) for name in columns[0].bytes),
    ]
    lines = [f"  {name:<22}" + "".join(f"{cell:>16}" for cell in cells) for name, cells in rows]
    text = "\n".join(
        [
            f"{samples:,} images of {classes:,} classes, students of {TRAINED} epochs; nothing was opened or measured.",
            f"Bytes as real logits compress; the teacher's rate is --set teacher-rate={rate:g}: bench measures yours.",
            "",
            *lines,
        ]
    )
    by_format = {name: round(size, 2) for name, size in stored_bytes(classes).items()}
    return CommandResult(text, PlannedCost(samples, classes, rate, TRAINED, by_format, columns))
