"""Every measured figure in the README comes from a file of results, at the precision it is told with."""

import csv
import re
from pathlib import Path

import pytest

from deit_pipe.stages.comparing.intervals import Difference, paired_difference

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "tests" / "benchmarks" / "RESULTS.md"
REUSE = RESULTS.with_name("reuse.csv")
PROSE = re.sub(r"^```.*?^```|<[^>]*>|[Vv]ersion \d\.\d|\(?http[^)\s]*", "", README, flags=re.M | re.S)
NUMBER = re.compile(r"(?<![\w.,/:])(?<!\w-)(\d[\d,]*(?:\.\d+)?|\.\d+)(?:e(-?\d+))?(?=[^\w]|[sx]\b|$)")
# What has a decimal or a unit and was not measured here, with where it is from.
STATED = {
    "2012.12877": "arXiv number",
    "2204.07118": "arXiv number",
    "4.0": "licence",
    "3.11": "Python",
    "3.12": "Python",
    "10.1": "Pillow",
    "1.0.31": "timm",
}


def numbers(text: str) -> list[str]:
    """Numbers as they are written, without thousands' commas."""
    return [
        digits.replace(",", "").rstrip(".") + (f"e{power}" if power else "") for digits, power in NUMBER.findall(text)
    ]


def supported(said: str, found: set[float]) -> bool:
    """Whether a number of the results is this one, rounded as it is told."""
    mantissa, _, power = said.partition("e")
    scale = 10.0 ** int(power or 0)
    half = 0.5000001 * 10.0 ** -len(mantissa.partition(".")[2]) * scale
    return any(abs(value - float(said)) <= half for value in found)


def sections() -> dict[str, set[float]]:
    """Numbers of each section of the results, by the programs that its text names."""
    found: dict[str, set[float]] = {}
    for section in RESULTS.read_text(encoding="utf-8").split("\n## ")[1:]:
        for program in set(re.findall(r"(\w+\.py)", section)):
            found.setdefault(program, set()).update(float(one) for one in numbers(section))
    return found


def claims() -> list[tuple[str, list[str]]]:
    """Rows, items and paragraphs of the README that name a program of the benchmarks, with its names."""
    programs = sections()
    blocks = re.split(r"\n\s*\n|\n(?=[|-] ?)", PROSE)
    named = [(block.strip(), [one for one in re.findall(r"`(\w+\.py)`", block) if one in programs]) for block in blocks]
    return [(block, names) for block, names in named if names]


@pytest.mark.parametrize(("block", "programs"), claims(), ids=lambda value: str(value)[:40])
def test_a_claim_that_names_its_program_has_that_programs_figures(block: str, programs: list[str]) -> None:
    known = set().union(*(sections()[program] for program in programs))
    wrong = [said for said in numbers(block) if not supported(said, known)]
    assert not wrong, f"{wrong} in: {block}"


def test_every_other_figure_is_measured_too_or_says_where_it_is_from() -> None:
    known = set().union(*sections().values())
    named = {block for block, _ in claims()}
    rest = [block for block in re.split(r"\n\s*\n|\n(?=[|-] ?)", PROSE) if block.strip() not in named]
    figures = [
        (said, block.strip()[:70])
        for block in rest
        for said in numbers(block)
        if ("." in said or re.search(rf"{re.escape(said)} ?(?:%|x\b|ms\b|bytes\b|views/s)", block.replace(",", "")))
    ]
    wrong = [one for one in figures if one[0] not in STATED and not supported(one[0], known)]
    assert not wrong, wrong


def test_what_is_said_of_reuse_is_what_the_runs_say() -> None:
    """Mean differences to views that are never repeated, and that no interval leaves zero out, from reuse.csv."""
    with REUSE.open(encoding="utf-8", newline="") as file:
        runs = [row for row in csv.DictReader(file) if row["data"] == "digits" and row["epochs"] == "30"]

    def difference(kind: str, cached: int) -> Difference:
        ours, whole = (
            {row["seed"]: float(row["fused"]) for row in runs if (row["kind"], row["cached"]) == (kind, str(number))}
            for number in (cached, 30)
        )
        found = paired_difference(ours, whole)
        assert found is not None
        assert found.pairs == 3
        return found

    (told,) = (block for block in PROSE.split("\n\n") if "never repeated" in block)
    for cached in (10, 3, 1):
        for kind in ("hard", "soft"):
            found = difference(kind, cached)
            assert f"{100 * found.mean:+.2f}" in told
            assert found.low is not None
            assert found.high is not None
            assert found.low < 0 < found.high


def test_the_teachers_share_of_a_step_is_three_quarters() -> None:
    """1 - 1 / (online over cached), as the row of the training benchmark has it."""
    assert "of a DeiT-Ti step it is three quarters of the time" in README
    text = RESULTS.read_text(encoding="utf-8").partition("\n## training\n")[2].partition("\n## ")[0]
    header, row = (
        [cell.strip() for cell in line.split("|")]
        for line in text.splitlines()
        if "deit_tiny" in line or "student |" in line
    )
    assert 1 - 1 / float(row[header.index("online/cached")]) == pytest.approx(0.75, abs=0.02)


def test_what_the_commands_print_is_what_they_printed() -> None:
    blocks = re.findall(r"```\n(.*?)```", README, re.S)
    told = [block for block in blocks if block.startswith("$ deit-pipe") or "validation digits; mean" in block]
    assert len(told) == 3
    results = RESULTS.read_text(encoding="utf-8")
    assert [block for block in told if block.strip() not in results] == []


def test_a_figure_that_parted_from_its_results_is_seen() -> None:
    assert supported("75.7", {75.70})
    assert supported("0.39", {0.394})
    assert not supported("75.8", {75.70})
    assert not supported("0.40", {0.394})
    assert numbers("4.06 x, 1,717 bytes, 3.2e-4 and .0002 of v2.1") == ["4.06", "1717", "3.2e-4", ".0002"]
