"""`inspect-cache --replay`: make cached views again and compare what is kept of them; torch only for what needs it.

Shapes: B cells of a batch.
"""

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.cells import RenderedCells
from deit_pipe.pipeline.plan import Cells, Purpose, ViewPlan
from deit_pipe.pipeline.streams import random_words
from deit_pipe.stages.console.errors import Missing, UsageProblem
from deit_pipe.stages.console.progress import progress
from deit_pipe.stages.inspection.replay_facts import SHOWN, DifferingView, ReplayFacts, WitnessFacts
from deit_pipe.stages.opened.arrays import CachedArrays
from deit_pipe.stages.opened.causes import Causes
from deit_pipe.stages.opened.encoded_files import EncodedFiles
from deit_pipe.stages.opened.replay import ReplayContext, changed_versions
from deit_pipe.stages.opened.views import CachedViews
from deit_pipe.store.stored_cache import StoredCache

if TYPE_CHECKING:
    from deit_pipe.stages.inspection.teacher_check import TeacherCheck
    from deit_pipe.stages.inspection.witness_replay import WitnessReplay

BATCH = 256


def replay(
    views: CachedViews,
    teachers: Sequence[CachedArrays],
    asked: str,
    stored: StoredCache,
    checks: "Sequence[TeacherCheck]" = (),
) -> ReplayFacts:
    """Make the asked cells again and compare them, fingerprints and witnesses, with every teacher that has them.

    Args:
        views: of the cache.
        teachers: whose fingerprints are compared.
        asked: `all`, a number of random cells, or `E/A-B`: slots A..B of epoch E.
        stored: the cache; for the libraries and the image files that it was made with.
        checks: teachers whose answers to these views are computed again.

    Raises:
        UsageProblem: `asked` is none of these. Missing: nothing is committed there.
    """
    batches = list(chosen_cells(asked, teachers, views.plan))
    total = sum(len(cells.slots) for cells in batches)
    if not total:
        raise nothing_there(asked, stored, teachers[0].identity.name)
    started, causes, different = time.perf_counter(), Causes(), 0
    examples: list[DifferingView] = []
    files = EncodedFiles(stored, views.table)
    witnesses = _witness_replay(views, stored, teachers, batches)
    with progress("replaying", total, "views") as shown:
        for cells in batches:
            rendered = views.render(cells.epoch, cells.slots)
            differs = np.zeros(len(cells.slots), np.bool_)
            for arrays in teachers:
                there = arrays.committed(cells.epoch)[cells.slots]
                cached = np.where(there, 0, rendered.fingerprints).astype(np.uint32)
                cached[there] = arrays.rows("fingerprint", cells.epoch, cells.slots[there])
                bad = cached != rendered.fingerprints
                differs |= bad
                for place in np.flatnonzero(bad)[: SHOWN - len(examples)].tolist():
                    examples.append(
                        differing_view(views, rendered, place, arrays.identity.name, int(cached[place]), files)
                    )
            if witnesses is not None:
                witnesses.add(rendered, teachers, differs)
            causes.add(rendered, differs)
            different += int(differs.sum())
            for check in checks:
                check.add(rendered)
            shown.advance(len(cells.slots), f"{different} differ" if different else "")
        answers = tuple(check.finish() for check in checks)
    proven = None if stored.manifest.format_version == 1 else _witness_facts(witnesses)
    return ReplayFacts(
        asked=asked,
        checked=total,
        equal=total - different,
        different=different,
        seconds=time.perf_counter() - started,
        examples=tuple(examples),
        cause=causes.sentence(),
        versions=changed_versions(stored.provenance),
        answers=answers,
        witnesses=proven,
        equal_to_cache=not (different or (proven and proven.different) or any(answer.different for answer in answers)),
    )


def nothing_there(asked: str, stored: StoredCache, teacher: str) -> Missing:
    """None of the asked cells is committed."""
    place, name = shlex.quote(stored.path), shlex.quote(teacher)
    return Missing(
        f"no committed block among the cells {asked!r}",
        cure=f"make them with: deit-pipe cache-teacher --cache {place} --teacher {name}",
    )


def _witness_replay(
    views: CachedViews, stored: StoredCache, teachers: Sequence[CachedArrays], batches: Sequence[Cells]
) -> "WitnessReplay | None":
    """What compares witnesses; None where none of the cells has one, so that torch is not imported for nothing."""
    if not any(
        np.isin(cells.slots, arrays.witnesses(cells.epoch).slots).any() for cells in batches for arrays in teachers
    ):
        return None
    from deit_pipe.stages.inspection.witness_replay import WitnessReplay

    return WitnessReplay(views, ReplayContext(stored, views.table))


