"""A check as text."""

from collections.abc import Sequence

import numpy as np

from deit_pipe.pipeline.sources.left_out import printable
from deit_pipe.stages.checking.findings import KINDS, Finding, by_kind
from deit_pipe.stages.checking.images import CheckedImages
from deit_pipe.stages.checking.one_image import SMALLEST
from deit_pipe.stages.checking.scan import Scan

SHOWN = 10  # findings of a kind, and names of a finding
CLASSES = 30  # classes in the table; of more the largest and the smallest


def check_text(lines: Sequence[str], images: CheckedImages, findings: Sequence[Finding], scanned: Scan | None) -> str:
    """What was found, the counts, and every kind of finding with the first of it; `scanned`: None, nothing was read."""
    parts = ["\n".join(lines), "\n".join(class_lines(images))]
    parts += ["\n".join(finding_lines(kind, found)) for kind, found in by_kind(findings).items()]
    what = "no image was read" if scanned is None else f"all {len(images):,} images were read"
    if scanned is not None and scanned.not_compared:
        parts.append(f"{scanned.not_compared:,} images are under {SMALLEST} px: too small to say which look alike")
    if not findings:
        parts.append(f"nothing is wrong ({what})")
    else:
        counts = [f"{len(found):,} {kind}" for kind, found in by_kind(findings).items()]
        parts.append(f"findings: {', '.join(counts)} ({what})")
    return "\n\n".join(parts)


def class_counts(images: CheckedImages) -> list[tuple[str, list[int]]]:
    """Of each class its name and how many images each split has of it."""
    names = images.class_names
    per_split = [
        np.bincount(split.table.labels[split.table.labels >= 0], minlength=len(names)).tolist()
        for split in images.splits
    ]
    return [(name, [counts[label] for counts in per_split]) for label, name in enumerate(names)]


def class_lines(images: CheckedImages) -> list[str]:
    """A table of images per class and split."""
    rows = class_counts(images)
    if len(rows) > CLASSES:
        by_size = sorted(rows, key=lambda row: -row[1][0])
        rows = [*by_size[: CLASSES // 2], *by_size[-CLASSES // 2 :]]
    shown = [(printable(name), [f"{count:,}" for count in counts]) for name, counts in rows]
    unlabelled = int((images.labels < 0).sum())
    kinds = [split.kind for split in images.splits]
    width = max(len("class"), *(min(len(name), 40) for name, _ in shown))
    lines = [f"{'class':<{width}}" + "".join(f"{kind:>9}" for kind in kinds)]
    lines += [f"{name[:40]:<{width}}" + "".join(f"{count:>9}" for count in counts) for name, counts in shown]
    if len(images.class_names) > CLASSES:
        hidden = len(images.class_names) - CLASSES
        lines.insert(1 + CLASSES // 2, f"... {hidden:,} classes of sizes between (all of them: --json)")
    if unlabelled:
        lines.append(f"{unlabelled:,} images have no label")
    return lines


def finding_lines(kind: str, found: Sequence[Finding]) -> list[str]:
    """One kind: heading, then each finding with its names."""
    lines = [f"{KINDS[kind].heading}: {len(found):,}"]
    for one in found[:SHOWN]:
        names = [printable(name) for name in one.names[:SHOWN]]
        more = f" and {len(one.names) - SHOWN:,} more" if len(one.names) > SHOWN else ""
        lines.append(f"  {', '.join(names)}{more}: {one.note}")
    if len(found) > SHOWN:
        lines.append(f"  and {len(found) - SHOWN:,} more (all of them: --json)")
    return lines
