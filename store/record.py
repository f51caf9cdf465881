"""The record of a committed block: its cells, its arrays with their SHA-256, its statistics, its witness."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

from deit_pipe.store.identity import Manifest, TeacherIdentity, canonical_digest
from deit_pipe.store.layout import Block
from deit_pipe.store.proof.witness import BlockWitness
from deit_pipe.store.statistics import BlockStatistics
from deit_pipe.store.strict.json_values import strict_json

HEADER = "header"
"""Name of a block object's own beginning among its parts."""
LATER = ("cache", "teacher", "witness", "token")
"""What not every format has."""


class StoredObject(NamedTuple):
    """One array of a block (an object in formats 1 and 2, a part of one since): its size and SHA-256 (hex)."""

    bytes: int
    sha256: str


class Owner(NamedTuple):
    """Whose records these are: digests of the manifest and of the teacher's identity; None in format 1."""

    cache: str | None
    teacher: str | None

    def __str__(self) -> str:
        return "none" if self.cache is None else f"cache {self.cache[:12]}, teacher {str(self.teacher)[:12]}"


def owner_of(manifest: Manifest, teacher: TeacherIdentity) -> Owner:
    """What every record of a teacher of this cache must name."""
    return Owner(None, None) if manifest.format_version == 1 else Owner(manifest.digest, teacher.digest)


@dataclass(frozen=True, kw_only=True)
class BlockRecord:
    """What is known of a committed block without its values.

    Since format 2 it is complete in itself: it names the cache (digest of the manifest) and the teacher (digest of its
    identity) that it belongs to, and carries the block's witness. All three are None in format 1; the witness also in
    blocks that were copied from there.

    Attributes:
        objects: its arrays in the order in which they lie, since format 3 its header before them.
        token: since format 3, of this attempt to write it and of no other.
    """

    epoch: int
    index: int
    start: int
    stop: int
    rank: int
    run: str
    written: float
    objects: Mapping[str, StoredObject]
    statistics: BlockStatistics
    cache: str | None = None
    teacher: str | None = None
    witness: BlockWitness | None = None
    token: str | None = None

    @property
    def owner(self) -> Owner:
        """Whose it says it is."""
        return Owner(self.cache, self.teacher)

    @property
    def block(self) -> Block:
        """The block's address."""
        return Block(self.epoch, self.index, self.start, self.stop)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all its arrays, and of its header."""
        return sum(stored.bytes for stored in self.objects.values())

    def offset(self, name: str) -> int:
        """Where a part begins in the object of a block of format 3."""
        before = 0
        for part, stored in self.objects.items():
            if part == name:
                break
            before += stored.bytes
        return before

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; its header has no place in itself."""
        objects = {name: stored._asdict() for name, stored in self.objects.items() if name != HEADER}
        data = {**asdict(self), "objects": objects, "statistics": self.statistics.to_json()}
        return {name: value for name, value in data.items() if value is not None or name not in LATER}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`; raises KeyError, TypeError, ValueError or AttributeError for anything else."""
        objects = {name: StoredObject(**stored) for name, stored in data["objects"].items()}
        parts: dict[str, Any] = {"objects": objects, "statistics": BlockStatistics.from_json(data["statistics"])}
        if "witness" in data:
            parts["witness"] = BlockWitness.from_json(data["witness"])
        return cls(**{**data, **parts})


def signed_json(data: Mapping[str, Any]) -> bytes:
    """JSON with the SHA-256 of its own content."""
    return json.dumps({**data, "sha256": canonical_digest(dict(data))}, allow_nan=False).encode()


def read_signed(data: bytes) -> dict[str, Any] | None:
    """Read what `signed_json` made; None if it is damaged."""
    try:
        document: dict[str, Any] = strict_json(data)
        stated = document.pop("sha256")
        return document if canonical_digest(document) == stated else None
    except (ValueError, KeyError, AttributeError, TypeError):
        return None


def digest_of(data: bytes) -> str:
    """SHA-256 hex. Never a CRC of a whole object: one that ends in its own crc32c has a constant CRC32C."""
    return hashlib.sha256(data).hexdigest()
