"""`inspect-cache --cell` and `--sample`: what one cell shows, what its label is, what the teacher answered.

Shapes: B cells of a mix group, C classes, K kept classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.cells import RenderedCells
from deit_pipe.pipeline.decode import decode as decode_image
from deit_pipe.pipeline.decode import size_of
from deit_pipe.pipeline.samples import UNLABELLED, class_name
from deit_pipe.stages.console.errors import Missing, UsageProblem
from deit_pipe.stages.console.progress import progress
from deit_pipe.stages.inspection.view_words import mix_words, view_words
from deit_pipe.stages.opened.arrays import CachedArrays
from deit_pipe.stages.opened.views import CachedViews
from deit_pipe.store.formats import Targets
from deit_pipe.store.manifest import SampleIndex

TOP = 5


def cell_facts(views: CachedViews, teachers: Sequence[CachedArrays], epoch: int, slot: int) -> dict[str, Any]:
    """Everything about one cell, as JSON values.

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
            f"no cell {epoch}/{slot} in this cache\n"
            f"  expected  epoch 0..{epochs - 1}, slot 0..{views.plan.num_slots - 1}\n"
            "give for example --cell 0/0"
        )


def describe_cell(
    views: CachedViews, teachers: Sequence[CachedArrays], rendered: RenderedCells, place: int
) -> dict[str, Any]:
    """The facts of the cell at `place` of a rendered mix group."""
    names, keys = views.table.class_names, views.table.keys
    epoch, slot, sample = rendered.epoch, int(rendered.slots[place]), int(rendered.samples[place])
    size = size_of(decode_image(views.table.read(sample)))
    label = int(rendered.labels[place])
    partner, lam = int(rendered.partner[place]), float(rendered.lam[place])
    words = view_words(rendered.views[place], size)
    mix = None
    if partner != place:
        box = tuple(int(edge) for edge in rendered.mix_box[place])
        other = int(rendered.labels[partner])
        mix = {
            "kind": "cutmix" if box[2] * box[3] else "mixup",
            "lam": lam,
            "box": list(box),
            "slot": int(rendered.slots[partner]),
            "sample": int(rendered.samples[partner]),
            "key": keys[int(rendered.samples[partner])],
            "class": other,
            "class_name": class_name(names, other),
        }
        words.append(mix_words((box[0], box[1], box[2], box[3]), lam, f"slot {mix['slot']}, {mix['class_name']}"))
    answers = []
    for arrays in teachers:
        if arrays.has(epoch, slot):
            targets = arrays.targets(epoch, np.array([slot]))
            answers.append({"teacher": arrays.identity.name, **answer_facts(targets, names)})
    cached = [
        int(arrays.rows("fingerprint", epoch, np.array([slot]))[0]) for arrays in teachers if arrays.has(epoch, slot)
    ]
    replayed = int(rendered.fingerprints[place])
    return {
        "epoch": epoch,
        "slot": slot,
        "sample": sample,
        "key": keys[sample],
        "class": label,
        "class_name": class_name(names, label),
        "image_size": list(size),
        "draw": words,
        "mix": mix,
        "answers": answers,
        "fingerprint": f"{replayed:08x}",
        "fingerprint_equal": all(one == replayed for one in cached) if cached else None,
    }


def answer_facts(targets: Targets, names: Sequence[str]) -> dict[str, Any]:
    """The teacher's answer to the first view of `targets`: label, best classes with probabilities, mass of the rest."""
    label = int(targets.teacher_label[0])
    classes, probabilities = best_classes(targets)
    facts: dict[str, Any] = {"label": label, "label_name": names[label], "top": [], "tail_mass": None}
    if probabilities is not None:
        facts["top"] = [
            {"class": int(c), "class_name": names[int(c)], "probability": float(p)}
            for c, p in zip(classes[0], probabilities[0], strict=True)
        ]
        facts["tail_mass"] = max(0.0, 1.0 - float(probabilities[0].sum()))
    return facts


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


