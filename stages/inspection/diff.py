"""`inspect-cache --diff`: two caches field by field, and how often their teachers agree on the same views."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.console.progress import progress
from deit_pipe.stages.console.words import Line
from deit_pipe.stages.opened.arrays import CachedArrays
from deit_pipe.store.errors import FieldDifference, shortened
from deit_pipe.store.stored_cache import Source, stored_cache

WIDTH = 36


@dataclass(frozen=True)
class Difference(Facts):
    """One field in which two caches differ, with its JSON value on either side."""

    field: str
    here: Any
    there: Any


@dataclass(frozen=True)
class AnswerDifference(Facts):
    """How two teachers answer the cells that both have; the largest difference is of dense logits."""

    cells: int
    fingerprints_equal: int
    labels_equal: int
    largest_difference: float | None


@dataclass(frozen=True)
class TeacherPair(Facts):
    """A teacher of each side; `answers` is None where the views differ."""

    here: str
    there: str
    identity: tuple[Difference, ...]
    answers: AnswerDifference | None


@dataclass(frozen=True)
class TeacherNames(Facts):
    """The teachers of either side."""

    here: Sequence[str]
    there: Sequence[str]


@dataclass(frozen=True)
class CacheDifference(Facts):
    """Two caches.

    Attributes:
        other: the second one, as given.
        same_views: whether their identities agree; `manifest` says where they do not.
        manifest, provenance: fields that differ.
        teachers: of both.
        pairs: the teachers that are compared.
    """

    other: str
    same_views: bool
    manifest: tuple[Difference, ...]
    provenance: tuple[Difference, ...]
    teachers: TeacherNames
    pairs: tuple[TeacherPair, ...]


def diff(cache: Source, other: Source) -> CacheDifference:
    """Differences of identity, teachers and provenance; label agreement where both answered the same views.

    Raises:
        CacheMissing: one of them is no cache.
    """
    one, two = stored_cache(cache), stored_cache(other)
    differences = one.manifest.differences(two.manifest, Recipe.later_defaults())
    names = TeacherNames(one.teacher_names, two.teacher_names)
    same_views = not differences
    shared = [name for name in names.here if name in names.there]
    pairs = [(name, name) for name in shared] or (
        [(names.here[0], names.there[0])] if len(names.here) == len(names.there) == 1 else []
    )
    return CacheDifference(
        other=two.path,
        same_views=same_views,
        manifest=_fields(differences),
        provenance=_mapping_fields(one.provenance, two.provenance),
        teachers=names,
        pairs=tuple(
            TeacherPair(
                here,
                there,
                identity=_fields(one.teacher(here).identity.differences(two.teacher(there).identity)),
                answers=compare_answers(CachedArrays(one, here), CachedArrays(two, there)) if same_views else None,
            )
            for here, there in pairs
        ),
    )


def compare_answers(one: CachedArrays, two: CachedArrays) -> AnswerDifference:
    """Over the cells that both have."""
    cells, equal = 0, {"fingerprint": 0, "teacher_label": 0}
    largest: float | None = None
    dense = "logits" in one.names and "logits" in two.names
    epochs = min(one.epochs, two.epochs)
    with progress("comparing", epochs, "epochs") as shown:
        for epoch in range(epochs):
            slots = np.flatnonzero(one.committed(epoch) & two.committed(epoch))
            edges = sorted({0, len(slots), *np.flatnonzero(np.diff(slots // one.identity.block_slots)) + 1})
            for low, high in pairwise(edges):  # a block at a time: dense logits of an epoch need not fit the memory
                part = slots[low:high]
                cells += len(part)
                for name in equal:
                    equal[name] += int((one.rows(name, epoch, part) == two.rows(name, epoch, part)).sum())
                if dense:
                    rows = [arrays.rows("logits", epoch, part).astype(np.float32) for arrays in (one, two)]
                    largest = max(largest or 0.0, float(np.abs(rows[0] - rows[1]).max(initial=0.0)))
            shown.advance(1)
    return AnswerDifference(cells, equal["fingerprint"], equal["teacher_label"], largest)


def diff_lines(found: CacheDifference, cache: str) -> list[Line]:
    """A comparison for a person."""
    lines = [(f"{cache}  against  {found.other}", "bold")]
    if found.same_views:
        lines.append(("  views       the same: data, recipe, seed, size and version agree", "green"))
    else:
        lines.append(("  views       different", "bold red"))
        lines += [_row(row, "bold") for row in found.manifest]
    lines += [(f"  made with   {row.field}: {row.here} | {row.there}", "dim") for row in found.provenance]
    here, there = found.teachers.here, found.teachers.there
    lines += [(f"  teacher     {name} only in {cache}", "") for name in here if name not in there]
    lines += [(f"  teacher     {name} only in {found.other}", "") for name in there if name not in here]
    for pair in found.pairs:
        title = pair.here if pair.here == pair.there else f"{pair.here} | {pair.there}"
        lines.append((f"  teacher     {title}: {'the same' if not pair.identity else 'different'}", ""))
        lines += [_row(row, "") for row in pair.identity]
        if pair.answers is not None and pair.answers.cells:
            lines.append((_answer_words(pair.answers), "bold"))
    return lines


def _answer_words(found: AnswerDifference) -> str:
    far = found.largest_difference
    return (
        f"  answers     {found.labels_equal / found.cells:.2%} of {found.cells:,} labels agree, "
        f"{found.fingerprints_equal / found.cells:.2%} of fingerprints"
        + ("" if far is None else f", largest difference of a logit {far:.3g}")
    )


def _row(row: Difference, style: str) -> Line:
    return f"    {row.field:<24} {shortened(row.here, WIDTH):<{WIDTH}} {shortened(row.there, WIDTH)}", style


def _fields(differences: Sequence[FieldDifference]) -> tuple[Difference, ...]:
    return tuple(Difference(d.field, d.cached, d.given) for d in differences)


def _mapping_fields(one: Mapping[str, str], two: Mapping[str, str]) -> tuple[Difference, ...]:
    return tuple(
        Difference(name, one.get(name, "absent"), two.get(name, "absent"))
        for name in dict.fromkeys([*one, *two])
        if one.get(name) != two.get(name)
    )
