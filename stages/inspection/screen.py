"""The screen of `inspect-cache`: the facts of a cache as text, coloured on a terminal, plain in a pipe."""

from collections.abc import Sequence

from rich.text import Text

from deit_pipe.stages.console.words import Line, bar, human_bytes, human_duration, number, percent, short, sides
from deit_pipe.stages.inspection.facts import CacheFacts, EpochCoverage, TeacherFacts
from deit_pipe.stages.inspection.outliers import Outlier
from deit_pipe.stages.opened.gate_result import ACCEPTED, WARNED, GateResult, cause_words, gate_words

SHADES = " ▁▂▃▄▅▆▇█"
STATE_STYLES = {
    "complete": "bold green",
    "incomplete": "bold yellow",
    "empty": "bold yellow",
    "damaged": "bold red",
}
SHOWN_OUTLIERS, SHOWN_DAMAGE, SHOWN_RANGES = 5, 10, 12


class Lines:
    """Lines of styled text, put together piece by piece."""

    def __init__(self) -> None:
        self._lines: list[Text] = []

    def add(self, *pieces: str | tuple[str, str]) -> None:
        """One line of plain pieces and (piece, style) pairs."""
        self._lines.append(Text.assemble(*pieces))

    def fact(self, name: str, *pieces: str | tuple[str, str]) -> None:
        """A line with a name before it."""
        self.add("  ", (f"{name:<10}", "dim"), *pieces)

    def more(self, *pieces: str | tuple[str, str]) -> None:
        """A further line under the last name."""
        self.add(" " * 12, *pieces)

    def text(self) -> Text:
        """All lines."""
        return Text("\n").join(self._lines)


def screen(facts: CacheFacts, proofs: Sequence[Line] = ()) -> Text:
    """Everything at a glance, on one screen; `proofs` are further lines before the last one."""
    manifest, provenance = facts.manifest, facts.provenance
    views = sum(teacher.views for teacher in facts.teachers)
    size = sum(teacher.bytes for teacher in facts.teachers)
    out = Lines()
    out.add(
        (facts.cache, "bold"),
        "  ",
        (facts.state.upper(), STATE_STYLES[facts.state]),
        f"  {human_bytes(size)} for {views:,} views" if views else "",
    )
    out.fact(
        "data",
        f"{provenance.get('data', 'unknown')}, {manifest.num_samples:,} samples, {manifest.num_classes:,} classes",
        (f"  sha256 {short(manifest.samples_digest)}", "dim"),
    )
    out.fact(
        "views",
        f"recipe {provenance.get('recipe', 'custom')}, {manifest.image_size} px, seed {manifest.seed}",
        (f"  sha256 {short(manifest.recipe_digest)}", "dim"),
    )
    out.fact(
        "identity",
        short(facts.digest),
        (f"  format {manifest.format_version}, views {manifest.views_version}", "dim"),
    )
    for teacher in facts.teachers:
        _teacher(out, teacher, facts.cache)
    if not facts.teachers:
        out.add(("no teacher yet", "yellow"))
    _checks(out, facts)
    for line in proofs:
        out.add(line)
    out.add(("next: ", "bold"), (facts.next, "cyan"))
    return out.text()


def _teacher(out: Lines, teacher: TeacherFacts, cache: str) -> None:
    identity = teacher.identity
    named = "" if teacher.name == identity.model.lower() else f"  {identity.model}"
    out.add("")
    out.add(("teacher ", "bold"), (teacher.name, "bold cyan"), named)
    out.fact(
        "weights",
        f"{identity.head} head, {identity.precision}, {identity.image_size} px, batch {identity.batch_size}",
        (f"  sha256 {short(identity.weights_sha256)}", "dim"),
    )
    _gate(out, teacher)
    _coverage(out, teacher)
    _arrays(out, teacher)
    _health(out, teacher)
    _outliers(out, teacher, cache)
    for line in teacher.notes:
        out.fact("note", line)


def _gate(out: Lines, teacher: TeacherFacts) -> None:
    """How it did before it was cached; nothing for caches of versions that did not ask."""
    if teacher.gate is None:
        return
    gate = GateResult.from_json(teacher.gate)
    poor = gate.decision in (WARNED, ACCEPTED)
    out.fact("gate", (gate_words(gate), "bold yellow" if poor else ""))
    if poor:
        out.more((gate.reason, "yellow"))
    if poor and gate.cause is not None:
        out.more((f"likely cause: {cause_words(gate.cause)}", "yellow"))


def coverage_ranges(coverage: Sequence[EpochCoverage]) -> list[tuple[int, int, int, bool]]:
    """Runs of epochs in the same state: (first, last, blocks of each, sealed)."""
    ranges: list[tuple[int, int, int, bool]] = []
    for one in coverage:
        state = (one.blocks, one.sealed)
        if ranges and ranges[-1][2:] == state:
            ranges[-1] = (ranges[-1][0], one.epoch, *state)
        else:
            ranges.append((one.epoch, one.epoch, *state))
    return ranges