def printable(text: str) -> str:
    """A file's or class's name without what could steer a terminal."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def cell_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """A cell for a person, as (line, style)."""
    return [(printable(line), style) for line, style in _cell_lines(facts)]


def _cell_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    mix = facts["mix"]
    true = f"{facts['class_name']} ({facts['class']})"
    if mix is not None:
        true += f" {mix['lam']:.1%}, {mix['class_name']} ({mix['class']}) {1 - mix['lam']:.1%}"
    equal = {True: "the cached one", False: "NOT the cached one", None: "no answer cached yet"}[
        facts["fingerprint_equal"]
    ]
    lines = [
        (f"cell {facts['epoch']}/{facts['slot']}  sample {facts['sample']}  {facts['key']}", "bold"),
        (f"  true class  {true}", ""),
        (
            f"  fingerprint {facts['fingerprint']}, {equal}",
            "bold red" if facts["fingerprint_equal"] is False else "",
        ),
    ]
    lines += [(f"  {'draw' if not place else '':<11} {word}", "") for place, word in enumerate(facts["draw"])]
    if mix is not None:
        lines.append((f"  {'partner':<11} sample {mix['sample']}  {mix['key']}", ""))
    for answer in facts["answers"]:
        right = answer["label"] in (facts["class"], *([mix["class"]] if mix else []))
        lines.append(
            (
                f"  {answer['teacher']} says {answer['label_name']} ({answer['label']})",
                "green" if right else "red",
            )
        )
        lines += [
            (
                f"    {one['probability']:7.2%}  {bar(one['probability'])}  {one['class_name']} ({one['class']})",
                "",
            )
            for one in answer["top"]
        ]
        if answer["tail_mass"] is not None:
            lines.append((f"    {answer['tail_mass']:7.2%}  {bar(answer['tail_mass'])}  all other classes", "dim"))
    return lines


def bar(share: float, width: int = 20) -> str:
    """A bar of `width` places."""
    filled = round(share * width)
    return "█" * filled + "·" * (width - filled)


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
            f"--sample {asked!r} is the end of {len(matches)} samples: {named}, ...\ngive more of the path"
        )
    raise UsageProblem(
        f"no sample {asked!r} in this cache\n  expected  0..{len(keys) - 1}, or a path such as {keys[0]}\n"
        "give for example --sample 0"
    )


def sample_facts(views: CachedViews, teachers: Sequence[CachedArrays], sample: int) -> dict[str, Any]:
    """Every cell that shows a sample, with its draw and the teachers' answers.

    Raises:
        Missing: no epoch is cached.
    """
    epochs = max((arrays.epochs for arrays in teachers), default=0)
    if not epochs:
        raise Missing("no epoch is cached yet\nmake one with: deit-pipe cache-teacher")
    cells = []
    with progress("looking up", epochs, "epochs") as shown:
        for epoch in range(epochs):
            slots = np.flatnonzero(views.plan.sample_at(epoch) == sample)
            cells += [cell_facts(views, teachers, epoch, slot) for slot in slots.tolist()]
            shown.advance(1)
    label = int(views.table.labels[sample])
    return {
        "sample": sample,
        "key": views.table.keys[sample],
        "class": label,
        "class_name": class_name(views.table.class_names, label),
        "cells": cells,
    }


def sample_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """A sample for a person: a line per view."""
    return [(printable(line), style) for line, style in _sample_lines(facts)]


def _sample_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [(f"sample {facts['sample']}  {facts['key']}  {facts['class_name']} ({facts['class']})", "bold")]
    for cell in facts["cells"]:
        answers = []
        for answer in cell["answers"]:
            best = f" {answer['top'][0]['probability']:.0%}" if answer["top"] else ""
            answers.append(f"{answer['label_name']}{best}")
        right = facts["class"] == UNLABELLED or all(answer["label"] == facts["class"] for answer in cell["answers"])
        place = f"{cell['epoch']}/{cell['slot']}"
        lines.append(
            (
                f"  {place:<12} {' | '.join(answers) or 'not cached yet':<24}  {'; '.join(cell['draw'][1:])}",
                "" if right else "red",
            )
        )
    if not facts["cells"]:
        lines.append(("  in no cached epoch: with repeated augmentation an epoch shows a part of the samples", ""))
    return lines
