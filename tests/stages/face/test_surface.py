"""What users import, frozen: a name or argument that goes, or comes, shows here."""

import doctest
import inspect
import os
import subprocess
import sys
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

import deit_pipe
from deit_pipe.cli import COMMANDS, _resolve
from deit_pipe.stages.console.facts import Facts

SURFACE = Path(__file__).with_name("surface.txt")
RESULTS = Path(__file__).with_name("results.txt")


def arguments(function: Any) -> str:
    """Names, kinds and defaults; types are mypy's to watch, and their texts change with the libraries."""
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in inspect.signature(function).parameters.values()]
    return str(inspect.Signature(plain))


def shown(name: str) -> list[str]:
    """A name with its arguments; of a class also those of its public methods, and its properties."""
    value = getattr(deit_pipe, name)
    if isinstance(value, str):
        return [f"{name}: str"]
    if not inspect.isclass(value):
        return [f"{name}{arguments(value)}"]
    if name.endswith("Options"):
        return [name]  # tests/stages/test_option_lists.py has them word for word
    lines = [f"class {name}{arguments(value)}"]
    for member, found in sorted(vars(value).items()):
        if member.startswith("_"):
            continue
        if isinstance(found, property | staticmethod):
            lines.append(f"  {member}")
        elif isinstance(found, classmethod):
            lines.append(f"  {member}{arguments(found.__func__)}")
        elif inspect.isfunction(found):
            lines.append(f"  {member}{arguments(found)}")
    return lines


def surface() -> str:
    return "\n".join(line for name in deit_pipe.__all__ for line in shown(name)) + "\n"


def hints(of: Any) -> dict[str, Any]:
    """Types of a function or class; names that its module only imports for checkers are those of the face."""
    known = {name: getattr(deit_pipe, name) for name in deit_pipe.__all__}
    more = {
        "PageFacts": import_module("deit_pipe.stages.pages.cache_page").PageFacts,
        "CellFacts": import_module("deit_pipe.stages.inspection.cell").CellFacts,
        "SampleFacts": import_module("deit_pipe.stages.inspection.cell").SampleFacts,
    }
    return get_type_hints(of, localns=known | more)


def facts_of(function: Any) -> list[type]:
    """The classes of facts that a command's result may hold."""
    result = hints(function)["return"]
    assert get_origin(result) is deit_pipe.CommandResult
    (held,) = get_args(result)
    return list(get_args(held)) or [held]


def inside(hint: Any) -> list[type]:
    """Classes with JSON of their own in a type: of `Sequence[X] | None` that is X."""
    if get_args(hint):
        return [one for part in get_args(hint) for one in inside(part)]
    return [hint] if hasattr(hint, "to_json") else []


def results() -> str:
    """Keys of every command's JSON: `?` where it may be absent, `~` where a class makes its JSON otherwise."""
    lines: list[str] = []
    queue: list[type] = []
    for name in COMMANDS:
        found = facts_of(getattr(deit_pipe, name.replace("-", "_")))
        lines.append(f"{name}: {' | '.join(one.__name__ for one in found)}")
        queue += found
    described: dict[type, str] = {}
    while queue:
        one = queue.pop(0)
        if one in described:
            continue
        types = hints(one)
        keys = [
            item.metadata.get("key", item.name.rstrip("_")) + "?" * bool(item.metadata.get("if_there"))
            for item in (fields(one) if is_dataclass(one) else [])
        ] or [name for name in types if name != "return"]
        own = "" if getattr(one, "to_json", None) is Facts.to_json else "~"
        described[one] = f"{one.__module__.rpartition('.')[2]}.{one.__name__}{own}({', '.join(keys)})"
        queue += [held for hint in types.values() for held in inside(hint)]
    return "\n".join([*lines, "", *sorted(described.values())]) + "\n"


def test_the_results_have_the_keys_that_were_agreed() -> None:
    """To change them on purpose, as the surface: keys may come, none goes away or changes its meaning."""
    assert results() == RESULTS.read_text(encoding="utf-8")


def test_every_class_of_facts_is_of_the_face_and_frozen() -> None:
    for name in COMMANDS:
        for one in facts_of(getattr(deit_pipe, name.replace("-", "_"))):
            assert getattr(deit_pipe, one.__name__) is one
            assert issubclass(one, Facts)
            assert one.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_the_surface_is_what_was_agreed() -> None:
    """To change it on purpose: `python tests/stages/face/test_surface.py`, and a line in CHANGELOG.md."""
    assert surface() == SURFACE.read_text(encoding="utf-8")


def test_every_command_is_a_function_of_its_options() -> None:
    for name, command in COMMANDS.items():
        function, options = getattr(deit_pipe, name.replace("-", "_")), _resolve(command.options)
        assert function is _resolve(command.run)
        assert getattr(deit_pipe, options.__name__) is options
        (argument,) = inspect.signature(function).parameters.values()
        assert argument.annotation is options
        assert facts_of(function)


def test_importing_it_costs_nothing() -> None:
    program = (
        "import sys\nimport deit_pipe\n"
        "heavy = {'torch', 'timm', 'zarr', 'numpy', 'PIL', 'pyarrow', 'click', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert 'open_cache' in dir(deit_pipe)\n"
        "deit_pipe.TrainStudentOptions()\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_its_examples_are_true() -> None:
    found = doctest.testmod(deit_pipe)
    assert found.attempted >= 3
    assert found.failed == 0


@pytest.mark.slow
def test_type_checkers_see_its_types(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import deit_pipe\n"
        "for batch in deit_pipe.open_cache('x').batches(4):\n"
        "    reveal_type(batch.teacher.log_probabilities(3.0))\n"
        "deit_pipe.open_cache(3)\n"
        "deit_pipe.open_caches\n"
        "reveal_type(deit_pipe.evaluate(deit_pipe.EvaluateOptions()).facts.scores['class'].top1)\n"
        "deit_pipe.export(deit_pipe.ExportOptions()).facts.outt\n"
    )
    where = str(Path(deit_pipe.__file__).parent.parent)
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "--ignore-missing-imports"]
    done = subprocess.run(
        [*command, str(program)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": where},
        timeout=280,
        check=False,
    )
    assert 'program.py:3: note: Revealed type is "torch._tensor.Tensor"' in done.stdout
    assert 'program.py:4: error: Argument 1 to "open_cache" has incompatible type "int"' in done.stdout
    assert 'program.py:5: error: Module has no attribute "open_caches"' in done.stdout
    assert 'program.py:6: note: Revealed type is "float"' in done.stdout.replace("builtins.", "")
    assert 'program.py:7: error: "ExportedStudent" has no attribute "outt"' in done.stdout


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'deit_pipe' has no attribute 'open_caches'"):
        deit_pipe.open_caches  # type: ignore[attr-defined]  # noqa: B018


if __name__ == "__main__":
    SURFACE.write_text(surface(), encoding="utf-8")
    RESULTS.write_text(results(), encoding="utf-8")
