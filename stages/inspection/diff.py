"""`inspect-cache --diff`: two caches field by field, and how often their teachers agree on the same views."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.stages.console.progress import progress
from deit_pipe.stages.opened.arrays import CachedArrays
from deit_pipe.store.errors import FieldDifference
from deit_pipe.store.stored_cache import Source, stored_cache

WIDTH = 36


def diff(cache: Source, other: Source) -> dict[str, Any]:
    """Differences of identity, teachers and provenance; label agreement where both answered the same views.

    Raises:
        CacheMissing: one of them is no cache.
    """
    one, two = stored_cache(cache), stored_cache(other)
    differences = one.manifest.differences(two.manifest, Recipe.later_defaults())
    names = (one.teacher_names, two.teacher_names)
    same_views = not differences
    shared = [name for name in names[0] if name in names[1]]
    pairs = [(name, name) for name in shared] or (
        [(names[0][0], names[1][0])] if len(names[0]) == len(names[1]) == 1 else []
    )
    return {
        "other": two.path,
        "same_views": same_views,
        "manifest": _fields(differences),
        "provenance": _mapping_fields(one.provenance, two.provenance),
        "teachers": {"here": names[0], "there": names[1]},
        "pairs": [
            {
                "here": here,
                "there": there,
                "identity": _fields(one.teacher(here).identity.differences(two.teacher(there).identity)),
                "answers": None
                if not same_views
                else compare_answers(CachedArrays(one, here), CachedArrays(two, there)),
            }
            for here, there in pairs
        ],
    }


def compare_answers(one: CachedArrays, two: CachedArrays) -> dict[str, Any]:
    """Over the cells that both have: equal fingerprints, equal labels, the largest difference of dense logits."""
    facts: dict[str, Any] = {
        "cells": 0,
        "fingerprints_equal": 0,
        "labels_equal": 0,
        "largest_difference": None,
    }
    dense = "logits" in one.names and "logits" in two.names
    epochs = min(one.epochs, two.epochs)
    with progress("comparing", epochs, "epochs") as shown:
        for epoch in range(epochs):
            slots = np.flatnonzero(one.committed(epoch) & two.committed(epoch))
            edges = sorted({0, len(slots), *np.flatnonzero(np.diff(slots // one.identity.block_slots)) + 1})
            for low, high in pairwise(edges):  # a block at a time: dense logits of an epoch need not fit the memory
                part = slots[low:high]
                facts["cells"] += len(part)
                for key, name in (("fingerprints_equal", "fingerprint"), ("labels_equal", "teacher_label")):
                    facts[key] += int((one.rows(name, epoch, part) == two.rows(name, epoch, part)).sum())
                if dense:
                    rows = [arrays.rows("logits", epoch, part).astype(np.float32) for arrays in (one, two)]
                    far = float(np.abs(rows[0] - rows[1]).max(initial=0.0))
                    facts["largest_difference"] = max(facts["largest_difference"] or 0.0, far)
            shown.advance(1)
    return facts


def diff_lines(facts: Mapping[str, Any], cache: str) -> list[tuple[str, str]]:
    """A comparison for a person, as (line, style)."""
    other = facts["other"]
    lines = [(f"{cache}  against  {other}", "bold")]
    if facts["same_views"]:
        lines.append(("  views       the same: data, recipe, seed, size and version agree", "green"))
    else:
        lines.append(("  views       different", "bold red"))
        lines += [_row(row, "bold") for row in facts["manifest"]]
    lines += [(f"  made with   {row['field']}: {row['here']} | {row['there']}", "dim") for row in facts["provenance"]]
    names = facts["teachers"]
    for side, others, where in (("here", "there", cache), ("there", "here", other)):
        only = [name for name in names[side] if name not in names[others]]
        lines += [(f"  teacher     {name} only in {where}", "") for name in only]
    for pair in facts["pairs"]:
        title = pair["here"] if pair["here"] == pair["there"] else f"{pair['here']} | {pair['there']}"
        lines.append((f"  teacher     {title}: {'the same' if not pair['identity'] else 'different'}", ""))
        lines += [_row(row, "") for row in pair["identity"]]
        if (found := pair["answers"]) is not None and found["cells"]:
            far = found["largest_difference"]
            lines.append(
                (
                    f"  answers     {found['labels_equal'] / found['cells']:.2%} of {found['cells']:,} labels agree, "
                    f"{found['fingerprints_equal'] / found['cells']:.2%} of fingerprints"
                    + ("" if far is None else f", largest difference of a logit {far:.3g}"),
                    "bold",
                )
            )
    return lines


def _row(row: Mapping[str, Any], style: str) -> tuple[str, str]:
    return f"    {row['field']:<24} {_short(row['here']):<{WIDTH}} {_short(row['there'])}", style


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."


def _fields(differences: list[FieldDifference]) -> list[dict[str, Any]]:
    return [{"field": d.field, "here": d.cached, "there": d.given} for d in differences]


def _mapping_fields(one: Mapping[str, str], two: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"field": name, "here": one.get(name, "absent"), "there": two.get(name, "absent")}
        for name in dict.fromkeys([*one, *two])
        if one.get(name) != two.get(name)
    ]
