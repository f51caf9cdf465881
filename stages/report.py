"""`deit-pipe report`: one HTML page about a training run, alone or against another one. No torch."""

from dataclasses import dataclass
from pathlib import Path

from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.console.target_file import check_target
from deit_pipe.stages.options.run_report import RunReportOptions
from deit_pipe.stages.pages.run_metrics import Run, RunFacts, read_run, top1_of
from deit_pipe.stages.pages.run_page import write_run_page


@dataclass(frozen=True)
class RunPage(Facts):
    """The written page, and the numbers on it: of the `run`, and of the one it is held `against`, if any."""

    file: str
    run: RunFacts
    against: RunFacts | None


def run(options: RunReportOptions) -> CommandResult[RunPage]:
    """Read one run or two, write the page."""
    runs = [read_run(Path(folder)) for folder in (options.run, options.against) if folder]
    target = Path(options.out) if options.out else Path(options.run) / "report.html"
    check_target(target, "--out")
    write_run_page(target, runs)
    facts = RunPage(str(target), runs[0].facts(), runs[1].facts() if len(runs) > 1 else None)
    return CommandResult("\n".join([*(summary(one) for one in runs), f"report   {target}"]), facts)


def summary(one: Run) -> str:
    """One line about a run."""
    best = one.best()
    if best is not None:
        score = f"best top-1 {best.top1:.2%} ({one.answer}, after epoch {best.epoch + 1})"
    elif (tested := top1_of(one.test_scores())) and one.answer in tested:
        score = f"test top-1 {tested[one.answer]:.2%} ({one.answer}, nothing selected)"
    else:
        score = "not evaluated" if one.result else "not evaluated yet"
    state = "finished" if one.result else "not finished"
    return f"{one.name}: {len(one.epochs)} epochs, {state}, {score}"
