"""Finds what a cache is, from manifest, identities and ledger alone: no target is read, no torch, no zarr."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_pipe.stages.console.command_lines import command_line
from deit_pipe.stages.inspection.agreement import agreement_facts
from deit_pipe.stages.inspection.facts import (
    ArrayFacts,
    CacheFacts,
    ClassBalance,
    EpochCoverage,
    EpochMeans,
    Health,
    Left,
    Means,
    TeacherFacts,
)
from deit_pipe.stages.inspection.outliers import blamed_ranks, find_outliers
from deit_pipe.stages.opened.continue_line import continue_teacher
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.store.gates import gate_key
from deit_pipe.store.layout import array_specs
from deit_pipe.store.ledger import Coverage
from deit_pipe.store.manifest import Manifest, TeacherIdentity
from deit_pipe.store.stored_cache import Source, StoredCache, StoredTeacher, stored_cache

Columns = Mapping[str, NDArray[Any]]


def summarise(cache: Source) -> CacheFacts:
    """All facts of a cache.

    Raises:
        CacheMissing: no cache there. CacheCorrupt: its identity, or a teacher's, is damaged.
    """
    stored = stored_cache(cache)
    teachers = tuple(teacher_facts(stored.teacher(name)) for name in stored.teacher_names)
    facts = CacheFacts(
        cache=stored.path,
        digest=stored.manifest.digest,
        state="",
        complete=bool(teachers) and all(teacher.complete for teacher in teachers),
        manifest=stored.manifest,
        provenance=stored.provenance,
        teachers=teachers,
        verified=None,
        damage=(),
        next="",
    )
    return settled(facts, [line for teacher in teachers for line in teacher.damage], stored)


def settled(facts: CacheFacts, damage: Sequence[str], stored: StoredCache) -> CacheFacts:
    """The facts with further damage, and what follows from it: state and next command."""
    lines = tuple(dict.fromkeys([*facts.damage, *damage]))
    if lines:
        state = "damaged"
    elif facts.complete:
        state = "complete"
    else:
        state = "incomplete" if any(teacher.views for teacher in facts.teachers) else "empty"
    return replace(facts, damage=lines, state=state, next=next_command(facts, lines, stored))


def next_command(facts: CacheFacts, damage: Sequence[str], stored: StoredCache) -> str:
    """The command that a person wants now."""
    teachers = facts.teachers
    if not teachers:
        return command_line("cache-teacher", CacheTeacherOptions, cache=stored.path)
    if damage or not facts.complete:
        named = [one for one in teachers if any(line.startswith(f"{one.name}:") for line in damage)]
        unfinished = [one for one in teachers if not one.complete]
        return continue_teacher(stored, (named or unfinished or list(teachers))[0].name, damaged=bool(damage))
    return command_line("train-student", TrainStudentOptions, cache=stored.path)


def teacher_facts(stored: StoredTeacher) -> TeacherFacts:
    """The facts of one teacher."""
    name, identity, state = stored.name, stored.identity, stored.coverage
    views, wanted = int(state.slots_committed.sum()), state.epochs * state.num_slots
    sizes = {
        key.removeprefix("bytes."): int(column.sum())
        for key, column in state.columns.items()
        if key.startswith("bytes.")
    }
    outliers = find_outliers(state.columns, identity.num_classes)
    committed, total = int(state.blocks_committed.sum()), state.blocks_total * state.epochs
    return TeacherFacts(
        name=name,
        identity=identity,
        digest=identity.digest,
        epochs=state.epochs,
        complete=state.complete and state.epochs > 0,
        blocks_committed=committed,
        blocks_total=total,
        blocks_per_epoch=state.blocks_total,
        views=views,
        views_total=wanted,
        coverage=coverage_facts(state),
        arrays=array_facts(identity, stored.cache.manifest, state.epochs, sizes, views),
        stored_bytes=sizes,
        bytes=sum(sizes.values()),
        bytes_per_view=sum(sizes.values()) / views if views else None,
        health=health(stored),
        per_epoch=per_epoch(state),
        classes=class_balance(state.class_counts),
        outliers=tuple(outliers),
        blamed_ranks=tuple(blamed_ranks(outliers, state.columns)),
        runs=stored.runs,
        gate=stored.gate.record,
        left=Left(total - committed, wanted - views, seconds_left(state.columns, wanted - views)),
        damage=(
            *(f"{name}: {d.array}: {d.what} ({d.key})" for d in state.damage if d.lost),
            *([f"{name}: gate: {stored.gate.damage} ({gate_key(name)})"] if stored.gate.damage else []),
        ),
        notes=tuple(f"{d.key} {d.what}" for d in state.damage if not d.lost),
    )


def coverage_facts(state: Coverage) -> tuple[EpochCoverage, ...]:
    """Committed blocks of every wanted epoch."""
    return tuple(
        EpochCoverage(
            epoch=epoch,
            blocks=int(state.blocks_committed[epoch]),
            blocks_total=state.blocks_total,
            slots=int(state.slots_committed[epoch]),
            sealed=bool(state.sealed[epoch]),
        )
        for epoch in range(state.epochs)
    )


def array_facts(
    identity: TeacherIdentity, manifest: Manifest, epochs: int, stored: Mapping[str, int], views: int
) -> tuple[ArrayFacts, ...]:
    """Every stored array: what it is, and what it costs."""
    facts = []
    for spec in array_specs(identity.format):
        size, raw = stored.get(spec.name, 0), spec.row_bytes * views
        facts.append(
            ArrayFacts(
                name=spec.name,
                dims=("epoch", "slot", *spec.row_dims),
                shape=(epochs, manifest.num_samples, *spec.row),
                dtype=spec.dtype.name,
                block=(1, identity.block_slots, *spec.row),
                stored_bytes=size,
                raw_bytes=raw,
                bytes_per_view=size / views if views else None,
                ratio=raw / size if size else None,
            )
        )
    return tuple(facts)


def health(stored: StoredTeacher) -> Health | None:
    """How the teacher does; None before the first block."""
    means = means_of(stored.coverage.columns)
    if means is None:
        return None
    agreement = agreement_facts(
        means.agrees_with_label_or_partner,
        stored.cache.labels,
        stored.coverage.class_counts,
        stored.identity.num_classes,
        stored.cache.manifest.recipe,
    )
    return Health(means, agreement)


def means_of(columns: Columns) -> Means | None:
    """Means over all committed views; None before the first block."""
    slots = columns["stop"] - columns["start"]
    views = int(slots.sum())
    if not views:
        return None
    mass = columns["topk_mass"]
    known = np.isfinite(mass)
    return Means(
        agrees_with_label=float(columns["agree"].sum() / views),
        agrees_with_label_or_partner=float(columns["agree_either"].sum() / views),
        mean_top1_probability=float(columns["top1"] @ slots / views),
        mean_entropy=float(columns["entropy"] @ slots / views),
        ties=float(columns["ties"].sum() / views),
        topk_mass=float(mass[known] @ slots[known] / slots[known].sum()) if known.any() else None,
        confidence=tuple(columns["confidence"].sum(axis=0).tolist()),
    )


def per_epoch(state: Coverage) -> tuple[EpochMeans, ...]:
    """Means of every epoch that has a block."""
    columns, epochs = state.columns, state.epochs
    slots = (columns["stop"] - columns["start"]).astype(np.float64)
    views = np.bincount(columns["epoch"], slots, epochs)
    agree = np.bincount(columns["epoch"], columns["agree"], epochs)
    top1 = np.bincount(columns["epoch"], columns["top1"] * slots, epochs)
    entropy = np.bincount(columns["epoch"], columns["entropy"] * slots, epochs)
    return tuple(
        EpochMeans(epoch, *(float(total[epoch] / views[epoch]) for total in (agree, top1, entropy)))
        for epoch in np.flatnonzero(views).tolist()
    )


def class_balance(counts: Mapping[int, NDArray[np.int64]]) -> ClassBalance | None:
    """How often the teacher says each class, over the sealed epochs; None before the first seal."""
    if not counts:
        return None
    total = np.sum(list(counts.values()), axis=0)
    return ClassBalance(
        views=int(total.sum()),
        counts=tuple(total.tolist()),
        never=tuple(np.flatnonzero(total == 0).tolist()),
        least=int(total.argmin()),
        most=int(total.argmax()),
    )


def seconds_left(columns: Columns, views: int) -> float | None:
    """How long the missing views take at the last run's rate; None where it wrote fewer than two blocks."""
    if not views:
        return 0.0
    if not len(columns["written"]):
        return None
    last = columns["run"] == columns["run"][columns["written"].argmax()]
    written, slots = columns["written"][last], (columns["stop"] - columns["start"])[last]
    duration = float(written.max() - written.min())
    done = int(slots.sum() - slots[written.argmin()])  # the first block took time before its record was written
    return views * duration / done if done and duration > 0 else None
