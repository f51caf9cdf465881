"""The identities of a cache and of a teacher: every field that must agree, digests, differences."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

from deit_pipe.store.errors import FieldDifference, FormatInvalid
from deit_pipe.store.formats import TargetFormat

FORMAT_VERSION = 1
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


class Identity:
    """JSON, digest and comparison, shared by the two identities."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`; unknown or absent fields raise TypeError."""
        return cls(**data)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, tuples as lists."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))  # type: ignore[call-overload]
        return data

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hex."""
        return canonical_digest(self.to_json())

    def differences(self, other: Self) -> list[FieldDifference]:
        """Fields in which `other` (given) differs from this (cached), nested ones with dotted names."""
        cached, given = _flat(self.to_json()), _flat(other.to_json())
        names = list(dict.fromkeys([*cached, *given]))
        return [
            FieldDifference(name, cached.get(name, "absent"), given.get(name, "absent"))
            for name in names
            if cached.get(name, "absent") != given.get(name, "absent")
        ]


@dataclass(frozen=True, kw_only=True)
class Manifest(Identity):
    """Which views a cache is about. `recipe` holds plain JSON values; nothing here depends on a teacher."""

    samples_digest: str
    num_samples: int
    num_classes: int
    recipe: Mapping[str, Any]
    recipe_digest: str
    seed: int
    image_size: int
    views_version: int
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, kw_only=True)
class TeacherIdentity(Identity):
    """Whose answers are cached under `name`, and how they are kept.

    `weights_sha256` covers every tensor and its name.
    """

    name: str
    model: str
    weights_sha256: str
    head: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    precision: str
    num_classes: int
    batch_size: int
    targets: str
    taus: tuple[float, ...] = (1.0,)
    block_slots: int

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise FormatInvalid(
                f"teacher name {self.name!r} cannot be a folder name\n"
                "give --name with lower-case letters, digits, '.', '_', '-', starting with a letter or digit"
            )
        if self.block_slots < 1:
            raise FormatInvalid(f"a block needs at least one slot, got block_slots={self.block_slots}")
        for name in ("mean", "std", "taus"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        _ = self.format

    @cached_property
    def format(self) -> TargetFormat:
        """The parsed `targets` and `taus`."""
        return TargetFormat.parse(self.targets, self.taus, self.num_classes)


def canonical_digest(data: Any) -> str:
    """SHA-256 hex of JSON with sorted keys, no spaces, no NaN, UTF-8."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{prefix}{key}."))
        else:
            found[prefix + key] = value
    return found
