"""What the store refuses, by remedy. Each class has an `exit_code`; a message ends with the cure."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from deit_pipe import DeitPipeError


class FieldDifference(NamedTuple):
    """One field in which two identities differ; dotted name, for example `recipe.erase_prob`."""

    field: str
    cached: Any
    given: Any


class StoreError(DeitPipeError):
    """Base of all errors of the store."""

    exit_code = 5


class FormatInvalid(StoreError):
    """A format, name or address that cannot be used (usage)."""

    exit_code = 2


class CacheMissing(StoreError):
    """No cache, or no such teacher, at the location."""

    exit_code = 3


class CacheIncomplete(StoreError):
    """Some blocks are not committed yet."""

    exit_code = 3


class CacheOld(StoreError):
    """A cache of a format that is read and not written any more."""

    exit_code = 4


class TeacherRemoved(StoreError):
    """A teacher that was removed; its name is not used again."""

    exit_code = 3


class StoreUnreachable(StoreError):
    """A place that does not answer, refuses us, or cannot do what a cache needs of it."""

    exit_code = 3


class DiskFull(StoreError):
    """No space, no quota or no inodes left, or not enough for what was asked."""

    exit_code = 3


class CacheMismatch(StoreError):
    """The cache was made from something else than what was given; `fields` says what."""

    exit_code = 4

    def __init__(
        self, what: str, fields: Sequence[FieldDifference] = (), *, details: Sequence[str] = (), cure: str | None = None
    ) -> None:
        super().__init__(what, details=details, cure=cure)
        self.fields = tuple(fields)


class TargetsInvalid(StoreError):
    """Logits that cannot be stored: not finite, out of range, or of the wrong shape."""

    exit_code = 5


class CacheCorrupt(StoreError):
    """Stored bytes are not the bytes that were written."""

    exit_code = 5


def corrupt_file(path: str, key: str, what: str) -> CacheCorrupt:
    """Build the message of a damaged file that nothing can be made again from."""
    return CacheCorrupt(
        f"cache corrupt: {key} of {path} {what}",
        cure="restore that file from a copy, or make the cache again in a new directory",
    )


def mismatch(
    what: str,
    where: str,
    fields: Sequence[FieldDifference],
    cure: str = "give a new directory with --cache",
    details: Sequence[str] = (),
) -> CacheMismatch:
    """Build the message of a mismatch: one line per field, then details, the cure last."""
    width = max((len(field.field) for field in fields), default=0)
    lines = [f"{f.field:<{width}}  cached {shortened(f.cached)}   given {shortened(f.given)}" for f in fields]
    return CacheMismatch(f"cache mismatch: {where} {what}", fields, details=[*lines, *details], cure=cure)


def shortened(value: Any, width: int = 48) -> str:
    """A value as text of at most `width` characters; what is cut off leaves three dots."""
    text = str(value)
    return text if len(text) <= width else f"{text[: width - 3]}..."
