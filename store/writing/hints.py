"""Hints: which blocks other jobs are working on. They save a teacher's time and nothing depends on them.

    hints/NAME/EEEE-BBBBBB    JSON: token, host, process, seconds that a block takes there

A hint is taken over when its process is gone from this host, or when it has not changed for a long time by this job's
own clock. No two clocks are compared, nothing is renewed; two jobs that take one over at once both make the block, and
its commit takes one.
"""

import json
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from deit_pipe.store.layout import Block
from deit_pipe.store.places.location import Location, ObjectExists, ObjectMissing

PATIENCE = 60.0  # seconds at least, before a hint that does not change is taken over
BLOCKS_OF_PATIENCE = 5  # and as many times what a block takes


class Hints:
    """The hints of one job.

    Attributes:
        slowest: seconds that a block took here, at most.
    """

    def __init__(self, place: Location, teacher: str, token: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._place, self._folder, self._token, self._clock = place, f"hints/{teacher}", token, clock
        self._watched: dict[str, tuple[bytes, float]] = {}
        self._mine: set[str] = set()
        self.slowest = 0.0

    def take(self, block: Block) -> bool:
        """Whether this job may make the block: nobody else seems to."""
        key = self._key(block)
        mine = self._text()
        try:
            self._place.create(key, mine)
        except ObjectExists:
            try:
                there = self._place.get(key)
            except ObjectMissing:
                return False  # it was being made just now: look at the block again
            if not self._is_over(key, there):
                return False
            self._place.put(key, mine)
        self._mine.add(key)
        return True

    def drop(self, block: Block) -> None:
        """Say that this job does not work on the block any more."""
        if (key := self._key(block)) in self._mine:
            self._mine.discard(key)
            self._place.delete(key)

    def drop_all(self) -> None:
        """Say that this job works on nothing any more."""
        while self._mine:
            self._place.delete(self._mine.pop())

    def holder(self, block: Block) -> str:
        """Who works on a block, in words."""
        try:
            there = _read(self._place.get(self._key(block)))
        except ObjectMissing:
            return "nobody"
        return f"{there.get('host', '?')} process {there.get('process', '?')}"[:100]

    def _is_over(self, key: str, there: bytes) -> bool:
        said = _read(there)
        if said.get("token") == self._token or _is_gone(said):
            return True
        before, since = self._watched.setdefault(key, (there, self._clock()))
        if before != there:
            self._watched[key] = (there, self._clock())
            return False
        slowest = max(self.slowest, _seconds(said))
        return self._clock() - since > max(PATIENCE, BLOCKS_OF_PATIENCE * slowest)

    def _key(self, block: Block) -> str:
        return f"{self._folder}/{block.epoch:04d}-{block.index:06d}"

    def _text(self) -> bytes:
        hint = {
            "token": self._token,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "seconds": round(self.slowest, 1),
        }
        return json.dumps(hint).encode()


def _read(data: bytes) -> dict[str, Any]:
    try:
        said = json.loads(data[:1000])
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _seconds(said: dict[str, Any]) -> float:
    value = said.get("seconds", 0.0)
    return min(float(value), 3600.0) if isinstance(value, int | float) else 0.0


def _is_gone(said: dict[str, Any]) -> bool:
    """Whether it names a process of this host that is gone."""
    process = said.get("process")
    if said.get("host") != socket.gethostname() or type(process) is not int or process <= 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
