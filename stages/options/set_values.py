"""`--set KEY=VALUE`: the options of a command that have no option of their own, and where names that are gone went."""

import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.options.fields import CheckedOptions, key, spelling, value_type

NEAR = 0.6


def settable(options: type[CheckedOptions]) -> "dict[str, dataclasses.Field[Any]]":
    """Fields that `--set` takes, by key; a class's own before those it shares with others."""
    own = inspect.get_annotations(options)
    found = [item for item in dataclasses.fields(options) if not item.metadata["common"]]
    return {key(item.name): item for item in sorted(found, key=lambda item: item.name not in own)}


def read_set_values(options: type[CheckedOptions], given: Iterable[str]) -> dict[str, Any]:
    """Values by field name from `KEY=VALUE` texts; the last of a key counts.

    Args:
        options: the command's options class; it checks ranges and choices itself, later.
        given: as typed; numbers and true or false are read as such, quotes around text may stay.

    Raises:
        UsageProblem: no such key, or a key that has an option of its own.
    """
    known, values = settable(options), {}
    for text in given:
        name, sign, value = (part.strip() for part in text.partition("="))
        name = key(name)
        if name not in known:
            raise UsageProblem(unknown_key(options, name))
        if not sign:
            raise UsageProblem(
                f"--set {name} has no value",
                details=[f"{name}: {known[name].metadata['help']}"],
                cure=f"give it as --set {name}=VALUE",
            )
        kind = value_type(typing.get_type_hints(options)[known[name].name])
        values[known[name].name] = as_typed(kind, value)
    return values


def as_typed(kind: type, text: str) -> Any:
    """The text as that type where it reads as one, else as it is: the options class refuses it."""
    try:
        if kind is bool:
            return {"true": True, "false": False}.get(text, text)
        if kind in (int, float):
            return kind(text)
        return json.loads(text) if re.fullmatch(r'".*"', text) else text
    except ValueError:
        return text


def unknown_key(options: type[CheckedOptions], name: str) -> str:
    """The message for a key that `--set` does not take."""
    fields = {key(item.name): item for item in dataclasses.fields(options)}
    if name in fields:
        return f"--set does not take {name}: it has an option of its own\n  use {spelling(name)}"
    if name in renamed(options):
        return f"--set has no key {name!r} any more\n  use {renamed(options)[name]}"
    known = list(settable(options))
    near = get_close_matches(name, known, n=2, cutoff=NEAR)
    cure = f"nearest: {', '.join(near)}" if near else f"any of {', '.join(known)}"
    return f"--set has no key {name!r}\n  {cure}"


def unknown_option(options: type[CheckedOptions], typed: str) -> str | None:
    """Where an option went that the command line does not have, or which is nearest; None where nothing is near."""
    name = key(typed.lstrip("-"))
    plain = name.removeprefix("no-")
    for word in (name, plain):
        if word in renamed(options):
            return f"no option {typed} any more: use {renamed(options)[word]}"
    known = settable(options)
    if plain in known:
        value = ("false" if plain != name else "true") if known[plain].default is False else "VALUE"
        return f"{typed} is a key of --set: use --set {plain}={value}"
    spoken = {
        key(item.name): spelling(item.name) if item.metadata["common"] else f"--set {key(item.name)}=VALUE"
        for item in dataclasses.fields(options)
        if not item.metadata["argument"]
    }
    near = get_close_matches(plain, spoken, n=2, cutoff=NEAR)
    return f"no option {typed}; nearest: {', '.join(spoken[word] for word in near)}" if near else None


def unknown_table_key(options: type[CheckedOptions], typed: str) -> str | None:
    """What to say of a key that a command's table in deit-pipe.toml cannot have; None if it can."""
    name, known = key(typed), {key(item.name) for item in dataclasses.fields(options)}
    if name in known:
        return None
    if name in renamed(options):
        return f"has no option {typed!r} any more\n  say it as the command line does: {renamed(options)[name]}"
    near = get_close_matches(name, known, n=1)
    return f"has no option {typed!r}" + (f"; nearest: {near[0]}" if near else "")


def renamed(options: type[CheckedOptions]) -> Mapping[str, str]:
    """The class's names that are gone, by key."""
    return {key(name): now for name, now in options.RENAMED.items()}
