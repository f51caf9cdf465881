"""The README is true: its commands exist, its tests exist, and CI runs its test command."""

import re
import shlex
from pathlib import Path

import pytest

from deit_pipe.cli import COMMANDS, _resolve
from deit_pipe.stages.options.click_command import parameters

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```\n(.*?)```", TEXT, flags=re.DOTALL)


def command_lines() -> list[str]:
    found = [line.removeprefix("$ ") for block in BLOCKS for line in block.splitlines()]
    inline = re.findall(r"`(deit-pipe [^`]+)`", TEXT)
    return [
        line
        for line in (*found, *inline)
        if line.startswith("deit-pipe ") and "COMMAND" not in line and "--version" not in line
    ]


def test_there_are_commands_to_check() -> None:
    assert len(command_lines()) >= 8


@pytest.mark.parametrize("line", command_lines())
def test_every_command_in_it_can_be_typed(line: str) -> None:
    words = shlex.split(line)
    command = COMMANDS[words[1]]
    known = {word for parameter in parameters(_resolve(command.options)) for word in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_every_command_is_listed() -> None:
    for name in COMMANDS:
        assert f"`{name}`" in TEXT, name


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:tests|store)/[^`: ]+)", TEXT))))
def test_every_file_it_names_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(tests/[^`]+::[^`]+)`", TEXT))))
def test_every_test_it_names_exists(name: str) -> None:
    path, function = name.split("::")
    assert f"def {function}(" in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("target", re.findall(r"\]\(((?!http|#)[^)]+)\)", TEXT))
def test_every_link_leads_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


def path_of_an_image() -> list[tuple[str, str]]:
    """(file, function) of each hop; a function alone is in the file before it."""
    text = TEXT.partition("The path of one image")[2].partition("## Contributing")[0]
    hops, file = [], ""
    for words in re.findall(r"`([^`]+)`", text):
        place, _, name = words.rpartition(":")
        file = place or file
        hops.append((file, name))
    return hops


def test_the_path_of_one_image_is_short_and_true() -> None:
    hops = path_of_an_image()
    assert 25 <= len(hops) <= 38
    for file, name in hops:
        source = (ROOT / file).read_text(encoding="utf-8")
        for part in name.split("."):
            assert re.search(rf"^ *(def|class) {part}\b", source, flags=re.MULTILINE), f"{file}:{name}"


def test_every_room_is_listed() -> None:
    rooms = [path.parent for top in ("stages", "store", "pipeline") for path in (ROOT / top).glob("*/__init__.py")]
    assert len(rooms) > 10
    for room in rooms:
        assert f"| `{room.relative_to(ROOT).as_posix()}/` |" in TEXT, room


def test_ci_runs_exactly_the_test_command() -> None:
    command = next(line for block in BLOCKS for line in block.splitlines() if "pytest" in line)
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_exit_codes_are_those_of_the_code() -> None:
    from deit_pipe.pipeline import errors as pipeline_errors
    from deit_pipe.stages.console import errors as stage_errors
    from deit_pipe.store import errors as store_errors

    codes = {
        value.exit_code
        for module in (pipeline_errors, stage_errors, store_errors)
        for value in vars(module).values()
        if isinstance(value, type) and isinstance(getattr(value, "exit_code", None), int)
    }
    stated = {int(number) for number in re.findall(r"(\d+) [a-z]", TEXT.partition("**Exit codes:**")[2][:220])}
    assert codes - {1} <= stated
