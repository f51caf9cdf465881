"""The identities of a cache and of a teacher: every field that must agree, digests, differences."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Self

from deit_pipe.store.errors import FieldDifference, FormatInvalid
from deit_pipe.store.formats import TargetFormat
from deit_pipe.store.strict.json_values import DIGEST, OBJECT, Rule, check_values, optional, reals, text, whole

FORMAT_VERSION = 3  # of new caches, and the only one that is written
READABLE = (1, 2, 3)  # a cache keeps its version for ever
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


class Identity:
    """JSON, digest and comparison, shared by the two identities.

    How they may grow: a field that is not in `FIRST` came later. It has a default that means "as before", may be absent
    from a file, and is left out of JSON and digest while it has that default. So every file written before stays
    the same identity, and a program that does not know the field reads on until it is used.
    """

    FIRST: ClassVar[frozenset[str]]
    """The fields of the first hour, which every file names."""
    RULES: ClassVar[Mapping[str, Rule]]
    """What the values of a file must be."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`.

        Raises:
            TypeError: an unknown field, or an absent one of `FIRST`. ValueError: a value that none can have.
        """
        check_values(data, cls.RULES)
        absent = sorted(cls.FIRST - data.keys())
        if absent:
            raise TypeError(f"{', '.join(absent)} absent")
        return cls(**data)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, tuples as lists; without later fields that have their default."""
        unused = {
            field.name
            for field in fields(self)  # type: ignore[arg-type]
            if field.name not in self.FIRST and getattr(self, field.name) == _default(field)
        }
        return {name: value for name, value in self._all().items() if name not in unused}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hex."""
        return canonical_digest(self.to_json())

    def differences(self, other: Self) -> list[FieldDifference]:
        """Fields in which `other` (given) differs from this (cached), nested ones with dotted names."""
        return _differences(self._all(), other._all())

    def _all(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))  # type: ignore[call-overload]
        return data


@dataclass(frozen=True, kw_only=True)
class Manifest(Identity):
    """Which views a cache is about. `recipe` holds plain JSON values; nothing here depends on a teacher.

    `recipe_digest` is that of `recipe` as it stands here: SHA-256 of its canonical JSON.
    """

    FIRST: ClassVar[frozenset[str]] = frozenset(
        {
            "samples_digest",
            "num_samples",
            "num_classes",
            "recipe",
            "recipe_digest",
            "seed",
            "image_size",
            "views_version",
            "format_version",
        }
    )
    RULES: ClassVar[Mapping[str, Rule]] = {
        "samples_digest": DIGEST,
        "num_samples": whole(1, 1 << 40),
        "num_classes": whole(1, 1_000_000),
        "recipe": OBJECT,
        "recipe_digest": DIGEST,
        "seed": whole(0, (1 << 63) - 1),
        "image_size": whole(1, 1 << 14),
        "views_version": whole(0, 10_000),
        "format_version": whole(1, 10_000),
    }

    samples_digest: str
    num_samples: int
    num_classes: int
    recipe: Mapping[str, Any]
    recipe_digest: str
    seed: int
    image_size: int
    views_version: int
    format_version: int = FORMAT_VERSION

    def differences(
        self, other: Self, recipe_defaults: Mapping[str, Any] = MappingProxyType({})
    ) -> list[FieldDifference]:
        """Fields in which `other` (given) differs from this (cached), nested ones with dotted names.

        Recipes are compared by what they say. How they are written decides nothing, nor does their digest: two programs
        may write the same recipe with and without a field that came later. Nor does the format: it says how a cache is
        kept, not which views it is about.

        Args:
            other: what is given.
            recipe_defaults: recipe fields that may be absent, and what their absence means, as JSON values.
        """
        cached, given = (
            {**data, "recipe": {**recipe_defaults, **data["recipe"]}} for data in (self._all(), other._all())
        )
        for name in ("recipe_digest", "format_version"):
            del cached[name], given[name]
        return _differences(cached, given)


@dataclass(frozen=True, kw_only=True)
class TeacherIdentity(Identity):
    """Whose answers are cached under `name`, and how they are kept.

    `weights_sha256` covers every tensor and its name. `input_size` is the side to which views are resized for it,
    bicubic and antialiased, on the way into the network; None: it sees them as they are.
    """

    FIRST: ClassVar[frozenset[str]] = frozenset(
        {
            "name",
            "model",
            "weights_sha256",
            "head",
            "mean",
            "std",
            "image_size",
            "precision",
            "num_classes",
            "batch_size",
            "targets",
            "taus",
            "block_slots",
        }
    )
    RULES: ClassVar[Mapping[str, Rule]] = {
        "name": text(100),
        "model": text(300),
        "weights_sha256": DIGEST,
        "head": text(100),
        "mean": reals(3, 3, -1e6, 1e6),
        "std": reals(3, 3, -1e6, 1e6),
        "image_size": whole(1, 1 << 14),
        "precision": text(20),
        "num_classes": whole(1, 1_000_000),
        "batch_size": whole(1, 1 << 24),
        "targets": text(100),
        "taus": reals(1, 64, 1e-6, 1e6),
        "block_slots": whole(1, 1 << 31),
        "input_size": optional(whole(1, 1 << 14)),
    }

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
    input_size: int | None = None

    def __post_init__(self) -> None:
        if not is_teacher_name(self.name):
            raise FormatInvalid(
                f"teacher name {self.name!r} cannot be a folder name",
                cure="give --name with lower-case letters, digits, '.', '_', '-', starting with a letter or digit",
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


def is_teacher_name(name: str) -> bool:
    """Whether a teacher can have this name: it is a folder's and a file's."""
    return _NAME.fullmatch(name) is not None


def canonical_digest(data: Any) -> str:
    """SHA-256 hex of JSON with sorted keys, no spaces, no NaN, UTF-8."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _differences(cached: Mapping[str, Any], given: Mapping[str, Any]) -> list[FieldDifference]:
    ours, theirs = _flat(cached), _flat(given)
    return [
        FieldDifference(name, ours.get(name, "absent"), theirs.get(name, "absent"))
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name, "absent") != theirs.get(name, "absent")
    ]


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{prefix}{key}."))
        else:
            found[prefix + key] = value
    return found