def _witness_facts(witnesses: "WitnessReplay | None") -> WitnessFacts:
    if witnesses is None:
        return WitnessFacts(0, 0, ())
    return WitnessFacts(witnesses.checked, len(witnesses.different), tuple(witnesses.different[:SHOWN]))


def differing_view(
    views: CachedViews, rendered: RenderedCells, place: int, teacher: str, cached: int, files: EncodedFiles
) -> DifferingView:
    """The view at `place`, both fingerprints, and what is proven of its image file."""
    sample = int(rendered.samples[place])
    return DifferingView(
        epoch=rendered.epoch,
        slot=int(rendered.slots[place]),
        sample=sample,
        key=views.table.keys[sample],
        teacher=teacher,
        cached=f"{cached:08x}",
        replayed=f"{int(rendered.fingerprints[place]):08x}",
        file=files.verdict(sample),
    )


def chosen_cells(asked: str, teachers: Sequence[CachedArrays], plan: ViewPlan) -> Iterator[Cells]:
    """Whole mix groups of the asked cells that at least one teacher has, in batches of one epoch."""
    epochs = max((arrays.epochs for arrays in teachers), default=0)
    there = {epoch: _committed(teachers, epoch, plan.num_slots) for epoch in range(epochs)}
    if asked == "all":
        wanted = there
    elif asked.isdecimal() and int(asked) > 0:
        wanted = _random_cells(int(asked), there)
    else:
        wanted = _range_of(asked, there, plan.num_slots)
    size = max(BATCH // plan.mix_group, 1) * plan.mix_group
    for epoch, mask in sorted(wanted.items()):
        groups = np.unique(np.flatnonzero(mask) // plan.mix_group)
        slots = np.flatnonzero(np.isin(np.arange(plan.num_slots) // plan.mix_group, groups))
        for start in range(0, len(slots), size):
            yield Cells(epoch, slots[start : start + size])


def _committed(teachers: Sequence[CachedArrays], epoch: int, slots: int) -> NDArray[np.bool_]:
    mask = np.zeros(slots, np.bool_)
    for arrays in teachers:
        mask |= arrays.committed(epoch)
    return mask


def _random_cells(count: int, there: Mapping[int, NDArray[np.bool_]]) -> dict[int, NDArray[np.bool_]]:
    """`count` different committed cells, other ones at every call: repeated checks see more and more of a cache."""
    sizes = {epoch: int(mask.sum()) for epoch, mask in there.items()}
    total = sum(sizes.values())
    if count >= total:
        return dict(there)
    words = random_words(time.time_ns() >> 1 & (1 << 62) - 1, Purpose.RUN, 0, 0, 2 * count + 64)
    places = list(dict.fromkeys((words % np.uint64(total)).astype(np.int64).tolist()))
    chosen, passed = np.sort(np.array(places[:count], np.int64)), 0
    wanted = {}
    for epoch, mask in there.items():
        local = chosen[(chosen >= passed) & (chosen < passed + sizes[epoch])] - passed
        passed += sizes[epoch]
        if len(local):
            wanted[epoch] = np.zeros(len(mask), np.bool_)
            wanted[epoch][np.flatnonzero(mask)[local]] = True
    return wanted


def _range_of(asked: str, there: Mapping[int, NDArray[np.bool_]], slots: int) -> dict[int, NDArray[np.bool_]]:
    epoch, first, last = parse_cells(asked, "--replay")
    if epoch not in there or first >= slots:
        raise UsageProblem(
            f"--replay {asked}: the cache has no such cell",
            expected=f"an epoch from 0 to {len(there) - 1}, a slot from 0 to {slots - 1}",
            got=f"epoch {epoch}, slot {first}",
            cure=f"give for example --replay 0/0-{min(255, slots - 1)}",
        )
    mask = np.zeros_like(there[epoch])
    mask[first : last + 1] = True
    return {epoch: mask & there[epoch]}


def parse_cells(text: str, option: str) -> tuple[int, int, int]:
    """`3/17` or `3/0-255` as epoch, first slot, last slot.

    Raises:
        UsageProblem: it is neither.
    """
    epoch, _, slots = text.partition("/")
    first, _, last = slots.partition("-")
    if not (epoch.isdecimal() and first.isdecimal() and (last or first).isdecimal()):
        wanted = "a number of cells, all, or slots of an epoch" if option == "--replay" else "EPOCH/SLOT"
        example = "64, all or 3/0-255" if option == "--replay" else "3/17"
        raise UsageProblem(f"{option} {text!r} is not {wanted}", cure=f"give for example {option} {example}")
    return int(epoch), int(first), int(last or first)
