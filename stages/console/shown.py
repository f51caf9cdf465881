r"""The one way to a terminal: what a person is shown, with everything escaped that a terminal would obey.

Names, classes, keys and provenance come from caches and folders that others made: an escape sequence in them could
rename the window, write into the clipboard, or hide a line. They are shown as `\x1b` instead.
"""

import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from deit_pipe import DeitPipeError
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.console.system_errors import as_problem

READER_GONE = 141  # 128 + SIGPIPE, as a shell says of a program whose reader went away

# controls but tab and newline, what turns the direction of writing, other line ends, halves of surrogate pairs
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def shown(text: str) -> str:
    r"""Text that a terminal only shows.

    >>> print(shown("a" + chr(27) + "]0;b" + chr(7)))
    a\x1b]0;b\x07
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def tell(text: str) -> None:
    """Lines on stderr, never part of a result; that nobody can take them stops no work."""
    with contextlib.suppress(OSError, ValueError):
        print(shown(text), file=sys.stderr, flush=True)


def write_result(result: CommandResult[Facts], *, as_json: bool) -> int:
    """A command's result on stdout; the exit code, which is another one where stdout cannot take it."""
    try:
        if as_json:
            _write_json(result.data)
        elif isinstance(result.text, str):
            print(shown(result.text), flush=True)
        else:
            _print_rich(result.text)
            sys.stdout.flush()
    except BrokenPipeError:
        return end_stdout(READER_GONE)
    except OSError as error:
        error.filename = "stdout"
        problem = as_problem(error)
        if problem is None:
            raise
        return write_problem(problem, as_json=False)
    return int(result.exit_code)


def write_problem(problem: DeitPipeError, *, as_json: bool) -> int:
    """An error on stderr, and on stdout where JSON is wanted; its exit code."""
    tell(f"error: {problem}")
    if as_json:
        write_json_problem(problem)
    return end_stdout(problem.exit_code)


def write_json_problem(problem: DeitPipeError) -> None:
    """An error as an object on stdout, if that takes it."""
    with contextlib.suppress(OSError):
        _write_json({"error": problem.to_json()})


def end_stdout(code: int) -> int:
    """The exit code, once Python will not try again to write at its end what stdout does not take."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def open_streams() -> None:
    """Open what was closed of stdin, stdout and stderr, lest the next file that is opened becomes one of them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (open to the end)
        stream: Any = getattr(sys, name)
        if hasattr(stream, "reconfigure"):  # a terminal or pipe that is not UTF-8 gets \u2588 for what it lacks
            stream.reconfigure(errors="backslashreplace")


def _print_rich(text: Any) -> None:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.segment import Segment

    class Shown:
        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            for segment in console.render(text, options):
                yield Segment(shown(segment.text), segment.style, segment.control)

    class OurConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would exit here

    OurConsole(soft_wrap=not sys.stdout.isatty()).print(Shown())


def _write_json(data: Any) -> None:
    print(json.dumps(data, indent=2, sort_keys=False, allow_nan=False), flush=True)
