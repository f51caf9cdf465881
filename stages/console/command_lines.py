"""Commands that a person can paste into a shell: quoted, and without the options whose default already says it."""

import dataclasses
import shlex
from typing import Any


def command_line(command: str, options: type[Any], **given: Any) -> str:
    """`deit-pipe COMMAND ...` with the given fields of its options class.

    Args:
        command: as it is typed.
        options: the command's options class; a field whose value is its default is left out.
        given: values by field name; None is "not given", True a switch.
    """
    known = {field.name: field for field in dataclasses.fields(options)}
    words = ["deit-pipe", command]
    for name, value in given.items():
        field = known[name]
        if value is None or value == field.default:
            continue
        if field.metadata["argument"]:
            words += value if isinstance(value, tuple) else [_text(value)]
            continue
        spelling = "--" + name.replace("_", "-")
        if not field.metadata["common"]:
            words += [
                "--set",
                f"{spelling[2:]}={str(value).lower() if isinstance(value, bool) else _text(value)}",
            ]
        elif isinstance(value, bool):
            words.append(spelling if value else f"--no-{spelling[2:]}")
        else:
            words += [spelling, _text(value)]
    return " ".join(shlex.quote(word) for word in words)


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(_text(part) for part in value)
    return repr(value) if isinstance(value, float) else str(value)
