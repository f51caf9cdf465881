"""Fields of an options class: one place for a command-line option's name, type, default and help.

A command's options are a frozen dataclass whose fields are made here; the command line (`cli.py`), the table of the
same name in `deit-pipe.toml` and the stage function all read that one class, and the class itself refuses values that
cannot be: one message, wherever they came from. Nothing here imports torch, so `--help` is quick.
"""

import dataclasses
import math
import numbers
import os
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from deit_pipe.stages.console.errors import UsageProblem

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
    group: str = "",
    common: bool = True,
) -> Any:
    """A named option: field `img_size` is `--img-size`; a bool field is `--name/--no-name`.

    What few people change is no option of its own: with `common` False it is a key of `--set KEY=VALUE`.

    Args:
        default: value when not given; `REQUIRED` makes the option mandatory; None means "decided by the stage",
            which the help text must explain.
        help: one sentence for `--help`.
        choices: the only strings allowed.
        metavar: placeholder in `--help`.
        minimum: smallest number allowed, inclusive.
        maximum: largest number allowed, inclusive.
        flags: further spellings, such as `-o`.
        group: heading in `--help`.
        common: whether the command line has an option for it.
    """
    metadata = {
        "help": help,
        "choices": tuple(choices) if choices else None,
        "metavar": metavar,
        "minimum": minimum,
        "maximum": maximum,
        "flags": tuple(flags),
        "argument": False,
        "group": group,
        "common": common,
    }
    if default is REQUIRED:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def setting(default: Any, help: str, **facts: Any) -> Any:
    """An option that few people change: a key of `--set KEY=VALUE` and of deit-pipe.toml; `facts` as in `option`."""
    return option(default, help, common=False, **facts)


def argument(default: Any, help: str, *, metavar: str | None = None) -> Any:
    """A positional argument; `default` `REQUIRED` makes it mandatory."""
    metadata = {"help": help, "metavar": metavar, "argument": True, "group": "", "common": True}
    if default is REQUIRED:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckedOptions:
    """What every options class is: its values have the type, the range and the choices that their fields declare."""

    RENAMED: ClassVar[Mapping[str, str]] = {}
    """Names that are gone -> how the same is said now."""

    def __post_init__(self) -> None:
        """Check every field; a whole number for a float, or a path for a string, is turned into it.

        Raises:
            UsageProblem: names the first option that cannot be, in one line.
        """
        annotations = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            checked = checked_value(field, annotations[field.name], getattr(self, field.name))
            object.__setattr__(self, field.name, checked)  # frozen for everybody else


def value_type(annotation: Any) -> type:
    """`int | None` -> int; the plain type of a field."""
    if isinstance(annotation, types.UnionType):
        annotation = next(part for part in typing.get_args(annotation) if part is not types.NoneType)
    kind: type = annotation
    return kind


def checked_value(field: "dataclasses.Field[Any]", annotation: Any, value: Any) -> Any:
    """The value as the field's type.

    Raises:
        UsageProblem: another type, not finite, out of range, or none of the choices.
    """
    kind, meta = value_type(annotation), field.metadata
    if value is None and kind is not annotation:
        return None
    if annotation == tuple[str, ...]:  # an argument that can be given several times
        texts = [None] if isinstance(value, str) else [_as_type(str, part) for part in value]
        if None in texts:
            raise UsageProblem(f"{spoken(field)} cannot be {value!r}: expected a list of texts")
        return tuple(texts)
    plain = _as_type(kind, value)
    choices, low, high = meta.get("choices"), meta.get("minimum"), meta.get("maximum")
    right = plain is not None and not (isinstance(plain, float) and not math.isfinite(plain))
    right = right and (low is None or plain >= low) and (high is None or plain <= high)
    if not right or (choices and plain not in choices):
        said = "nothing" if value is None else repr(value) if isinstance(value, str) else str(value)
        raise UsageProblem(f"{spoken(field)} cannot be {said}: expected {_expected(kind, choices, low, high)}")
    return plain


def checked_as(options: type[CheckedOptions], name: str, value: Any) -> Any:
    """A value as one field of an options class takes it: what Python callers give is judged as what is typed.

    >>> from deit_pipe.stages.options.bench import BenchOptions
    >>> checked_as(BenchOptions, "device", "cpu")
    'cpu'

    Raises:
        UsageProblem: as the class itself.
    """
    field = next(field for field in dataclasses.fields(options) if field.name == name)
    return checked_value(field, typing.get_type_hints(options)[name], value)


def is_number(value: Any) -> bool:
    """Whether it is a real number, of Python or NumPy; a plain answer, which leaves the type of what is asked alone."""
    return isinstance(value, numbers.Real)


def key(name: str) -> str:
    """`img_size` -> `img-size`, as in deit-pipe.toml and in `--set`."""
    return name.replace("_", "-")


def spelling(name: str) -> str:
    """`img_size` -> `--img-size`."""
    return "--" + key(name)


def spoken(field: "dataclasses.Field[Any]") -> str:
    """How messages name it: `--img-size`, `[RUN]`, or the key that `--set` takes."""
    if field.metadata["argument"]:
        name: str = field.metadata["metavar"] or field.name.upper()
        return name
    return spelling(field.name) if field.metadata["common"] else key(field.name)


def _as_type(kind: type, value: Any) -> Any:
    """The value as that type where nothing is lost, else None."""
    if kind is bool or isinstance(value, bool):
        return value if kind is bool and isinstance(value, bool) else None
    if kind is int and isinstance(value, numbers.Integral):
        return int(value)
    if kind is float and isinstance(value, numbers.Real):
        return float(value)
    if kind is str and isinstance(value, str | os.PathLike):
        return os.fspath(value)
    return None


def _expected(kind: type, choices: Sequence[str] | None, low: float | None, high: float | None) -> str:
    if choices:
        return f"one of {', '.join(choices)}"
    words = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}[kind]
    if low is not None and high is not None:
        return f"{words} from {low:g} to {high:g}" if high < 1e6 else f"{words} from {low:g} to {high:,.0f}"
    if low is not None:
        return f"{words} of at least {low:g}"
    return words if high is None else f"{words} of at most {high:g}"
