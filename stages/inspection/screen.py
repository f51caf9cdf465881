"""The screen of `inspect-cache`: the facts of `cache_summary` as text, coloured on a terminal, plain in a pipe."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from deit_pipe.stages.console.words import human_bytes, human_duration
from deit_pipe.stages.opened.gate_result import ACCEPTED, WARNED, GateResult, cause_words, gate_words

BAR = 20
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


def screen(facts: Mapping[str, Any], proofs: Sequence[tuple[str, str]] = ()) -> Text:
    """Everything at a glance, on one screen; `proofs` are further (line, style) before the last line."""
    manifest, provenance = facts["manifest"], facts["provenance"]
    views = sum(teacher["views"] for teacher in facts["teachers"])
    size = sum(teacher["bytes"] for teacher in facts["teachers"])
    out = Lines()
    out.add(
        (facts["cache"], "bold"),
        "  ",
        (facts["state"].upper(), STATE_STYLES[facts["state"]]),
        f"  {human_bytes(size)} for {views:,} views" if views else "",
    )
    out.fact(
        "data",
        f"{provenance.get('data', 'unknown')}, {manifest['num_samples']:,} samples, "
        f"{manifest['num_classes']:,} classes",
        (f"  sha256 {short(manifest['samples_digest'])}", "dim"),
    )
    out.fact(
        "views",
        f"recipe {provenance.get('recipe', 'custom')}, {manifest['image_size']} px, seed {manifest['seed']}",
        (f"  sha256 {short(manifest['recipe_digest'])}", "dim"),
    )
    out.fact(
        "identity",
        short(facts["digest"]),
        (f"  format {manifest['format_version']}, views {manifest['views_version']}", "dim"),
    )
    for teacher in facts["teachers"]:
        _teacher(out, teacher, facts["cache"])
    if not facts["teachers"]:
        out.add(("no teacher yet", "yellow"))
    _checks(out, facts)
    for line in proofs:
        out.add(line)
    out.add(("next: ", "bold"), (facts["next"], "cyan"))
    return out.text()


def short(digest: str) -> str:
    """The first 12 digits of a digest."""
    return digest[:12]


def percent(share: float) -> str:
    """Two decimals."""
    return f"{share:.2%}".replace("%", " %")


def _teacher(out: Lines, teacher: Mapping[str, Any], cache: str) -> None:
    identity = teacher["identity"]
    named = "" if teacher["name"] == identity["model"].lower() else f"  {identity['model']}"
    out.add("")
    out.add(("teacher ", "bold"), (teacher["name"], "bold cyan"), named)
    out.fact(
        "weights",
        f"{identity['head']} head, {identity['precision']}, {identity['image_size']} px, "
        f"batch {identity['batch_size']}",
        (f"  sha256 {short(identity['weights_sha256'])}", "dim"),
    )
    _gate(out, teacher)
    _coverage(out, teacher)
    _arrays(out, teacher)
    _health(out, teacher)
    _outliers(out, teacher, cache)
    for line in teacher["notes"]:
        out.fact("note", line)


def _gate(out: Lines, teacher: Mapping[str, Any]) -> None:
    """How it did before it was cached; nothing for caches of versions that did not ask."""
    if teacher["gate"] is None:
        return
    gate = GateResult.from_json(teacher["gate"])
    poor = gate.decision in (WARNED, ACCEPTED)
    out.fact("gate", (gate_words(gate), "bold yellow" if poor else ""))
    if poor:
        out.more((gate.reason, "yellow"))
    if poor and gate.cause is not None:
        out.more((f"likely cause: {cause_words(gate.cause)}", "yellow"))


def coverage_ranges(coverage: list[dict[str, Any]]) -> list[tuple[int, int, int, bool]]:
    """Runs of epochs in the same state: (first, last, blocks of each, sealed)."""
    ranges: list[tuple[int, int, int, bool]] = []
    for epoch in coverage:
        state = (epoch["blocks"], epoch["sealed"])
        if ranges and ranges[-1][2:] == state:
            ranges[-1] = (ranges[-1][0], epoch["epoch"], *state)
        else:
            ranges.append((epoch["epoch"], epoch["epoch"], *state))
    return ranges


def bar(share: float, width: int = BAR) -> str:
    """A bar of `width` characters; never full before all is there, never empty once something is."""
    filled = int(share * width)
    if share > 0:
        filled = max(1, filled)
    return "█" * filled + "░" * (width - filled)


def _coverage(out: Lines, teacher: Mapping[str, Any]) -> None:
    total = teacher["blocks_per_epoch"]
    share = teacher["blocks_committed"] / max(1, teacher["blocks_total"])
    left = teacher["left"]
    time = "" if left["seconds"] in (None, 0.0) else f", about {human_duration(left['seconds'])} at the last run's rate"
    missing = f"; {left['blocks']:,} blocks left{time}" if left["blocks"] else ""
    out.fact(
        "coverage",
        f"{teacher['blocks_committed']:,} of {teacher['blocks_total']:,} blocks ({share:.1%}) of "
        f"{teacher['identity']['block_slots']:,} slots in {teacher['epochs']} epochs{missing}",
    )
    ranges = coverage_ranges(teacher["coverage"])
    for first, last, blocks, sealed in ranges[:SHOWN_RANGES]:
        name = f"epoch {first}" if first == last else f"epochs {first}-{last}"
        word = "sealed" if sealed else "whole" if blocks == total else ""
        style = "green" if blocks == total else "yellow" if blocks else "dim"
        out.more(f"{name:<15}", (bar(blocks / max(1, total)), style), f" {blocks:>6,}/{total:,} {word}")
    if len(ranges) > SHOWN_RANGES:
        out.more(f"and {len(ranges) - SHOWN_RANGES} more ranges; --json has every epoch")


def _arrays(out: Lines, teacher: Mapping[str, Any]) -> None:
    rows = [("", "shape", "dtype", "block", "stored", "B/view", "ratio")]
    for array in teacher["arrays"]:
        rows.append(
            (
                array["name"],
                " x ".join(f"{side:,}" for side in array["shape"]),
                array["dtype"],
                " x ".join(f"{side:,}" for side in array["block"]),
                human_bytes(array["stored_bytes"]),
                "-" if array["bytes_per_view"] is None else f"{array['bytes_per_view']:.2f}",
                "-" if array["ratio"] is None else f"{array['ratio']:.2f}",
            )
        )
    per_view = teacher["bytes_per_view"]
    raw = sum(array["raw_bytes"] for array in teacher["arrays"])
    rows.append(
        (
            "all",
            "",
            "",
            "",
            human_bytes(teacher["bytes"]),
            "-" if per_view is None else f"{per_view:.2f}",
            f"{raw / teacher['bytes']:.2f}" if teacher["bytes"] else "-",
        )
    )
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


def sparkline(counts: list[int]) -> str:
    """A histogram in one line of block characters, the tallest full, anything above 0 visible."""
    top = max(counts, default=0)
    return "".join(SHADES[0 if not n else max(1, round(n / top * (len(SHADES) - 1)))] for n in counts)


def _health(out: Lines, teacher: Mapping[str, Any]) -> None:
    well = teacher["health"]
    if well is None:
        out.fact("health", "no block yet")
        return
    either = ""
    if well["agrees_with_label_or_partner"] != well["agrees_with_label"]:
        either = f", with either label of a mixed view {percent(well['agrees_with_label_or_partner'])}"
    out.fact("health", f"agrees with the label {percent(well['agrees_with_label'])}{either}")
    if well["near_chance"]:
        out.more(
            (
                f"WARNING: near chance ({percent(well['chance_agreement'])}): it does not know these classes, or "
                "their order",
                "bold red",
            )
        )
    out.more(
        f"top-1 probability {well['mean_top1_probability']:.3f}, entropy {well['mean_entropy']:.3f} nat, "
        f"float16 ties {percent(well['ties'])}"
        + (f", top-k mass {well['topk_mass']:.4f}" if well["topk_mass"] is not None else "")
    )
    out.more("confidence 0 ", (sparkline(well["confidence"]), "cyan"), " 1")
    balance = teacher["classes"]
    if balance is not None:
        counts, views = balance["counts"], balance["views"]
        said = sum(1 for count in counts if count)
        out.fact(
            "classes",
            f"the teacher says {said:,} of {len(counts):,}; least class {balance['least']} "
            f"({percent(min(counts) / views)}), most class {balance['most']} ({percent(max(counts) / views)})",
        )


def _outliers(out: Lines, teacher: Mapping[str, Any], cache: str) -> None:
    found = teacher["outliers"]
    blocks = teacher["blocks_committed"]
    if not found:
        out.fact(
            "outliers",
            f"none: all {blocks:,} blocks are alike" if blocks >= 4 else "too few blocks to compare",
        )
        return
    out.fact("outliers", (f"{len(found)} of {blocks:,} blocks are unlike the others", "bold red"))
    for one in found[:SHOWN_OUTLIERS]:
        out.more(
            (f"epoch {one['epoch']} block {one['block']}", "red"),
            f" (slots {one['slots'][0]}-{one['slots'][1]}): {describe_outlier(one)}",
        )
    if len(found) > SHOWN_OUTLIERS:
        out.more(f"and {len(found) - SHOWN_OUTLIERS} more; --json has all")
    for rank in teacher["blamed_ranks"]:
        out.more((f"process {rank} wrote most of them: check its GPU", "red"))
    first = found[0]
    out.more(f"look:  deit-pipe inspect-cache {cache} --cell {first['epoch']}/{first['slots'][0]}")
    out.more(
        f"prove: deit-pipe inspect-cache {cache} --replay "
        f"{first['epoch']}/{first['slots'][0]}-{first['slots'][1]} --teacher-weights FILE"
    )


def describe_outlier(one: Mapping[str, Any]) -> str:
    """`agreement 31.20 %, the others 98.90 % +- 0.60 %, z -113`."""
    if one["statistic"] == "entropy":
        value, typical, spread = (f"{one[key]:.3f}" for key in ("value", "typical", "spread"))
        unit = " nat"
    else:
        value, typical, spread = (percent(one[key]) for key in ("value", "typical", "spread"))
        unit = ""
    return f"{one['statistic']} {value}{unit}, the others {typical} +- {spread}, z {one['z']:+.0f}"


def _checks(out: Lines, facts: Mapping[str, Any]) -> None:
    """What --verify and --replay said, and damage."""
    damage = facts["damage"]
    out.add("")
    if facts["verified"]:
        word = ("no damage", "green") if not damage else (f"{len(damage)} findings", "bold red")
        out.add(("verified ", "bold"), f"{facts['verified']}: ", word)
    for line in damage[:SHOWN_DAMAGE]:
        out.add(("damaged  ", "bold red"), line)
    if len(damage) > SHOWN_DAMAGE:
        out.add(f"         and {len(damage) - SHOWN_DAMAGE} more; --json has all")
