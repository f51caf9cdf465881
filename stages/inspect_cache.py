"""`deit-pipe inspect-cache`: what a cache is, whether it is whole and healthy, what the student sees, what to do next.

The screen needs neither torch nor zarr: what needs them is imported only where it was asked for.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rich.text import Text

from deit_pipe.stages.console.errors import Missing, UsageProblem
from deit_pipe.stages.console.facts import Facts, if_there
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.console.words import Line
from deit_pipe.stages.inspection.facts import CacheFacts
from deit_pipe.stages.inspection.replay_facts import ReplayFacts, replay_lines
from deit_pipe.stages.inspection.screen import screen
from deit_pipe.stages.inspection.summary import settled, summarise
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
from deit_pipe.store.stored_cache import StoredCache

if TYPE_CHECKING:
    from deit_pipe.stages.inspection.cell import CellFacts, SampleFacts
    from deit_pipe.stages.inspection.diff import CacheDifference
    from deit_pipe.stages.inspection.made_again import RebuiltIndex, UpgradedCache, ZarrCopy
    from deit_pipe.stages.opened.arrays import CachedArrays
    from deit_pipe.stages.opened.views import CachedViews
    from deit_pipe.stages.pages.cache_page import PageFacts

SHOWN_STRAYS = 6
OK, INCOMPLETE, DIFFERS, DAMAGED = 0, 3, 4, 5


@dataclass(frozen=True)
class InspectedCache(CacheFacts):
    """A cache, and what was asked of it.

    Attributes:
        ignored: what lies in it and is no file of a cache; None where there is nothing.
        replay, report: what was made again; the written page.
    """

    ignored: Sequence[str] | None = if_there()
    replay: ReplayFacts | None = if_there()
    report: "PageFacts | None" = if_there()


@dataclass(frozen=True)
class InspectedCell(Facts):
    """One cell of a cache."""

    cache: str
    cell: "CellFacts"


@dataclass(frozen=True)
class InspectedSample(Facts):
    """One sample of a cache, with every cell that shows it."""

    cache: str
    sample: "SampleFacts"


Inspected: TypeAlias = (
    "InspectedCache | InspectedCell | InspectedSample | CacheDifference | UpgradedCache | RebuiltIndex | ZarrCopy"
)


def run(options: InspectCacheOptions) -> "CommandResult[Inspected]":
    """One cell, one sample, a comparison, or the screen with whatever checks were asked for."""
    check_options(options)
    stored = StoredCache(options.cache)
    if options.teacher:
        stored.teacher(options.teacher)  # a name that is not there is refused, whatever is asked of it
    if options.upgrade or options.rebuild or options.zarr:
        from deit_pipe.stages.inspection.made_again import made_again

        return made_again(options, stored)
    if options.cell or options.sample:
        return look_closer(options, stored)
    if options.diff:
        from deit_pipe.stages.inspection.diff import diff, diff_lines

        found = diff(stored, options.diff)
        lines = styled(diff_lines(found, options.cache))
        return CommandResult(lines, found, OK if found.same_views else DIFFERS)
    facts = summarise(stored)
    if options.verify:
        from deit_pipe.store.verify import verify

        findings = verify(stored, options.verify)
        facts = settled(replace(facts, verified=findings.words), [str(finding) for finding in findings], stored)
    replayed = prove(options, facts, stored) if options.replay else None
    extra = [] if replayed is None else replay_lines(replayed, options.cache)
    report = None
    if options.report:
        from deit_pipe.stages.pages.cache_page import write_report

        facts, report = write_report(options, facts, stored)
        extra.append((f"report   {report.file}", "bold"))
    if stored.strays:
        extra.insert(0, (f"ignored  {', '.join(stored.strays[:SHOWN_STRAYS])}: no files of a cache", "dim"))
    inspected = InspectedCache(
        **{one.name: getattr(facts, one.name) for one in fields(facts)},
        ignored=stored.strays or None,
        replay=replayed,
        report=report,
    )
    return CommandResult(screen(facts, extra), inspected, exit_code(facts, replayed))


def exit_code(facts: CacheFacts, replayed: ReplayFacts | None) -> int:
    """The worst of what was found: damage, then a replay that differs, then missing blocks."""
    if facts.damage:
        return DAMAGED
    if replayed is not None and not replayed.equal_to_cache:
        return DIFFERS
    return OK if facts.complete else INCOMPLETE


def check_options(options: InspectCacheOptions) -> None:
    """Refuse options that would do nothing.

    Raises:
        UsageProblem: an option that needs another one.
    """
    if options.teacher_weights and not options.replay:
        raise UsageProblem(
            "--teacher-weights asks a teacher about replayed views", cure="give --replay too, such as --replay 256"
        )
    if options.png and not options.cell:
        raise UsageProblem("--png draws one cell", cure="give --cell too, such as --cell 0/17")
    asked = [name for name in ("upgrade", "rebuild", "zarr", "diff", "report", "replay") if getattr(options, name)]
    if len(asked) > 1 and asked[0] in ("upgrade", "rebuild", "zarr"):
        raise UsageProblem(f"--{asked[0]} and --{asked[1]} are two tasks", cure="give one of them")
    if options.cell and options.sample:
        raise UsageProblem("--cell and --sample are two questions", cure="give one of them")


def prove(options: InspectCacheOptions, facts: CacheFacts, stored: StoredCache) -> ReplayFacts:
    """Make the asked views again, and ask a teacher again where its weights are given."""
    from deit_pipe.stages.inspection.replay import replay

    views, teachers = open_all(options, stored)
    checks = []
    if options.teacher_weights:
        from deit_pipe.stages.inspection.teacher_check import open_check

        checks = [
            open_check(arrays, views, options.teacher_weights, options.device)
            for arrays in only_one(teachers, "--teacher-weights")
        ]
    assert options.replay is not None
    return replay(views, teachers, options.replay, stored, checks)


def open_all(options: InspectCacheOptions, stored: StoredCache) -> "tuple[CachedViews, list[CachedArrays]]":
    """The images of a cache, and its teachers (or the named one)."""
    from deit_pipe.stages.opened.arrays import CachedArrays
    from deit_pipe.stages.opened.views import open_views

    names = [stored.teacher(options.teacher).name] if options.teacher else stored.teacher_names
    if not names:
        raise Missing(
            f"no teacher in {options.cache} yet",
            cure=f"add one with: deit-pipe cache-teacher --cache {shlex.quote(options.cache)} --teacher NAME",
        )
    return open_views(stored, options.data), [CachedArrays(stored, name) for name in names]


def only_one(teachers: "list[CachedArrays]", option: str) -> "list[CachedArrays]":
    """The only teacher.

    Raises:
        UsageProblem: there are several.
    """
    if len(teachers) != 1:
        names = ", ".join(arrays.identity.name for arrays in teachers)
        raise UsageProblem(f"{option} is about one teacher, this cache has {names}", cure="say which, with --teacher")
    return teachers


def look_closer(options: InspectCacheOptions, stored: StoredCache) -> CommandResult[InspectedCell | InspectedSample]:
    """One cell or one sample."""
    from deit_pipe.stages.inspection.cell import cell_facts, find_sample, sample_facts
    from deit_pipe.stages.inspection.cell_lines import cell_lines, sample_lines

    views, teachers = open_all(options, stored)
    if options.sample:
        sample = sample_facts(views, teachers, find_sample(stored.samples, options.sample))
        return CommandResult(styled(sample_lines(sample)), InspectedSample(options.cache, sample))
    from deit_pipe.stages.inspection.replay import parse_cells

    assert options.cell is not None
    epoch, slot, _ = parse_cells(options.cell, "--cell")
    cell = cell_facts(views, teachers, epoch, slot)
    lines = cell_lines(cell)
    if options.png:
        from deit_pipe.stages.pages.cell_picture import save_cell

        save_cell(views, epoch, slot, Path(options.png))
        cell = replace(cell, png=options.png)
        lines.append((f"  picture     {options.png}", ""))
    return CommandResult(
        styled(lines), InspectedCell(options.cache, cell), DIFFERS if cell.fingerprint_equal is False else OK
    )


def styled(lines: Sequence[Line]) -> Text:
    """Lines with one style each."""
    return Text("\n").join(Text(line, style) for line, style in lines)
