"""A comparison as text for a person and as CSV for a program."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from deit_pipe.stages.comparing.compared_runs import HEADS, Line, differing, measured_words
from deit_pipe.stages.comparing.intervals import LEVEL, Difference, Spread

HEAD_WORDS = {"class": "class", "dist": "distillation", "fused": "both fused"}


def table_rows(lines: Sequence[Line], costs: Sequence[Mapping[str, Any]] = ()) -> tuple[list[str], list[list[str]]]:
    """Headings and a row a line: what differs, the heads, the difference to the first line, and what they cost."""
    names = differing(lines)
    columns = [*names, "runs", *(HEAD_WORDS[head] for head in HEADS)]
    if len(lines) > 1:
        columns.append(f"to the first, {LEVEL:.0%} interval")
    columns += [name for name in COSTS if any(cost.get(name) is not None for cost in costs)]
    rows = []
    for place, line in enumerate(lines):
        row = [*(plain(line.settings.get(name)) for name in names), str(len(line.runs))]
        row += [spread_words(line.top1(head)) + (" *" if head == line.answer else "  ") for head in HEADS]
        if len(lines) > 1:
            row.append(difference_words(line.difference) if place else "")
        if costs:
            row += [words(costs[place][name]) for name, words in COSTS.items() if name in columns]
        rows.append(row)
    return columns, rows


def table_text(lines: Sequence[Line], costs: Sequence[Mapping[str, Any]] = ()) -> str:
    """The table for a terminal."""
    columns, rows = table_rows(lines, costs)
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    body = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [columns, *rows]
    ]
    first = lines[0].runs[0]
    return "\n".join(
        [
            f"top-1 on {measured_words(first)}: mean +- standard deviation of the runs; * is the head that counts",
            "",
            *(f"  {text}" for text in body),
        ]
    )


def csv_text(lines: Sequence[Line]) -> str:
    """A row for every run and head, with all settings: raw numbers, for other programs."""
    names = list(dict.fromkeys(name for line in lines for name in line.settings))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["line", "folder", "seed", "subset-seed", "head", "counts", "top1", *names])
    for place, line in enumerate(lines):
        for run in line.runs:
            for head, top1 in run.top1.items():
                values = ["" if (value := run.settings.get(name)) is None else value for name in names]
                writer.writerow([place, run.folder, *run.seeds, head, int(head == run.answer), top1, *values])
    return out.getvalue()


def plain(value: Any) -> str:
    """A setting as a short word."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def spread_words(found: Spread | None) -> str:
    """`97.50 +- 0.28`, in percent."""
    if found is None:
        return "-"
    return f"{found.mean * 100:.2f}" + ("" if found.sd is None else f" +- {found.sd * 100:.2f}")


def difference_words(found: Difference | None) -> str:
    """`+3.20 [+1.10, +5.30]`, in points."""
    if found is None:
        return "no common seed"
    around = "" if found.low is None or found.high is None else f" [{found.low * 100:+.2f}, {found.high * 100:+.2f}]"
    return f"{found.mean * 100:+.2f}{around}"


COSTS: dict[str, Any] = {
    "parameters": lambda count: "-" if count is None else f"{count / 1e6:.2f} M",
    "GMACs": lambda value: "-" if value is None else f"{value:.3f}",
    "img/s": lambda rate: "-" if rate is None else f"{rate:,.0f}",
    "memory": lambda size: "-" if size is None else f"{size / 1e6:,.0f} MB",
}
