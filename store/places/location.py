"""Where a cache lies: whole objects with keys such as `ledger/NAME/epochs.json`, in a directory or at a URL.

The store needs few verbs, the same on both sides: get, put, create (fails when the object is there), delete,
sizes. Both sides put an object at once or not at all, and durably.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

PARTIAL = ".partial"  # suffix of temporary files that a killed writer leaves behind


class ObjectMissing(LookupError):
    """There is no object with this key."""


class ObjectExists(FileExistsError):
    """`create` found an object with this key."""


class FreeSpace(NamedTuple):
    """Free bytes and free inodes (None where the file system has no limit)."""

    bytes: int
    inodes: int | None


class Location(ABC):
    """A place for objects. `path` is what messages show and what `open_location` (opening.py) takes again."""

    path: str
    local: bool

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises:
            ObjectMissing: no object has this key.
        """

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write or replace an object, whole and durable.

        Raises:
            DiskFull: no space; nothing is left behind and an older object of this key is intact.
        """

    @abstractmethod
    def create(self, key: str, data: bytes) -> None:
        """Like `put`, for an object that must not be there yet.

        Raises:
            ObjectExists: it is there.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; none there is fine."""

    @abstractmethod
    def delete_tree(self, prefix: str) -> None:
        """Remove every object whose key starts with `prefix/`."""

    @abstractmethod
    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Bytes of every object under `prefix/` by key, temporary files excluded."""

    @abstractmethod
    def size(self, key: str) -> int | None:
        """Bytes of one object, None if it is not there."""

    def exists(self, key: str) -> bool:
        """Whether an object has this key."""
        return self.size(key) is not None

    def free_space(self) -> FreeSpace | None:
        """What the file system still takes; None where that cannot be known."""
        return None

    def sweep(self, prefix: str) -> int:
        """Remove temporary files of dead writers under `prefix/`; returns how many."""
        return 0

    def __str__(self) -> str:
        return self.path
