"""Parts of the cache's page around the plots: headline, warnings, key figures, storage, identities."""

import time
from collections.abc import Sequence
from pathlib import Path

from deit_pipe.stages.console.words import human_bytes, human_duration, number, sides
from deit_pipe.stages.inspection.facts import CacheFacts, TeacherFacts
from deit_pipe.stages.inspection.outliers import Outlier
from deit_pipe.stages.inspection.screen import describe_outlier
from deit_pipe.stages.pages.parts import Card, Column, Fold, Table, Tile

SHOWN_OUTLIERS = 12
TIMES = "\u00d7"


def about(facts: CacheFacts, teachers: Sequence[TeacherFacts]) -> str:
    """What it is, in one line."""
    manifest, provenance = facts.manifest, facts.provenance
    names = ", ".join(one.identity.model for one in teachers) or "no teacher yet"
    return (
        f"{names} on {Path(provenance.get('data', 'unknown')).name}: {manifest.num_samples:,} samples, "
        f"{manifest.num_classes:,} classes, recipe {Path(provenance.get('recipe', 'custom')).stem}, "
        f"{manifest.image_size} px, seed {manifest.seed}"
    )


def missing(teacher: TeacherFacts) -> str | None:
    """What is not cached yet; None where all is there."""
    left = teacher.left
    if not left.blocks:
        return None
    time_left = f", about {human_duration(left.seconds)}" if left.seconds else ""
    return f"{teacher.name}: {left.blocks:,} of {teacher.blocks_total:,} blocks are missing{time_left}"


def outlier_words(odd: Outlier) -> str:
    """One odd block."""
    return f"epoch {odd.epoch}, block {odd.block} (slots {odd.start} to {odd.stop - 1}): {describe_outlier(odd)}"


def tiles(teacher: TeacherFacts) -> list[Tile]:
    """The numbers that are looked for first; none before the first block."""
    if teacher.health is None:
        return []
    means = teacher.health.means
    entries = [
        Tile(number(means.agrees_with_label * 100), "%", "of views: teacher agrees with the label"),
        Tile(number(means.mean_top1_probability, 3), "", "mean probability of its answer"),
        Tile(number(means.mean_entropy, 3), "nat", "mean entropy"),
        Tile(f"{teacher.views:,}", "", f"views in {teacher.epochs} epochs, {teacher.share:.0%} of the blocks"),
        Tile(number(teacher.bytes_per_view), "B", f"a view, {human_bytes(teacher.bytes)} in all"),
    ]
    either = means.agrees_with_label_or_partner
    if either != means.agrees_with_label:
        entries.insert(1, Tile(number(either * 100), "%", "agree with either label of a mixed view"))
    if means.topk_mass is not None:
        entries.insert(3, Tile(number(means.topk_mass * 100), "%", "of the probability is in the kept classes"))
    return entries


STORED = (
    Column("array", code=True),
    Column("shape"),
    Column("type"),
    Column("block"),
    Column("stored", "n"),
    Column("B / view", "n"),
    Column("ratio", "n"),
)


def stored_card(teacher: TeacherFacts) -> Card:
    """The arrays and what they cost."""
    rows = [
        [
            one.name,
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
    return Card(teacher.name, table=Table(STORED, rows, total=True), wide=True)


def folds(facts: CacheFacts, teachers: Sequence[TeacherFacts]) -> list[Fold]:
    """Identity, recipe and provenance, folded away."""
    manifest = facts.manifest.to_json()
    recipe = manifest.pop("recipe")
    parts = [
        Fold.of("Identity of the views", {**manifest, "digest": facts.digest}),
        Fold.of("Recipe", recipe),
        Fold.of("Made with", facts.provenance),
    ]
    for one in teachers:
        parts.append(Fold.of(f"Identity of {one.name}", one.identity.to_json()))
        for place, run in enumerate(one.runs):
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run["time"]))
            many = f"{run['world']} process{'es' if run['world'] > 1 else ''}"
            parts.append(Fold.of(f"Writing run {place + 1} of {one.name}: {when}, {many}", run["provenance"]))
    return parts
