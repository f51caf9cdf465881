"""The table "recipe against the official code": every line names tests that exist, and says whether it is the same."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "pipeline" / "RECIPES.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[list[str]]:
    """Cells of every line of the tables, headings left out."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] not in ("what", "---")]


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_line_names_a_test_that_exists() -> None:
    found = rows()
    assert len(found) > 45
    for row in found:
        named = NAMED.findall(row[-1])
        assert named, row[0]
        for path, name in named:
            assert (ROOT / path).is_file(), f"{row[0]}: {path}"
            assert name in functions(ROOT / path), f"{row[0]}: {path}::{name}"


def test_every_line_is_the_same_or_a_choice_with_its_reason() -> None:
    for row in rows():
        assert len(row) == 5, row
        assert row[3].startswith("same") or re.match(r"choice: \w+", row[3]), row[0]


def test_the_differences_that_used_to_be_undeclared_are_on_the_page() -> None:
    by_name = {row[0]: row for row in rows()}
    assert "pair" in by_name["... by default"][2]
    assert "438 px" in by_name["ratio at 384"][1]
    assert {"copies per GPU", "copies in a step", "averaged weights"} <= set(by_name)
