"""Facts that a command found, as frozen dataclasses that become the JSON values of `--json`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Facts:
    """Base of frozen dataclasses whose fields are keys of a command's JSON, in their order."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; a final underscore is dropped, so that `class_` can be the key `class`."""
        return {field.name.rstrip("_"): plain(getattr(self, field.name)) for field in fields(self)}


def plain(value: Any) -> Any:
    """A value as JSON knows it: facts as objects, tuples as lists; numbers, texts and None as they are."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value
