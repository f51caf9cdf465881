"""`deit-pipe inspect-cache`: what a cache is, whether it is whole and healthy, what to do next. No torch, no zarr."""

from typing import Any

import numpy as np

from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
from deit_pipe.stages.report import CommandResult, human_bytes
from deit_pipe.store.ledger import Coverage, coverage
from deit_pipe.store.manifest import (
    Manifest,
    list_teachers,
    read_manifest,
    read_provenance,
    read_teacher,
)

INCOMPLETE, DAMAGED = 3, 5


def run(options: InspectCacheOptions) -> CommandResult:
    """Read manifest, identities and ledger; verify where asked."""
    manifest = read_manifest(options.cache)
    provenance = read_provenance(options.cache)
    teachers = [teacher_facts(options.cache, name) for name in list_teachers(options.cache)]
    damage = [line for teacher in teachers for line in teacher["damage"]]
    if options.verify:
        from deit_pipe.store.verify import verify

        damage += [str(finding) for finding in verify(options.cache, options.verify)]  # type: ignore[arg-type]
    complete = bool(teachers) and all(teacher["complete"] for teacher in teachers)
    code = DAMAGED if damage else 0 if complete else INCOMPLETE
    follow_up = next_command(options.cache, teachers, damage)
    data = {
        "cache": options.cache, "complete": complete, "manifest": manifest.to_json(), "digest": manifest.digest,
        "provenance": provenance, "teachers": teachers, "verified": options.verify, "damage": damage,
        "next": follow_up,
    }  # fmt: skip
    return CommandResult(screen(options, manifest, provenance, teachers, damage, follow_up), data, code)


def teacher_facts(cache: str, name: str) -> dict[str, Any]:
    """One teacher's identity, coverage, sizes and health, as JSON values."""
    identity = read_teacher(cache, name)
    state = coverage(cache, name)
    columns = state.columns
    views = int(state.slots_committed.sum())
    stored = {key.removeprefix("bytes."): int(column.sum()) for key, column in columns.items()
              if key.startswith("bytes.")}  # fmt: skip
    return {
        "name": name,
        "identity": identity.to_json(),
        "digest": identity.digest,
        "epochs": state.epochs,
        "complete": state.complete and state.epochs > 0,
        "blocks_committed": int(state.blocks_committed.sum()),
        "blocks_total": state.blocks_total * state.epochs,
        "views": views,
        "stored_bytes": stored,
        "bytes_per_view": sum(stored.values()) / views if views else None,
        "health": health(state, views),
        "damage": [f"{damage.key} {damage.what}" for damage in state.damage if damage.lost],
    }


def health(state: Coverage, views: int) -> dict[str, float] | None:
    """Means over all committed views; None before the first block."""
    if not views:
        return None
    columns = state.columns
    weight = (columns["stop"] - columns["start"]) / views
    return {
        "agrees_with_label": float(columns["agree"].sum() / views),
        "agrees_with_label_or_partner": float(columns["agree_either"].sum() / views),
        "mean_top1_probability": float(np.dot(columns["top1"], weight)),
        "mean_entropy": float(np.dot(columns["entropy"], weight)),
        "ties": float(columns["ties"].sum() / views),
    }


def next_command(cache: str, teachers: list[dict[str, Any]], damage: list[str]) -> str:
    """The command that a person wants now."""
    place = "" if cache == "./teacher-cache" else f" --cache {cache}"
    unfinished = [teacher for teacher in teachers if not teacher["complete"]]
    if damage or unfinished or not teachers:
        chosen = next(iter(unfinished or teachers), None)
        model = "regnety_160" if chosen is None else chosen["identity"]["model"]
        epochs = f" --epochs {chosen['epochs']}" if chosen and chosen["epochs"] else ""
        return f"deit-pipe cache-teacher --teacher {model}{place}{epochs}"
    return f"deit-pipe train-student{place}"


def screen(
    options: InspectCacheOptions, manifest: Manifest, provenance: dict[str, str], teachers: list[dict[str, Any]],
    damage: list[str], follow_up: str,
) -> str:  # fmt: skip
    """One screen for a person."""
    lines = [
        f"{options.cache}   format {manifest.format_version}, views {manifest.views_version}, "
        f"identity {manifest.digest[:16]}",
        f"  data     {provenance.get('data', 'unknown')}: {manifest.num_samples:,} samples, "
        f"{manifest.num_classes} classes, sha256 {manifest.samples_digest[:16]}",
        f"  views    recipe {provenance.get('recipe', 'custom')} ({manifest.recipe_digest[:16]}), "
        f"{manifest.image_size} px, seed {manifest.seed}",
    ]
    for teacher in teachers:
        lines += teacher_lines(teacher)
    if not teachers:
        lines.append("  no teacher yet")
    if options.verify:
        lines.append(
            f"  verified {options.verify}: {'no damage' if not damage else f'{len(damage)} findings'}"
        )
    lines += [f"  DAMAGED  {line}" for line in damage[:10]]
    if len(damage) > 10:
        lines.append(f"           and {len(damage) - 10} more")
    lines.append(f"next: {follow_up}")
    return "\n".join(lines)


def teacher_lines(teacher: dict[str, Any]) -> list[str]:
    """The part of the screen about one teacher."""
    identity = teacher["identity"]
    share = teacher["blocks_committed"] / max(1, teacher["blocks_total"])
    size = sum(teacher["stored_bytes"].values())
    per_view = "" if teacher["bytes_per_view"] is None else f", {teacher['bytes_per_view']:.2f} B a view"
    lines = [
        f"teacher {teacher['name']}: {identity['model']}, {identity['head']}, {identity['precision']}, "
        f"weights sha256 {identity['weights_sha256'][:16]}",
        f"  blocks   {teacher['blocks_committed']} of {teacher['blocks_total']} ({share:.0%}) in {teacher['epochs']} "
        f"epochs, {teacher['views']:,} views; {'complete' if teacher['complete'] else 'INCOMPLETE'}",
        f"  targets  {identity['targets']}: {human_bytes(size)}{per_view} ("
        + ", ".join(f"{name} {human_bytes(count)}" for name, count in teacher["stored_bytes"].items())
        + ")",
    ]
    if (well := teacher["health"]) is not None:
        lines.append(
            f"  health   agrees with the label {well['agrees_with_label']:.2%}, mean top-1 probability "
            f"{well['mean_top1_probability']:.3f}, entropy {well['mean_entropy']:.3f} nat, fp16 ties {well['ties']:.2%}"
        )
    return lines
