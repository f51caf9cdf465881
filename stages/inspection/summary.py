"""What a cache is, as plain facts, from manifest, identities and ledger alone: no target is read, no torch, no zarr.

The screen, `--json` and the report all show these facts. Keys are stable: new ones may come, none go away or change
their meaning. Shares and probabilities are 0..1, entropies nats, sizes bytes, slots [first, last].

    cache, digest, state (complete | incomplete | damaged | empty), complete, manifest, provenance
    teachers[]  name, identity, digest, epochs, complete, blocks_committed, blocks_total, blocks_per_epoch, views,
                views_total, coverage[], arrays[], stored_bytes {array: bytes}, bytes, bytes_per_view, health,
                per_epoch[], classes, outliers[], blamed_ranks[], runs[], left, gate, damage[], notes[]
      coverage[]   epoch, blocks, blocks_total, slots, sealed
      arrays[]     name, dims[], shape[], dtype, block[], stored_bytes, raw_bytes, bytes_per_view, ratio
      health       agrees_with_label, agrees_with_label_or_partner, mean_top1_probability, mean_entropy, ties,
                   topk_mass, confidence[20], labelled_share, chance_agreement, agreement_skill, near_chance
                   (null before the first block). labelled_share: of the samples; chance_agreement: what answers
                   that have nothing to do with the images would reach with either label; agreement_skill: what was
                   reached, 0 being that and 1 what a perfect teacher would (null where that says nothing: no
                   labels, one class); near_chance: agreement_skill is below 0.1
      per_epoch[]  epoch, agrees_with_label, mean_top1_probability, mean_entropy
      classes      views, counts[], never[], least, most   (teacher labels of sealed epochs; null before the first)
      outliers[]   epoch, block, slots, rank, statistic, value, typical, spread, z
      gate         what cache-teacher measured before caching (null in older caches): decision (passed | warned |
                   accepted | not gated), reason, cause, split, images, accuracy, skill, skill_low, skill_high, ece,
                   mean_confidence, known, known_from, image_size, trained_size, ...
      left         blocks, views, seconds (at the last run's rate; null if unknown)
    verified, damage[], next
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_pipe.stages.console.command_lines import command_line
from deit_pipe.stages.inspection.agreement import agreement_facts
from deit_pipe.stages.inspection.outliers import blamed_ranks, find_outliers
from deit_pipe.stages.opened.continue_line import continue_teacher
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.store.gates import gate_key
from deit_pipe.store.layout import array_specs
from deit_pipe.store.ledger import Coverage
from deit_pipe.store.manifest import Manifest, TeacherIdentity
from deit_pipe.store.stored_cache import Source, StoredCache, StoredTeacher, stored_cache


def summarise(cache: Source) -> dict[str, Any]:
    """All facts of a cache; see the module's text for the keys.

    Raises:
        CacheMissing: no cache there. CacheCorrupt: its identity, or a teacher's, is damaged.
    """
    stored = stored_cache(cache)
    manifest = stored.manifest
    teachers = [teacher_facts(stored.teacher(name)) for name in stored.teacher_names]
    damage = [line for teacher in teachers for line in teacher["damage"]]
    facts: dict[str, Any] = {
        "cache": stored.path,
        "digest": manifest.digest,
        "state": "",
        "complete": False,
        "manifest": manifest.to_json(),
        "provenance": stored.provenance,
        "teachers": teachers,
        "verified": None,
        "damage": [],
        "next": "",
    }
    return settle(facts, damage, stored)


def settle(facts: dict[str, Any], damage: list[str], stored: StoredCache) -> dict[str, Any]:
    """Add damage, and what follows from it: state and next command."""
    facts["damage"] = list(dict.fromkeys([*facts["damage"], *damage]))
    teachers = facts["teachers"]
    facts["complete"] = bool(teachers) and all(teacher["complete"] for teacher in teachers)
    if facts["damage"]:
        facts["state"] = "damaged"
    elif facts["complete"]:
        facts["state"] = "complete"
    else:
        facts["state"] = "incomplete" if any(teacher["views"] for teacher in teachers) else "empty"
    facts["next"] = next_command(facts, stored)
    return facts


def next_command(facts: Mapping[str, Any], stored: StoredCache) -> str:
    """The command that a person wants now."""
    teachers = facts["teachers"]
    if not teachers:
        return command_line("cache-teacher", CacheTeacherOptions, cache=stored.path)
    if facts["damage"] or not facts["complete"]:
        named = [t for t in teachers if any(line.startswith(f"{t['name']}:") for line in facts["damage"])]
        unfinished = [t for t in teachers if not t["complete"]]
        return continue_teacher(stored, (named or unfinished or teachers)[0]["name"])
    return command_line("train-student", TrainStudentOptions, cache=stored.path)


def teacher_facts(stored: StoredTeacher) -> dict[str, Any]:
    """The facts of one teacher."""
    name, identity, state = stored.name, stored.identity, stored.coverage
    manifest = stored.cache.manifest
    well = health(state.columns)
    if well is not None:
        well |= agreement_facts(
            well["agrees_with_label_or_partner"],
            stored.cache.labels,
            state.class_counts,
            identity.num_classes,
            manifest.recipe,
        )
    views, wanted = int(state.slots_committed.sum()), state.epochs * state.num_slots
    sizes = {
        key.removeprefix("bytes."): int(column.sum())
        for key, column in state.columns.items()
        if key.startswith("bytes.")
    }
    outliers = find_outliers(state.columns, identity.num_classes)
    committed, total = int(state.blocks_committed.sum()), state.blocks_total * state.epochs
    return {
        "name": name,
        "identity": identity.to_json(),
        "digest": identity.digest,
        "epochs": state.epochs,
        "complete": state.complete and state.epochs > 0,
        "blocks_committed": committed,
        "blocks_total": total,
        "blocks_per_epoch": state.blocks_total,
        "views": views,
        "views_total": wanted,
        "coverage": coverage_facts(state),
        "arrays": array_facts(identity, manifest, state.epochs, sizes, views),
        "stored_bytes": sizes,
        "bytes": sum(sizes.values()),
        "bytes_per_view": sum(sizes.values()) / views if views else None,
        "health": well,
        "per_epoch": per_epoch(state),
        "classes": class_balance(state.class_counts),
        "outliers": [outlier.to_json() for outlier in outliers],
        "blamed_ranks": blamed_ranks(outliers, state.columns),
        "runs": stored.runs,
        "gate": stored.gate.record,
        "left": {
            "blocks": total - committed,
            "views": wanted - views,
            "seconds": seconds_left(state.columns, wanted - views),
        },
        "damage": [
            *(f"{name}: ledger: {d.what} ({d.key})" for d in state.damage if d.lost),
            *([f"{name}: gate: {stored.gate.damage} ({gate_key(name)})"] if stored.gate.damage else []),
        ],
        "notes": [f"{d.key} {d.what}; its copy is good" for d in state.damage if not d.lost],
    }


def coverage_facts(state: Coverage) -> list[dict[str, Any]]:
    """Committed blocks of every wanted epoch."""
    return [
        {
            "epoch": epoch,
            "blocks": int(state.blocks_committed[epoch]),
            "blocks_total": state.blocks_total,
            "slots": int(state.slots_committed[epoch]),
            "sealed": bool(state.sealed[epoch]),
        }
        for epoch in range(state.epochs)
    ]


def array_facts(
    identity: TeacherIdentity, manifest: Manifest, epochs: int, stored: Mapping[str, int], views: int
) -> list[dict[str, Any]]:
    """Every stored array: what it is, and what it costs."""
    facts = []
    for spec in array_specs(identity.format):
        size, raw = stored.get(spec.name, 0), spec.row_bytes * views
        facts.append(
            {
                "name": spec.name,
                "dims": ["epoch", "slot", *spec.row_dims],
                "shape": [epochs, manifest.num_samples, *spec.row],
                "dtype": spec.dtype.name,
                "block": [1, identity.block_slots, *spec.row],
                "stored_bytes": size,
                "raw_bytes": raw,
                "bytes_per_view": size / views if views else None,
                "ratio": raw / size if size else None,
            }
        )
    return facts


def health(columns: Mapping[str, NDArray[Any]]) -> dict[str, Any] | None:
    """Means over all committed views; None before the first block."""
    slots = columns["stop"] - columns["start"]
    views = int(slots.sum())
    if not views:
        return None
    mass = columns["topk_mass"]
    known = np.isfinite(mass)
    return {
        "agrees_with_label": float(columns["agree"].sum() / views),
        "agrees_with_label_or_partner": float(columns["agree_either"].sum() / views),
        "mean_top1_probability": float(columns["top1"] @ slots / views),
        "mean_entropy": float(columns["entropy"] @ slots / views),
        "ties": float(columns["ties"].sum() / views),
        "topk_mass": float(mass[known] @ slots[known] / slots[known].sum()) if known.any() else None,
        "confidence": columns["confidence"].sum(axis=0).tolist(),
    }


def per_epoch(state: Coverage) -> list[dict[str, Any]]:
    """Means of every epoch that has a block."""
    columns, epochs = state.columns, state.epochs
    slots = (columns["stop"] - columns["start"]).astype(np.float64)
    views = np.bincount(columns["epoch"], slots, epochs)
    sums = {
        "agrees_with_label": np.bincount(columns["epoch"], columns["agree"], epochs),
        "mean_top1_probability": np.bincount(columns["epoch"], columns["top1"] * slots, epochs),
        "mean_entropy": np.bincount(columns["epoch"], columns["entropy"] * slots, epochs),
    }
    return [
        {"epoch": epoch, **{name: float(total[epoch] / views[epoch]) for name, total in sums.items()}}
        for epoch in np.flatnonzero(views).tolist()
    ]


def class_balance(counts: Mapping[int, NDArray[np.int64]]) -> dict[str, Any] | None:
    """How often the teacher says each class, over the sealed epochs; None before the first seal."""
    if not counts:
        return None
    total = np.sum(list(counts.values()), axis=0)
    return {
        "views": int(total.sum()),
        "counts": total.tolist(),
        "never": np.flatnonzero(total == 0).tolist(),
        "least": int(total.argmin()),
        "most": int(total.argmax()),
    }


def seconds_left(columns: Mapping[str, NDArray[Any]], views: int) -> float | None:
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
