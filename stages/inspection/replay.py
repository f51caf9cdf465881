"""`inspect-cache --replay`: make cached views again and compare fingerprints; no torch unless a teacher is asked too.

Shapes: B cells of a batch.
"""

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.plan import Cells, Purpose, ViewPlan
from deit_pipe.pipeline.streams import random_words
from deit_pipe.stages.console.errors import Missing, UsageProblem
from deit_pipe.stages.console.progress import progress
from deit_pipe.stages.console.words import human_duration
from deit_pipe.stages.inspection.cell import printable
from deit_pipe.stages.opened.arrays import CachedArrays
from deit_pipe.stages.opened.causes import Causes
from deit_pipe.stages.opened.replay import changed_versions, version_pairs
from deit_pipe.stages.opened.views import CachedViews

if TYPE_CHECKING:
    from deit_pipe.stages.inspection.teacher_check import TeacherCheck

BATCH = 256
SHOWN = 5


@dataclass
class Replay:
    """What a replay found."""

    asked: str
    checked: int = 0
    different: int = 0
    seconds: float = 0.0
    examples: list[dict[str, Any]] = field(default_factory=list)
    causes: Causes = field(default_factory=Causes)
    versions: dict[str, list[str]] = field(default_factory=dict)
    answers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """All fingerprints, and all answers that were computed again, are the cached ones."""
        return not self.different and all(not answer["different"] for answer in self.answers)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `versions` maps a library to [cached, here] where they differ."""
        return {
            "asked": self.asked,
            "checked": self.checked,
            "equal": self.checked - self.different,
            "different": self.different,
            "seconds": self.seconds,
            "examples": self.examples,
            "cause": self.causes.sentence(),
            "versions": self.versions,
            "answers": self.answers,
        }


def replay(
    views: CachedViews,
    teachers: Sequence[CachedArrays],
    asked: str,
    provenance: Mapping[str, str],
    checks: "Sequence[TeacherCheck]" = (),
) -> Replay:
    """Make the asked cells again and compare them with every teacher that has them.

    Args:
        views: of the cache.
        teachers: whose fingerprints are compared.
        asked: `all`, a number of random cells, or `E/A-B`: slots A..B of epoch E.
        provenance: the library versions recorded with the cache.
        checks: teachers whose answers to these views are computed again.

    Raises:
        UsageProblem: `asked` is none of these. Missing: nothing is committed there.
    """
    found = Replay(asked, versions=changed_versions(provenance))
    batches = list(chosen_cells(asked, teachers, views.plan))
    total = sum(len(cells.slots) for cells in batches)
    if not total:
        raise Missing(f"no committed block among the cells {asked!r}\nmake them with: deit-pipe cache-teacher")
    started = time.perf_counter()
    with progress("replaying", total, "views") as shown:
        for cells in batches:
            rendered = views.render(cells.epoch, cells.slots)
            differs = np.zeros(len(cells.slots), np.bool_)
            for arrays in teachers:
                there = arrays.committed(cells.epoch)[cells.slots]
                cached = np.where(there, 0, rendered.fingerprints).astype(np.uint32)
                cached[there] = arrays.rows("fingerprint", cells.epoch, cells.slots[there])
                differs |= cached != rendered.fingerprints
                for place in np.flatnonzero(cached != rendered.fingerprints)[: SHOWN - len(found.examples)].tolist():
                    sample = int(rendered.samples[place])
                    found.examples.append(
                        {
                            "epoch": cells.epoch,
                            "slot": int(cells.slots[place]),
                            "sample": sample,
                            "key": views.table.keys[sample],
                            "teacher": arrays.identity.name,
                            "cached": f"{int(cached[place]):08x}",
                            "replayed": f"{int(rendered.fingerprints[place]):08x}",
                        }
                    )
            found.causes.add(rendered, differs)
            found.checked += len(cells.slots)
            found.different += int(differs.sum())
            for check in checks:
                check.add(rendered)
            shown.advance(len(cells.slots), f"{found.different} differ" if found.different else "")
        found.answers = [check.finish() for check in checks]
    found.seconds = time.perf_counter() - started
    return found


def chosen_cells(asked: str, teachers: Sequence[CachedArrays], plan: ViewPlan) -> Iterator[Cells]:
    """Whole mix groups of the asked cells that at least one teacher has, in batches of one epoch."""
    epochs = max((arrays.epochs for arrays in teachers), default=0)
    there = {epoch: _committed(teachers, epoch, plan.num_slots) for epoch in range(epochs)}
    if asked == "all":
        wanted = there
    elif asked.isdecimal() and int(asked) > 0:
        wanted = _random_cells(int(asked), there)
    else:
        wanted = _range_of(asked, there)
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


def _range_of(asked: str, there: Mapping[int, NDArray[np.bool_]]) -> dict[int, NDArray[np.bool_]]:
    epoch, first, last = parse_cells(asked, "--replay")
    mask = np.zeros_like(there[epoch]) if epoch in there else np.zeros(0, np.bool_)
    mask[first : last + 1] = True
    return {epoch: mask & there[epoch]} if epoch in there else {}


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
        raise UsageProblem(f"{option} {text!r} is not {wanted}\n  give for example {option} {example}")
    return int(epoch), int(first), int(last or first)


def replay_lines(found: Mapping[str, Any], cache: str) -> list[tuple[str, str]]:
    """What a replay found, as (line, style)."""
    rate = f"{human_duration(found['seconds'])}, {found['checked'] / max(1e-9, found['seconds']):,.0f} views/s"
    if not found["different"]:
        lines = [(f"replayed {found['checked']:,} views: every fingerprint is the cached one ({rate})", "green")]
        if found["versions"]:
            lines.append((f"         although libraries differ: {version_pairs(found['versions'])}", ""))
    else:
        lines = [(f"replay differs: {found['different']:,} of {found['checked']:,} views ({rate})", "bold red")]
        lines += [
            (
                f"  epoch {one['epoch']}, slot {one['slot']}, sample {one['sample']} ({printable(one['key'])}): "
                f"cached {one['cached']}, replayed {one['replayed']}",
                "red",
            )
            for one in found["examples"]
        ]
        lines.append((f"  {found['cause']}", "bold"))
        if found["versions"]:
            lines.append((f"  libraries that differ from the cache's: {version_pairs(found['versions'])}", "bold"))
            lines.append(("  install the cached versions, or make a new cache", ""))
        else:
            lines.append(
                (
                    "  every library has the cache's version: an image file was changed, or a library's code",
                    "",
                )
            )
            lines.append(("  restore it, or make a new cache", ""))
    for answer in found["answers"]:
        lines += _answer_lines(answer, cache)
    return lines


def _answer_lines(answer: Mapping[str, Any], cache: str) -> list[tuple[str, str]]:
    size = answer["largest_difference"]
    far = "" if size is None else f", largest difference of a {answer['compared']} {size:.2g}"
    style = "bold red" if answer["different"] else "green"
    lines = [
        (
            f"answers  {answer['teacher']}: {answer['labels_equal']:,} of {answer['checked']:,} labels agree{far}",
            style,
        )
    ]
    if answer["different"]:
        lines.append(
            (
                f"  {answer['different']:,} views are answered otherwise, by more than {answer['tolerance']:.0%}",
                style,
            )
        )
        lines += [
            (f"  epoch {epoch}, block {block}: {count:,} views", style)
            for epoch, block, count in answer["blocks"][:SHOWN]
        ]
        lines.append(
            (
                f"  free that teacher and cache it again: "
                f"deit-pipe remove-teacher {answer['teacher']} --cache {shlex.quote(cache)}",
                "",
            )
        )
    return lines
