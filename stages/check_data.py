"""`deit-pipe check-data`: what is in some images, and everything that is wrong with them, in one run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from deit_pipe.pipeline.data_choice import DataChoice
from deit_pipe.pipeline.data_set import data_set_of
from deit_pipe.pipeline.data_splits import DataSplits, open_splits
from deit_pipe.pipeline.sources.exclude_list import write_exclude_list
from deit_pipe.stages.checking.check_text import check_text, class_counts
from deit_pipe.stages.checking.findings import Finding, excludable, exit_code
from deit_pipe.stages.checking.images import CheckedImages, checked_images
from deit_pipe.stages.checking.same_images import same_findings
from deit_pipe.stages.checking.scan import Scan, scan
from deit_pipe.stages.checking.scan_state import ScanState
from deit_pipe.stages.checking.structure import class_findings, name_findings
from deit_pipe.stages.console.command_lines import command_line
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.console.target_file import check_target
from deit_pipe.stages.machine.workers import own_cores
from deit_pipe.stages.opened.images import given_choice
from deit_pipe.stages.options.data import CheckDataOptions

STATE = "check-data.state"


def run(options: CheckDataOptions) -> CommandResult:
    """Open without refusing what can be listed, look, read where asked, say."""
    page, listed = (Path(name) if name else None for name in (options.report, options.write_exclude))
    state = Path(options.state or STATE)
    for target, name in ((page, "--report"), (listed, "--write-exclude"), (state, "--state")):
        if target is not None:
            check_target(target, name)
    # nothing is held out or left away here: these are the images as they are found
    choice = replace(given_choice(options), val_fraction=0.0)
    splits = open_splits(options.data, choice, refuse=False)
    found = data_set_of(options.data, choice, splits)
    images = checked_images(found, splits)
    scanned = scan(images, ScanState(state, images), options.workers or own_cores()) if options.deep else None
    findings = [
        *class_findings(images),
        *(same_files(images) if scanned is None else scanned.findings(images)),
        *name_findings(images),
    ]
    text = check_text(found.lines, images, findings, scanned)
    if page is not None:
        from deit_pipe.stages.pages.check_page import write_check_page  # pictures: only where they are asked for

        size = write_check_page(page, options.data, images, findings, found.lines, deep=options.deep)
        text += f"\npage: {page} ({size:,} bytes)"
    if listed is not None:
        text += f"\n{write_list(listed, options, choice, excludable(images, findings))}"
    if not options.deep or listed is not None:
        text += f"\nnext: {next_line(options)}"
    data = facts(options.data, images, findings, splits, scanned)
    return CommandResult(text, data, exit_code(findings))


def same_files(images: CheckedImages) -> list[Finding]:
    """What links to one file say; no image is read."""
    identities = images.identities()
    return same_findings(images, identities[:, None], np.ones(len(images), dtype=np.bool_))


def write_list(file: Path, options: CheckDataOptions, choice: DataChoice, names: Sequence[tuple[str, str]]) -> str:
    """Write the list for --exclude, with what was excluded already; a line about it."""
    before = [(f"from {options.exclude}", name) for name in choice.excluded]
    write_exclude_list(file, [*before, *names])
    more = f" and the {len(before):,} of {options.exclude}" if before else ""
    return f"{file}: {len(names):,} images to leave away{more}"


def next_line(options: CheckDataOptions) -> str:
    """The command that reads the images, too, without those that were just listed."""
    once = ("data", "deep", "workers", "state", "write_exclude")
    given = {name: value for name, value in vars(options).items() if name not in once}
    given["exclude"] = options.write_exclude or options.exclude
    return command_line("check-data", CheckDataOptions, data=options.data, **given, deep=True)


def facts(
    data: str, images: CheckedImages, findings: Sequence[Finding], splits: DataSplits, scanned: Scan | None
) -> dict[str, object]:
    """The same as JSON values."""
    kinds = [split.kind for split in images.splits]
    return {
        "data": data,
        "splits": {
            split.kind: {
                "name": split.named.name,
                "data": split.named.data,
                "images": len(split.table),
                "unlabelled": len(split.table) - split.table.num_labelled,
            }
            for split in images.splits
        },
        "classes": [{"name": name, **dict(zip(kinds, counts, strict=True))} for name, counts in class_counts(images)],
        "left_out": [
            {"kind": kind, "count": count, "first": first.encode("utf-8", "backslashreplace").decode()}
            for kind, count, first in splits.left_out.kinds()
        ],
        "deep": scanned is not None,
        "images_read": 0 if scanned is None else len(images),
        "not_compared": 0 if scanned is None else scanned.not_compared,
        "findings": [one.to_json() for one in findings],
        "exit_code": exit_code(findings),
    }
