"""`inspect-cache --cell` and `--sample`: what one cell shows, what its label is, what the teacher answered.

Shapes: B cells of a mix group, C classes, K kept classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.cells import RenderedCells
from deit_pipe.pipeline.decode import decode as decode_image
from deit_pipe.pipeline.decode import size_of
from deit_pipe.pipeline.samples import class_name
from deit_pipe.stages.console.errors import Missing, UsageProblem
from deit_pipe.stages.console.facts import Facts, if_there
from deit_pipe.stages.console.progress import progress
from deit_pipe.stages.inspection.view_words import mix_words, view_words
from deit_pipe.stages.opened.arrays import CachedArrays
from deit_pipe.stages.opened.views import CachedViews
from deit_pipe.store.formats import Targets
from deit_pipe.store.manifest import SampleIndex

TOP = 5


@dataclass(frozen=True)
class Probability(Facts):
    """One class and what the teacher gives it, 0..1."""

    class_: int
    class_name: str
    probability: float


@dataclass(frozen=True)
class Answer(Facts):
    """What a teacher answers to a cell.

    Attributes:
        teacher: its name in the cache.
        label, label_name: its answer.
        top: best classes, most probable first; empty where only labels are stored.
        tail_mass: probability of all other classes; None where only labels are stored.
    """

    teacher: str
    label: int
    label_name: str
    top: tuple[Probability, ...]
    tail_mass: float | None


@dataclass(frozen=True)
class Mix(Facts):
    """How a cell is mixed: `lam` is the share of its own image, `box` (top, left, height, width), zeros for Mixup.

    The other fields say with whom: the partner's slot, sample and its key, true class.
    """

    kind: Literal["cutmix", "mixup"]
    lam: float
    box: tuple[int, int, int, int]
    slot: int
    sample: int
    key: str
    class_: int
    class_name: str


@dataclass(frozen=True)
class CellFacts(Facts):
    """Everything about one cell.

    Attributes:
        epoch, slot: which.
        sample, key, class_, class_name: of its image.
        image_size: (width, height) as decoded.
        draw: what was done to it, in words.
        mix: None where it is not mixed.
        answers: of the teachers that have answered it.
        fingerprint: of the view made again, hexadecimal.
        fingerprint_equal: whether it is the cached one; None where no answer is cached.
        png: the picture that was made of it.
    """

    epoch: int
    slot: int
    sample: int
    key: str
    class_: int
    class_name: str
    image_size: tuple[int, int]
    draw: tuple[str, ...]
    mix: Mix | None
    answers: tuple[Answer, ...]
    fingerprint: str
    fingerprint_equal: bool | None
    png: str | None = if_there()

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes whose images are in it."""
        return (self.class_,) if self.mix is None else (self.class_, self.mix.class_)


@dataclass(frozen=True)
class SampleFacts(Facts):
    """A sample, and every cell that shows it."""

    sample: int
    key: str
    class_: int
    class_name: str
    cells: tuple[CellFacts, ...]


def cell_facts(views: CachedViews, teachers: Sequence[CachedArrays], epoch: int, slot: int) -> CellFacts:
    """Everything about one cell.

    Raises:
        UsageProblem: there is no such cell. BadImage: its image cannot be read.
    """
    check_cell(views, teachers, epoch, slot)
    group = views.groups(np.array([slot]))
    rendered = views.render(epoch, group)
    place = int(np.flatnonzero(group == slot)[0])
    return describe_cell(views, teachers, rendered, place)


def check_cell(views: CachedViews, teachers: Sequence[CachedArrays], epoch: int, slot: int) -> None:
    """Refuse a cell outside the cache.

    Raises:
        UsageProblem: no such epoch or slot.
    """
    epochs = max((arrays.epochs for arrays in teachers), default=0)
    if epoch >= epochs or slot >= views.plan.num_slots:
        raise UsageProblem(
            f"no cell {epoch}/{slot} in this cache",
            expected=f"epoch 0..{epochs - 1}, slot 0..{views.plan.num_slots - 1}",
            cure="give for example --cell 0/0",
        )


