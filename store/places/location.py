"""Where a cache lies: whole objects with keys such as `ledger/NAME/epochs/0008`, in a directory or at a URL.

The store needs few verbs, the same everywhere. What is committed rests on two of them: `create` puts an object only
where there is none, `swap` only over the one that was seen; both at once or not at all, and durably. Any other failure
of them says nothing about what happened: who asks has to look again.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

PARTIAL = ".partial"  # suffix of temporary files that a killed writer leaves behind
SWAP_FILE = ".swap"  # in a directory: locked while a file is compared and replaced; the lock goes with its process


class ObjectMissing(LookupError):
    """There is no object with this key."""


class ObjectExists(FileExistsError):
    """`create` found an object with this key."""


class FreeSpace(NamedTuple):
    """Free bytes and free inodes (None where the file system has no limit)."""

    bytes: int
    inodes: int | None


class Seen(NamedTuple):
    """An object as it was when somebody looked: its bytes, and what its place calls this version of it."""

    data: bytes
    version: Any


class Location(ABC):
    """A place for objects. `path` is what messages show and what `open_location` (opening.py) takes again."""

    path: str
    local: bool

    @abstractmethod
    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return an object's bytes, or those from `start` to `stop` (fewer where it ends before).

        Raises:
            ObjectMissing: no object has this key.
        """

    @abstractmethod
    def see(self, key: str) -> Seen | None:
        """Return an object with its version, for `swap`; None if it is not there."""

    @abstractmethod
    def create(self, key: str, data: bytes) -> None:
        """Write an object that must not be there yet, whole and durable.

        Raises:
            ObjectExists: it is there.
            DiskFull: no space; nothing is left behind.
        """

    @abstractmethod
    def swap(self, key: str, seen: Seen, data: bytes) -> bool:
        """Replace an object if it still is the one that was seen; returns whether it was."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write or replace an object, whatever is there. Never for anything that is committed: notes and hints only."""

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

    def settle(self, key: str, data: bytes) -> None:
        """Make an object hold these bytes, without ever overwriting what somebody else wrote in between.

        For small files that anybody can derive, such as a copy or a zarr.json.
        """
        for _ in range(9):
            seen = self.see(key)
            if seen is not None and seen.data == data:
                return
            try:
                if seen is None:
                    self.create(key, data)
                elif not self.swap(key, seen, data):
                    continue
            except ObjectExists:
                continue
            return

    def free_space(self) -> FreeSpace | None:
        """What the file system still takes; None where that cannot be known."""
        return None

    def sweep(self, prefix: str) -> int:
        """Remove temporary files of dead writers under `prefix/`; returns how many."""
        return 0

    def __str__(self) -> str:
        return self.path
