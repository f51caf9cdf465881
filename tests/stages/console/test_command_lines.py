"""What is printed as "next" can be pasted into a shell: it parses back to the very options it was made from."""

import dataclasses
import shlex
from pathlib import Path

import click
from hypothesis import given
from hypothesis import strategies as st

from deit_pipe.cli import COMMANDS, build_command
from deit_pipe.stages.console.command_lines import command_line
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.evaluate import EvaluateOptions
from deit_pipe.stages.options.train_student import TrainStudentOptions

words = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(lambda word: word[0] != "-")


def parsed(line: str) -> dict[str, object]:
    """The options that click makes of a line, after a shell has split it."""
    program, command, *rest = shlex.split(line)
    assert program == "deit-pipe"
    built = build_command(command, COMMANDS[command])
    return dict(built.make_context(command, rest).params)


@given(words, words, st.integers(1, 99), st.booleans(), st.floats(0.1, 1.0), st.integers(0, 99))
def test_a_shell_and_click_read_back_what_was_given(
    data: str, teacher: str, epochs: int, accept: bool, fraction: float, subset: int
) -> None:
    fraction = float(f"{fraction:.3g}")
    given = {
        "data": data,
        "teacher": teacher,
        "epochs": epochs,
        "accept_teacher": accept,
        "fraction": fraction,
        "subset_seed": subset,
    }
    read = parsed(command_line("cache-teacher", CacheTeacherOptions, **given))
    assert {name: read[name] for name in given} == given
    for field in dataclasses.fields(CacheTeacherOptions):
        if field.name not in given:
            assert read[field.name] == field.default


def test_defaults_and_what_is_not_given_are_left_out() -> None:
    line = command_line("cache-teacher", CacheTeacherOptions, data="digits", seed=0, img_size=None, fit_head=False)
    assert line == "deit-pipe cache-teacher --no-fit-head"
    assert command_line("evaluate", EvaluateOptions, run="a b/ü") == "deit-pipe evaluate 'a b/ü'"


def test_what_has_no_option_is_printed_as_a_key_of_set() -> None:
    line = command_line("train-student", TrainStudentOptions, ema=0.5, compile=True, loss="soft", optimizer="lamb")
    assert line == ("deit-pipe train-student --set ema=0.5 --set compile=true --loss soft --set optimizer=lamb")
    read = parsed(line)
    assert (read["ema"], read["compile"], read["optimizer"]) == (0.5, True, "lamb")


def test_an_unknown_field_is_a_bug_not_a_line() -> None:
    try:
        command_line("evaluate", EvaluateOptions, nonsense=1)
    except KeyError:
        return
    raise AssertionError("a line was made with an option that does not exist")


def test_paths_are_text(tmp_path: Path) -> None:
    assert str(tmp_path) in command_line("evaluate", EvaluateOptions, run=str(tmp_path))
    assert isinstance(build_command("evaluate", COMMANDS["evaluate"]), click.Command)