def describe_cell(
    views: CachedViews, teachers: Sequence[CachedArrays], rendered: RenderedCells, place: int
) -> CellFacts:
    """The facts of the cell at `place` of a rendered mix group."""
    names = views.table.class_names
    epoch, slot, sample = rendered.epoch, int(rendered.slots[place]), int(rendered.samples[place])
    size = size_of(decode_image(views.table.read(sample)))
    label = int(rendered.labels[place])
    words = view_words(rendered.views[place], size)
    mix = mix_of(views, rendered, place)
    if mix is not None:
        words.append(mix_words(mix.box, mix.lam, f"slot {mix.slot}, {mix.class_name}"))
    there = [arrays for arrays in teachers if arrays.has(epoch, slot)]
    one = np.array([slot])
    replayed = int(rendered.fingerprints[place])
    answers = tuple(answer_facts(arrays.identity.name, arrays.targets(epoch, one), names) for arrays in there)
    cached = [int(arrays.rows("fingerprint", epoch, one)[0]) for arrays in there]
    return CellFacts(
        epoch=epoch,
        slot=slot,
        sample=sample,
        key=views.table.keys[sample],
        class_=label,
        class_name=class_name(names, label),
        image_size=size,
        draw=tuple(words),
        mix=mix,
        answers=answers,
        fingerprint=f"{replayed:08x}",
        fingerprint_equal=all(one == replayed for one in cached) if cached else None,
    )


def mix_of(views: CachedViews, rendered: RenderedCells, place: int) -> Mix | None:
    """How the cell at `place` is mixed; None where it is not."""
    partner = int(rendered.partner[place])
    if partner == place:
        return None
    top, left, height, width = (int(edge) for edge in rendered.mix_box[place])
    sample, label = int(rendered.samples[partner]), int(rendered.labels[partner])
    return Mix(
        kind="cutmix" if height * width else "mixup",
        lam=float(rendered.lam[place]),
        box=(top, left, height, width),
        slot=int(rendered.slots[partner]),
        sample=sample,
        key=views.table.keys[sample],
        class_=label,
        class_name=class_name(views.table.class_names, label),
    )


def answer_facts(teacher: str, targets: Targets, names: Sequence[str]) -> Answer:
    """The teacher's answer to the first view of `targets`: label, best classes with probabilities, mass of the rest."""
    label = int(targets.teacher_label[0])
    classes, probabilities = best_classes(targets)
    if probabilities is None:
        return Answer(teacher, label, names[label], top=(), tail_mass=None)
    top = tuple(Probability(int(c), names[int(c)], float(p)) for c, p in zip(classes[0], probabilities[0], strict=True))
    return Answer(teacher, label, names[label], top, tail_mass=max(0.0, 1.0 - float(probabilities[0].sum())))


def best_classes(targets: Targets, count: int = TOP) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
    """The `count` best classes [B, k] of each view and their probabilities (None where only labels are stored)."""
    if targets.logits is not None:
        wide = targets.logits.astype(np.float64)
        shifted = np.exp(wide - wide.max(axis=1, keepdims=True))
        probabilities = shifted / shifted.sum(axis=1, keepdims=True)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
        return order, np.take_along_axis(probabilities, order, axis=1)
    if targets.topk_class is not None and targets.topk_logp is not None:
        return targets.topk_class[:, :count], np.exp(targets.topk_logp[:, :count].astype(np.float64))
    return targets.teacher_label[:, None], None


def find_sample(samples: SampleIndex, asked: str) -> int:
    """The sample of a number, a key, or the unique end of a key.

    Raises:
        UsageProblem: none, or several.
    """
    if asked.isdecimal() and int(asked) < len(samples.keys):
        return int(asked)
    keys = list(samples.keys)
    matches = [i for i, key in enumerate(keys) if key == asked] or [
        i for i, key in enumerate(keys) if key.endswith(asked)
    ]
    if len(matches) == 1:
        return matches[0]
    if matches:
        named = ", ".join(keys[i] for i in matches[:3])
        raise UsageProblem(
            f"--sample {asked!r} is the end of {len(matches)} samples: {named}, ...", cure="give more of the path"
        )
    raise UsageProblem(
        f"no sample {asked!r} in this cache",
        expected=f"0..{len(keys) - 1}, or a path such as {keys[0]}",
        cure="give for example --sample 0",
    )


def sample_facts(views: CachedViews, teachers: Sequence[CachedArrays], sample: int) -> SampleFacts:
    """Every cell that shows a sample, with its draw and the teachers' answers.

    Raises:
        Missing: no epoch is cached.
    """
    epochs = max((arrays.epochs for arrays in teachers), default=0)
    if not epochs:
        raise Missing("no epoch is cached yet", cure="make one with: deit-pipe cache-teacher")
    cells: list[CellFacts] = []
    with progress("looking up", epochs, "epochs") as shown:
        for epoch in range(epochs):
            slots = np.flatnonzero(views.plan.sample_at(epoch) == sample)
            cells += [cell_facts(views, teachers, epoch, slot) for slot in slots.tolist()]
            shown.advance(1)
    label = int(views.table.labels[sample])
    return SampleFacts(
        sample, views.table.keys[sample], label, class_name(views.table.class_names, label), tuple(cells)
    )
