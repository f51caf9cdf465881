"""JSON of files that others may have written: bounded, shallow, finite, each key once; rules for what it says."""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from deit_pipe.store.errors import shortened

MOST_BYTES = 4_000_000
MOST_DEPTH = 32

_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|([\[{])|([\]}])', re.DOTALL)  # a text to its end, closed or not


def strict_json(data: bytes, most_bytes: int = MOST_BYTES) -> Any:
    """Values of a JSON text.

    Raises:
        ValueError: too long, too deep, not JSON of UTF-8, a key twice, a number that is not finite.
    """
    if len(data) > most_bytes:
        raise ValueError(f"{len(data):,} bytes of JSON, {most_bytes:,} are read")
    text = data.decode("utf-8")
    depth = 0
    for found in _TOKEN.finditer(text):
        depth += (found[1] is not None) - (found[2] is not None)
        if depth > MOST_DEPTH:
            raise ValueError(f"JSON nested more than {MOST_DEPTH} deep")
    return json.loads(text, object_pairs_hook=_once, parse_constant=_refused, parse_float=_finite)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{shortened(text)} is out of range")
    return number


class Rule(NamedTuple):
    """What a value must be, in words, and whether one is."""

    words: str
    holds: Callable[[Any], bool]


def whole(low: int, high: int) -> Rule:
    """An integer from `low` to `high`; True and False are none."""
    return Rule(
        f"an integer from {low:,} to {high:,}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high,
    )


def real(low: float, high: float) -> Rule:
    """A finite number from `low` to `high`."""
    return Rule(
        f"a number from {low:g} to {high:g}",
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high,
    )


def text(most: int) -> Rule:
    """A string of at most so many characters."""
    return Rule(f"a string of at most {most:,} characters", lambda v: isinstance(v, str) and len(v) <= most)


def reals(fewest: int, most: int, low: float, high: float) -> Rule:
    """A list of numbers."""
    one = real(low, high)
    return Rule(
        f"a list of {fewest} to {most} numbers from {low:g} to {high:g}",
        lambda values: (
            isinstance(values, list | tuple) and fewest <= len(values) <= most and all(map(one.holds, values))
        ),
    )


def optional(rule: Rule) -> Rule:
    """What a rule says, or null."""
    return Rule(f"{rule.words}, or null", lambda value: value is None or rule.holds(value))


DIGEST = Rule(
    "a SHA-256 in hex", lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None
)
OBJECT = Rule("an object", lambda value: isinstance(value, dict))


def check_values(values: Any, rules: Mapping[str, Rule]) -> None:
    """Compare an object with the rules for its keys; keys without a rule may hold anything, absent ones are fine.

    Raises:
        ValueError: names the first value that breaks its rule.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{shortened(values)} is not an object")
    for name, rule in rules.items():
        if name in values and not rule.holds(values[name]):
            raise ValueError(f"{name} is {shortened(repr(values[name]))}, not {rule.words}")
