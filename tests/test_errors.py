"""One layout of errors: in the terminal as lines, with --json as fields."""

import ast
import json
import pickle
from pathlib import Path

import pytest
from click.testing import CliRunner

from deit_pipe import DeitPipeError
from deit_pipe.cli import call, main
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.store.errors import CacheMismatch, FieldDifference, mismatch


def full() -> Mismatch:
    return Mismatch(
        "a.txt is odd", expected=4, got="five", details=["see page 3"], cure="make it even with: even a.txt"
    )


def test_parts_are_indented_and_aligned_and_the_cure_stands_by_itself() -> None:
    assert str(full()).splitlines() == [
        "a.txt is odd",
        "  expected  4",
        "  got       five",
        "  see page 3",
        "make it even with: even a.txt",
    ]
    assert str(Mismatch("only this")) == "only this"
    assert str(Mismatch("this", cure="do that")) == "this\ndo that"
    assert str(Mismatch("this", got=0)) == "this\n  got       0"


def test_a_text_with_lines_stays_as_it_is() -> None:
    error = Mismatch("first\n  expected x\ndo y")
    assert str(error) == "first\n  expected x\ndo y"
    assert (error.what, error.details, error.cure) == ("first", ("  expected x", "do y"), None)


@pytest.mark.parametrize(
    "error", [full(), mismatch("differs", "here", [FieldDifference("seed", 1, 2)], cure="give --seed 1")]
)
def test_an_error_keeps_its_parts_on_the_way_to_another_process(error: DeitPipeError) -> None:
    there = pickle.loads(pickle.dumps(error))
    assert (str(there), there.to_json(), vars(there)) == (str(error), error.to_json(), vars(error))


def test_a_mismatch_has_a_line_for_each_field() -> None:
    fields = [FieldDifference("seed", 1, 2), FieldDifference("recipe.flip_prob", 0.5, "x" * 60)]
    error = mismatch("was made from other views", "cache", fields, details=["3 added: a"])
    assert str(error).splitlines() == [
        "cache mismatch: cache was made from other views",
        "  seed              cached 1   given 2",
        f"  recipe.flip_prob  cached 0.5   given {'x' * 45}...",
        "  3 added: a",
        "give a new directory with --cache",
    ]
    assert isinstance(error, CacheMismatch)
    assert error.fields == tuple(fields)


def test_json_has_the_parts_as_fields(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise full()

    assert call(fail, as_json=True) == 4
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "error": {
            "what": "a.txt is odd",
            "expected": "4",
            "got": "five",
            "details": ["see page 3"],
            "cure": "make it even with: even a.txt",
            "exit_code": 4,
        }
    }
    assert err == f"error: {full()}\n"
    assert call(fail, as_json=False) == 4
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("RANK", "1")  # of several processes the first one speaks
    assert call(fail, as_json=True) == 4
    assert capsys.readouterr().out == ""


def test_a_command_that_fails_says_the_same_in_json(tmp_path) -> None:
    done = CliRunner().invoke(main, ["inspect-cache", str(tmp_path), "--json"])
    assert done.exit_code == 3
    error = json.loads(done.stdout)["error"]
    assert error["what"] == f"no cache at {tmp_path}: it has no MANIFEST.json"
    assert error["cure"].startswith("make one with: deit-pipe cache-teacher --cache ")
    assert f"error: {error['what']}\n{error['cure']}\n" in done.stderr


ROOT = Path(__file__).parent.parent


def error_names() -> set[str]:
    """Names of all classes of errors."""
    files = [ROOT / folder / "errors.py" for folder in ("pipeline", "store", "stages/console")]
    nodes = [node for file in files for node in ast.parse(file.read_text(encoding="utf-8")).body]
    return {node.name for node in nodes if isinstance(node, ast.ClassDef)}


def lines_in_the_first_argument(source: str, errors: set[str]) -> list[int]:
    """Line numbers of errors that are made with a text of several lines."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and node.args]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in errors]
    return [
        call.lineno
        for call in named
        for part in ast.walk(call.args[0])
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and "\n" in part.value
    ]


def test_errors_are_made_of_parts() -> None:
    errors = error_names()
    assert {"Mismatch", "CacheCorrupt", "BadImage"} <= errors
    assert lines_in_the_first_argument('raise Mismatch(f"a {b}\\nc")\nraise Missing("a", cure="b\\nc")', errors) == [1]
    paths = [path for folder in ("pipeline", "store", "stages") for path in (ROOT / folder).rglob("*.py")]
    assert len(paths) > 100
    names = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}
    assert {name for name, text in names.items() if lines_in_the_first_argument(text, errors)} == set()
