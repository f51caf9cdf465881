"""`deit-pipe compare`: finished runs in one table, with spread and paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deit_pipe.stages.comparing.compared_runs import InferenceCost, Line, Measured, compare, differing
from deit_pipe.stages.comparing.tables import csv_text, table_text
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.console.progress import progress
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.console.target_file import check_target
from deit_pipe.stages.options.compare import CompareOptions
from deit_pipe.stages.pages.compare_page import write_compare_page


@dataclass(frozen=True)
class ComparedRuns(Facts):
    """What all runs were `measured` on, names of the settings that tell the `lines` apart, and these."""

    measured: Measured
    differing: list[str]
    lines: Sequence[Line]


def run(options: CompareOptions) -> CommandResult[ComparedRuns]:
    """Read, put into lines, measure where asked, show."""
    rows, page = (Path(target) if target else None for target in (options.csv, options.report))
    for target, name in ((rows, "--csv"), (page, "--report")):
        if target is not None:
            check_target(target, name)
    lines = compare(options.runs)
    costs = measured(lines, options) if options.measure else []
    shown = [cost.to_json() for cost in costs]
    text = table_text(lines, shown)
    text += "\n" if rows or page else ""
    if rows is not None:
        rows.write_text(csv_text(lines), encoding="utf-8")
        text += f"\nrows     {rows}"
    if page is not None:
        write_compare_page(page, lines, shown)
        text += f"\npage     {page}"
    if costs:
        lines = [replace(line, cost=cost) for line, cost in zip(lines, costs, strict=True)]
    return CommandResult(text, ComparedRuns(lines[0].runs[0].measured, differing(lines), lines))


def measured(lines: list[Line], options: CompareOptions) -> list[InferenceCost]:
    """What the student of each line's first run costs to use."""
    from deit_pipe.stages.comparing.inference_cost import inference_cost  # torch: only where something is measured
    from deit_pipe.stages.machine.distributed import choose_device

    device = choose_device(options.device)
    costs = []
    with progress("measuring", len(lines), "students", quiet=len(lines) < 3) as shown:
        for line in lines:
            costs.append(inference_cost(Path(line.runs[0].folder), device, options.batch_size))
            shown.advance(1, line.runs[0].folder)
    return costs
