# ruff: noqa: D102 (the verbs are described in places/location.py)
"""Objects in this process's memory, `memory://NAME`: for tests and for trying things; gone with the process."""

import itertools
import threading
from typing import ClassVar

from deit_pipe.store.places.location import Location, ObjectExists, ObjectMissing, Seen


class MemoryObjects(Location):
    """Objects of one process; two of the same URL are the same place."""

    local = False
    _all: ClassVar[dict[str, dict[str, Seen]]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()
    _versions: ClassVar["itertools.count[int]"] = itertools.count()

    def __init__(self, url: str) -> None:
        self.path = url.rstrip("/")
        self._objects = self._all.setdefault(self.path, {})

    def __reduce__(self) -> tuple[type["MemoryObjects"], tuple[str]]:
        return type(self), (self.path,)

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        if (seen := self.see(key)) is None:
            raise ObjectMissing(key)
        return seen.data[start:stop]

    def see(self, key: str) -> Seen | None:
        with self._guard:
            return self._objects.get(key)

    def create(self, key: str, data: bytes) -> None:
        with self._guard:
            if key in self._objects:
                raise ObjectExists(key)
            self._objects[key] = Seen(bytes(data), next(self._versions))

    def swap(self, key: str, seen: Seen, data: bytes) -> bool:
        with self._guard:
            if (now := self._objects.get(key)) is None or now.version != seen.version:
                return False
            self._objects[key] = Seen(bytes(data), next(self._versions))
            return True

    def put(self, key: str, data: bytes) -> None:
        with self._guard:
            self._objects[key] = Seen(bytes(data), next(self._versions))

    def delete(self, key: str) -> None:
        with self._guard:
            self._objects.pop(key, None)

    def delete_tree(self, prefix: str) -> None:
        for key in self.sizes(prefix):
            self.delete(key)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        start = f"{prefix}/" if prefix else ""
        with self._guard:
            return {key: len(seen.data) for key, seen in self._objects.items() if key.startswith(start)}

    def size(self, key: str) -> int | None:
        seen = self.see(key)
        return None if seen is None else len(seen.data)
