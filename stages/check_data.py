"""`deit-pipe check-data`: what is in some images, and everything that is wrong with them, in one run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.console.target_file import check_target
from deit_pipe.stages.machine.workers import own_cores
from deit_pipe.stages.opened.images import given_choice
from deit_pipe.stages.options.data import CheckDataOptions

STATE = "check-data.state"


@dataclass(frozen=True)
class CheckedSplit(Facts):
    """A split: its `name`, its place, its images, and how many of them have no label."""

    name: str
    data: str
    images: int
    unlabelled: int


@dataclass(frozen=True)
class CheckedClass:
    """A class, and its images by split."""

    name: str
    images: Mapping[str, int]

    def to_json(self) -> dict[str, object]:
        """The name, and a number for each split, side by side."""
        return {"name": self.name, **self.images}


@dataclass(frozen=True)
class LeftOut(Facts):
    """A kind of file that is no image of the data: how many there are, and the first."""

    kind: str
    count: int
    first: str


@dataclass(frozen=True)
class CheckedData(Facts):
    """What is in some images, and what is wrong with them.

    Attributes:
        data, splits, classes, left_out: as given; by kind of split; in label order; what is no image.
        deep, images_read, not_compared: whether images were read, how many, and how many only in part compared.
        findings, exit_code: what is wrong, and what that means.
    """

    data: str
    splits: Mapping[str, CheckedSplit]
    classes: Sequence[CheckedClass]
    left_out: Sequence[LeftOut]
    deep: bool
    images_read: int
    not_compared: int
    findings: Sequence[Finding]
    exit_code: int


def run(options: CheckDataOptions) -> CommandResult[CheckedData]:
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
    facts = facts_of(options.data, images, findings, splits, scanned)
    return CommandResult(text, facts, facts.exit_code)


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


def facts_of(
    data: str, images: CheckedImages, findings: Sequence[Finding], splits: DataSplits, scanned: Scan | None
) -> CheckedData:
    """The same as facts."""
    kinds = [split.kind for split in images.splits]
    return CheckedData(
        data=data,
        splits={
            split.kind: CheckedSplit(
                split.named.name, split.named.data, len(split.table), len(split.table) - split.table.num_labelled
            )
            for split in images.splits
        },
        classes=[CheckedClass(name, dict(zip(kinds, counts, strict=True))) for name, counts in class_counts(images)],
        left_out=[
            LeftOut(kind, count, first.encode("utf-8", "backslashreplace").decode())
            for kind, count, first in splits.left_out.kinds()
        ],
        deep=scanned is not None,
        images_read=0 if scanned is None else len(images),
        not_compared=0 if scanned is None else scanned.not_compared,
        findings=findings,
        exit_code=exit_code(findings),
    )