def _coverage(out: Lines, teacher: TeacherFacts) -> None:
    total, left = teacher.blocks_per_epoch, teacher.left
    time = f", about {human_duration(left.seconds)} at the last run's rate" if left.seconds else ""
    missing = f"; {left.blocks:,} blocks left{time}" if left.blocks else ""
    out.fact(
        "coverage",
        f"{teacher.blocks_committed:,} of {teacher.blocks_total:,} blocks ({teacher.share:.1%}) of "
        f"{teacher.identity.block_slots:,} slots in {teacher.epochs} epochs{missing}",
    )
    ranges = coverage_ranges(teacher.coverage)
    for first, last, blocks, sealed in ranges[:SHOWN_RANGES]:
        name = f"epoch {first}" if first == last else f"epochs {first}-{last}"
        word = "sealed" if sealed else "whole" if blocks == total else ""
        style = "green" if blocks == total else "yellow" if blocks else "dim"
        out.more(f"{name:<15}", (bar(blocks / max(1, total)), style), f" {blocks:>6,}/{total:,} {word}")
    if len(ranges) > SHOWN_RANGES:
        out.more(f"and {len(ranges) - SHOWN_RANGES} more ranges; --json has every epoch")


def _arrays(out: Lines, teacher: TeacherFacts) -> None:
    rows = [("", "shape", "dtype", "block", "stored", "B/view", "ratio")]
    for array in teacher.arrays:
        rows.append(
            (
                array.name,
                sides(array.shape),
                array.dtype,
                sides(array.block),
                human_bytes(array.stored_bytes),
                number(array.bytes_per_view),
                number(array.ratio),
            )
        )
    rows.append(("all", "", "", "", human_bytes(teacher.bytes), number(teacher.bytes_per_view), number(teacher.ratio)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for place, row in enumerate(rows):
        cells = [
            f"{cell:<{width}}" if column < 4 else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  ".join(cells).rstrip()
        if place == 0:
            out.fact("arrays", (line, "dim"))
        else:
            out.more(line)


def sparkline(counts: Sequence[int]) -> str:
    """A histogram in one line of block characters, the tallest full, anything above 0 visible."""
    top = max(counts, default=0)
    return "".join(SHADES[0 if not n else max(1, round(n / top * (len(SHADES) - 1)))] for n in counts)


def _health(out: Lines, teacher: TeacherFacts) -> None:
    if teacher.health is None:
        out.fact("health", "no block yet")
        return
    well, worth = teacher.health.means, teacher.health.agreement
    either = ""
    if well.agrees_with_label_or_partner != well.agrees_with_label:
        either = f", with either label of a mixed view {percent(well.agrees_with_label_or_partner)}"
    out.fact("health", f"agrees with the label {percent(well.agrees_with_label)}{either}")
    if worth.near_chance:
        out.more(
            (
                f"WARNING: near chance ({percent(worth.chance_agreement)}): it does not know these classes, or "
                "their order",
                "bold red",
            )
        )
    out.more(
        f"top-1 probability {well.mean_top1_probability:.3f}, entropy {well.mean_entropy:.3f} nat, "
        f"float16 ties {percent(well.ties)}"
        + (f", top-k mass {well.topk_mass:.4f}" if well.topk_mass is not None else "")
    )
    out.more("confidence 0 ", (sparkline(well.confidence), "cyan"), " 1")
    balance = teacher.classes
    if balance is not None:
        counts, views = balance.counts, balance.views
        said = sum(1 for count in counts if count)
        out.fact(
            "classes",
            f"the teacher says {said:,} of {len(counts):,}; least class {balance.least} "
            f"({percent(min(counts) / views)}), most class {balance.most} ({percent(max(counts) / views)})",
        )


def _outliers(out: Lines, teacher: TeacherFacts, cache: str) -> None:
    found, blocks = teacher.outliers, teacher.blocks_committed
    if not found:
        out.fact(
            "outliers",
            f"none: all {blocks:,} blocks are alike" if blocks >= 4 else "too few blocks to compare",
        )
        return
    out.fact("outliers", (f"{len(found)} of {blocks:,} blocks are unlike the others", "bold red"))
    for one in found[:SHOWN_OUTLIERS]:
        out.more(
            (f"epoch {one.epoch} block {one.block}", "red"),
            f" (slots {one.start}-{one.stop - 1}): {describe_outlier(one)}",
        )
    if len(found) > SHOWN_OUTLIERS:
        out.more(f"and {len(found) - SHOWN_OUTLIERS} more; --json has all")
    for rank in teacher.blamed_ranks:
        out.more((f"process {rank} wrote most of them: check its GPU", "red"))
    first = found[0]
    out.more(f"look:  deit-pipe inspect-cache {cache} --cell {first.epoch}/{first.start}")
    out.more(
        f"prove: deit-pipe inspect-cache {cache} --replay "
        f"{first.epoch}/{first.start}-{first.stop - 1} --teacher-weights FILE"
    )


def describe_outlier(one: Outlier) -> str:
    """`agreement 31.20 %, the others 98.90 % +- 0.60 %, z -113`."""
    if one.statistic == "entropy":
        value, typical, spread = f"{one.value:.3f} nat", f"{one.typical:.3f}", f"{one.spread:.3f}"
    else:
        value, typical, spread = percent(one.value), percent(one.typical), percent(one.spread)
    return f"{one.statistic} {value}, the others {typical} +- {spread}, z {one.z:+.0f}"


def _checks(out: Lines, facts: CacheFacts) -> None:
    """What --verify and --replay said, and damage."""
    damage = facts.damage
    out.add("")
    if facts.verified:
        word = ("no damage", "green") if not damage else (f"{len(damage)} findings", "bold red")
        out.add(("verified ", "bold"), f"{facts.verified}: ", word)
    for line in damage[:SHOWN_DAMAGE]:
        out.add(("damaged  ", "bold red"), line)
    if len(damage) > SHOWN_DAMAGE:
        out.add(f"         and {len(damage) - SHOWN_DAMAGE} more; --json has all")
