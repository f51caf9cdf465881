"""Parts of the cache's page around the plots: headline, warnings, key figures, storage, identities."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deit_pipe.stages.console.words import human_bytes, human_duration, number, sides
from deit_pipe.stages.inspection.facts import CacheFacts, TeacherFacts
from deit_pipe.stages.inspection.outliers import Outlier
from deit_pipe.stages.inspection.screen import describe_outlier
from deit_pipe.stages.pages.html import Html, table, tag

SHOWN_OUTLIERS = 12
TIMES = "\u00d7"


def heading(facts: CacheFacts, teachers: Sequence[TeacherFacts]) -> list[Html]:
    """Name, state, what it is in one line, what is wrong, and the most important numbers."""
    manifest, provenance = facts.manifest, facts.provenance
    names = ", ".join(one.identity.model for one in teachers) or "no teacher yet"
    about = (
        f"{names} on {Path(provenance.get('data', 'unknown')).name}: {manifest.num_samples:,} samples, "
        f"{manifest.num_classes:,} classes, recipe {Path(provenance.get('recipe', 'custom')).stem}, "
        f"{manifest.image_size} px, seed {manifest.seed}"
    )
    parts = [
        tag("header", tag("h1", facts.cache), tag("span", facts.state, class_=f"state {facts.state}")),
        tag("p", about, class_="soft"),
    ]
    parts += banners(facts, teachers)
    for one in teachers:
        if one.health:
            parts.append(tiles(one))
    return parts


def banners(facts: CacheFacts, teachers: Sequence[TeacherFacts]) -> list[Html]:
    """What a reader must not miss."""
    found = []
    if facts.damage:
        lines = [tag("p", line) for line in facts.damage[:8]]
        title = tag("p", tag("b", f"Damaged: {len(facts.damage)} findings"))
        cure = tag("p", "repair with ", tag("code", facts.next))
        found.append(tag("div", title, *lines, cure, class_="banner bad"))
    for one in teachers:
        left = one.left
        if left.blocks:
            about = f", about {human_duration(left.seconds)}" if left.seconds else ""
            words = f"{one.name}: {left.blocks:,} of {one.blocks_total:,} blocks are missing{about}"
            cure = tag("p", "go on with ", tag("code", facts.next))
            found.append(tag("div", tag("p", tag("b", words)), cure, class_="banner"))
        if one.outliers:
            words = f"{len(one.outliers)} of {one.blocks_committed:,} blocks are unlike the others"
            title = tag("p", tag("b", words), ": a broken GPU or a wrong normalisation looks like this")
            rows = [tag("p", outlier_words(odd)) for odd in one.outliers[:SHOWN_OUTLIERS]]
            found.append(tag("div", title, *rows, class_="banner bad"))
    return found


def outlier_words(odd: Outlier) -> str:
    """One odd block."""
    return f"epoch {odd.epoch}, block {odd.block} (slots {odd.start} to {odd.stop - 1}): {describe_outlier(odd)}"


def tiles(teacher: TeacherFacts) -> Html:
    """The numbers that are looked for first."""
    assert teacher.health is not None
    means = teacher.health.means
    entries = [
        (number(means.agrees_with_label * 100), "%", "of views: teacher agrees with the label"),
        (number(means.mean_top1_probability, 3), "", "mean probability of its answer"),
        (number(means.mean_entropy, 3), "nat", "mean entropy"),
        (f"{teacher.views:,}", "", f"views in {teacher.epochs} epochs, {teacher.share:.0%} of the blocks"),
        (number(teacher.bytes_per_view), "B", f"a view, {human_bytes(teacher.bytes)} in all"),
    ]
    either = means.agrees_with_label_or_partner
    if either != means.agrees_with_label:
        entries.insert(1, (number(either * 100), "%", "agree with either label of a mixed view"))
    if means.topk_mass is not None:
        entries.insert(3, (number(means.topk_mass * 100), "%", "of the probability is in the kept classes"))
    boxes = [
        tag("div", tag("b", value, " ", tag("span", unit, class_="unit")), tag("span", words), class_="tile")
        for value, unit, words in entries
    ]
    return tag("div", *boxes, class_="tiles")


STORED = (
    ("array", None),
    ("shape", None),
    ("type", None),
    ("block", None),
    ("stored", "n"),
    ("B / view", "n"),
    ("ratio", "n"),
)


def stored_card(teacher: TeacherFacts) -> Html:
    """The arrays and what they cost."""
    rows: list[list[Html | str]] = [
        [
            tag("code", one.name),
            sides(one.shape, TIMES),
            one.dtype,
            sides(one.block, TIMES),
            human_bytes(one.stored_bytes),
            number(one.bytes_per_view),
            number(one.ratio),
        ]
        for one in teacher.arrays
    ]
    total = human_bytes(teacher.bytes), number(teacher.bytes_per_view), number(teacher.ratio)
    rows.append(["all", "", "", "", *total])
    return tag("section", tag("h3", teacher.name), table(STORED, rows, total=True), class_="card wide")


def details(facts: CacheFacts, teachers: Sequence[TeacherFacts]) -> list[Html]:
    """Identity, recipe and provenance, folded away."""
    manifest = facts.manifest.to_json()
    recipe = manifest.pop("recipe")
    parts = [
        fold("Identity of the views", {**manifest, "digest": facts.digest}),
        fold("Recipe", recipe),
        fold("Made with", facts.provenance),
    ]
    for one in teachers:
        parts.append(fold(f"Identity of {one.name}", one.identity.to_json()))
        for place, run in enumerate(one.runs):
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run["time"]))
            many = f"{run['world']} process{'es' if run['world'] > 1 else ''}"
            parts.append(fold(f"Writing run {place + 1} of {one.name}: {when}, {many}", run["provenance"]))
    return parts


def fold(title: str, values: Mapping[str, Any]) -> Html:
    """Names and values under a title that opens them."""
    rows = [part for key, value in values.items() for part in (tag("dt", key), tag("dd", _plain(value)))]
    return tag("details", tag("summary", title), tag("dl", *rows))


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
