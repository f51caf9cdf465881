"""Fields of an options class: one place for a command-line option's name, type, default and help.

A command's options are a frozen dataclass whose fields are made here; the command line (`cli.py`), the table of the
same name in `deit-pipe.toml` and the stage function all read that one class. Nothing here imports torch, so `--help`
is quick.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

REQUIRED = dataclasses.MISSING


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    metavar: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    flags: Sequence[str] = (),
) -> Any:
    """A named option: field `img_size` is `--img-size`; a bool field is `--name/--no-name`.

    Args:
        default: value when not given; `REQUIRED` makes the option mandatory; None means "decided by the stage",
            which the help text must explain.
        help: one sentence for `--help`.
        choices: the only strings allowed.
        metavar: placeholder in `--help`.
        minimum: smallest number allowed, inclusive.
        maximum: largest number allowed, inclusive.
        flags: further spellings, such as `-o`.
    """
    metadata = {
        "help": help,
        "choices": tuple(choices) if choices else None,
        "metavar": metavar,
        "minimum": minimum,
        "maximum": maximum,
        "flags": tuple(flags),
        "argument": False,
    }
    if default is REQUIRED:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def argument(default: Any, help: str, *, metavar: str | None = None) -> Any:
    """A positional argument; `default` `REQUIRED` makes it mandatory."""
    metadata = {"help": help, "metavar": metavar, "argument": True}
    if default is REQUIRED:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)
