"""Facts that a command found, as frozen dataclasses that become the JSON values of `--json`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


def if_there() -> Any:
    """A field that is None, and no key of the JSON, where nothing was asked of it or there is nothing to say."""
    return field(default=None, metadata={"if_there": True})


def spelled(key: str) -> Any:
    """A field whose key in the JSON is no name of Python."""
    return field(metadata={"key": key})


@dataclass(frozen=True)
class Facts:
    """Base of frozen dataclasses whose fields are keys of a command's JSON, in their order."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; a final underscore is dropped, so that `class_` can be the key `class`."""
        return {
            one.metadata.get("key", one.name.rstrip("_")): plain(value)
            for one in fields(self)
            if (value := getattr(self, one.name)) is not None or not one.metadata.get("if_there")
        }


def plain(value: Any) -> Any:
    """A value as JSON knows it: facts as objects, tuples as lists; numbers, texts and None as they are."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value
