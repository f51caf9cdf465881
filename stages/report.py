"""`deit-pipe report`: one HTML page about a training run, alone or against another one. No torch."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deit_pipe import __version__
from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.options.run_report import RunReportOptions
from deit_pipe.stages.pages.html import Child, Html, page, percent, table, tag
from deit_pipe.stages.pages.run_charts import (
    HEADS,
    LOSSES,
    agreement_card,
    heads_card,
    loss_card,
    rate_card,
    speed_card,
    wait_card,
)
from deit_pipe.stages.pages.run_metrics import WAITS, Run, read_run
from deit_pipe.stages.pages.style import STYLE

NOT_SETTINGS = ("data", "val_data", "out", "cache", "workers", "device")


def run(options: RunReportOptions) -> CommandResult:
    """Read one run or two, write the page."""
    runs = [read_run(Path(folder)) for folder in (options.run, options.against) if folder]
    target = Path(options.out) if options.out else Path(options.run) / "report.html"
    if target.is_dir() or not target.parent.is_dir():
        raise UsageProblem(
            f"--out {target} cannot be written\n  expected a file in an existing folder\ngive another name"
        )
    target.write_text(document(runs), encoding="utf-8")
    data = {
        "file": str(target),
        "run": runs[0].to_json(),
        "against": runs[1].to_json() if len(runs) > 1 else None,
    }
    return CommandResult("\n".join([*(summary(one) for one in runs), f"report   {target}"]), data)


def summary(one: Run) -> str:
    """One line about a run."""
    best = one.best()
    if best is not None:
        score = f"best top-1 {best[0]:.2%} ({one.answer}, after epoch {best[1] + 1})"
    elif one.answer in one.test_scores():
        score = f"test top-1 {one.test_scores()[one.answer]['top1']:.2%} ({one.answer}, nothing selected)"
    else:
        score = "not evaluated" if one.result else "not evaluated yet"
    state = "finished" if one.result else "not finished"
    return f"{one.name}: {len(one.epochs)} epochs, {state}, {score}"


def document(runs: Sequence[Run]) -> str:
    """The page."""
    first = runs[0]
    title = first.name if len(runs) == 1 else f"{first.name} against {runs[1].name}"
    state, words = ("complete", "finished") if first.result else ("incomplete", "not finished")
    about = ", ".join(
        str(first.config[key]) for key in ("student", "loss", "preset") if first.config.get(key) is not None
    )
    body: list[Child] = [
        tag("header", tag("h1", title), tag("span", words, class_=f"state {state}")),
        tag("p", f"{about}; cache {first.config.get('cache', 'unknown')}", class_="soft"),
        *(tiles(one, len(runs) > 1) for one in runs),
        tag("h2", "Does it learn?"),
        tag("div", heads_card(runs), loss_card(runs), agreement_card(runs), class_="cards"),
        tag("h2", "Does it run well?"),
        tag("div", rate_card(runs), speed_card(runs), wait_card(runs), class_="cards"),
    ]
    if len(runs) > 1:
        body += [tag("h2", "What differs"), difference_card(runs[0], runs[1])]
    body += [tag("h2", "Epoch by epoch"), *(epochs_card(one) for one in runs)]
    body += [settings(one) for one in runs]
    body.append(tag("footer", f"deit-pipe {__version__}, {time.strftime('%Y-%m-%d %H:%M')}"))
    return page(f"{title}: training", STYLE, [tag("main", *body)])


def tiles(one: Run, named: bool) -> Html:
    """The numbers that are looked for first."""
    best, scores = one.best(), one.last_scores()
    entries: list[tuple[str, str, str]] = []
    if best is not None:
        entries.append((f"{best[0] * 100:.2f}", "%", f"best top-1, {one.answer}, after epoch {best[1] + 1}"))
    for head, words, _ in HEADS:
        if head in scores:
            entries.append((f"{scores[head]['top1'] * 100:.2f}", "%", f"{words}, last evaluation"))
        if head in one.test_scores():
            entries.append((f"{one.test_scores()[head]['top1'] * 100:.2f}", "%", f"{words}, test images"))
    if (speed := one.speed()) is not None:
        entries.append((f"{speed:,.0f}", "/s", "views, median"))
    if (wait := one.share(WAITS[0])) is not None:
        entries.append((f"{wait * 100:.1f}", "%", "of the time waiting for views"))
    boxes = [
        tag("div", tag("b", value, " ", tag("span", unit, class_="unit")), tag("span", words), class_="tile")
        for value, unit, words in entries
    ]
    return tag("div", tag("h3", one.name) if named else None, tag("div", *boxes, class_="tiles"))


def epochs_card(one: Run) -> Html:
    """Numbers of the epochs: all of a short run, about twenty of a long one."""
    step = max(1, -(-len(one.epochs) // 20))
    chosen = [line for place, line in enumerate(one.epochs) if place % step == 0 or place == len(one.epochs) - 1]
    columns = [
        ("epoch", "n"),
        ("step", "n"),
        ("lr", "n"),
        *((words, "n") for _, words, _ in LOSSES),
        ("agreement", "n"),
    ]
    columns += [(words, "n") for _, words, _ in HEADS]
    rows = [
        [
            str(line["epoch"] + 1),
            f"{line['step']:,}",
            f"{line.get('lr', math.nan):.2e}",
            *(_number(line.get(key)) for key, _, _ in LOSSES),
            _share(line.get("agreement")),
            *(_share(line.get("val", {}).get(head, {}).get("top1")) for head, _, _ in HEADS),
        ]
        for line in chosen
    ]
    return tag("section", tag("h3", one.name), table(columns, rows), class_="card wide")


def difference_card(one: Run, two: Run) -> Html:
    """Settings in which two runs differ."""
    names = [
        name
        for name in dict.fromkeys([*one.config, *two.config])
        if name not in NOT_SETTINGS and one.config.get(name) != two.config.get(name)
    ]
    rows = [[name.replace("_", "-"), str(one.config.get(name)), str(two.config.get(name))] for name in names]
    if not rows:
        return tag("p", "Their settings are the same.")
    columns = [("setting", None), (one.name, None), (two.name, None)]
    return tag("section", table(columns, rows), class_="card wide")


def settings(one: Run) -> Html:
    """All settings, folded away."""
    rows = [
        part
        for name, value in one.config.items()
        for part in (tag("dt", name.replace("_", "-")), tag("dd", str(value)))
    ]
    return tag("details", tag("summary", f"Settings of {one.name}"), tag("dl", *rows))


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "-"


def _share(value: Any) -> str:
    return percent(value, 2) if isinstance(value, int | float) else "-"
