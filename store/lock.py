"""One writing run per teacher of a cache; a dead run never blocks a new one.

Local: two files under POSIX locks, which the kernel frees with the process and which its forked children
(data workers) do not inherit: an orphaned worker must not keep a dead run's lock. Rank 0 holds `NAME.run`
and, when it opens, shows with `NAME.ranks` that no other rank of an earlier run is alive; the other ranks
share `NAME.ranks` while they write.
Remote: a lease object that says who holds it and until when. A thread of the holder renews it every minute.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any, ClassVar

from deit_pipe.store.errors import CacheBusy
from deit_pipe.store.places.inside import check_inside
from deit_pipe.store.places.local import LocalDirectory
from deit_pipe.store.places.location import Location, ObjectExists, ObjectMissing

LEASE_SECONDS = 300.0


class _LockFile:
    """A POSIX lock on a file. Within one process these locks never conflict, so a table does that part."""

    _held: ClassVar[dict[tuple[int, Path], tuple[int, int, int]]] = {}  # (process, path) -> handle, mode, users
    _table: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: Path, mode: int) -> None:
        self._key = (os.getpid(), path)
        with self._table:
            handle, held_mode, users = self._held.get(self._key, (-1, mode, 0))
            if users and fcntl.LOCK_EX in (mode, held_mode):
                raise BlockingIOError(0, f"this process ({os.getpid()})")
            if not users:
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                try:
                    fcntl.lockf(handle, mode | fcntl.LOCK_NB)
                except OSError as error:
                    holder = os.pread(handle, 200, 0).decode(errors="replace")
                    os.close(handle)
                    if error.errno in (errno.EACCES, errno.EAGAIN):
                        raise BlockingIOError(0, holder) from None
                    raise
            self._held[self._key] = (handle, mode, users + 1)
        self.handle = handle

    def close(self) -> None:
        """Free the lock when nobody in this process uses it any more."""
        with self._table:
            handle, mode, users = self._held.pop(self._key)
            if users > 1:
                self._held[self._key] = (handle, mode, users - 1)
            elif self._key[0] == os.getpid():  # a forked child shares the handle but never had the lock
                os.close(handle)


class WriterLock:
    """Taken at construction, freed by `release` or with the process.

    Raises:
        CacheBusy: another run writes this teacher.
    """

    def __init__(self, place: Location, teacher: str, rank: int) -> None:
        self._place = place
        self._teacher = teacher
        self._files: list[_LockFile] = []
        self._stop = threading.Event()
        self._key_stem = f"locks/{teacher}"
        self._key = f"{self._key_stem}.json"
        self._token = uuid.uuid4().hex
        self._leased = False
        if isinstance(place, LocalDirectory):
            self._lock_files(place, rank)
        elif rank == 0:
            self._lease()

    def release(self) -> None:
        """Give the lock back; twice is fine."""
        self._stop.set()
        while self._files:
            self._files.pop().close()
        if self._leased:
            self._leased = False
            if self._holder().get("token") == self._token:
                self._place.delete(self._key)

    def _lock_files(self, place: LocalDirectory, rank: int) -> None:
        run, ranks = f"{self._key_stem}.run", f"{self._key_stem}.ranks"
        place.make_folder("locks")
        try:
            if rank == 0:
                self._lock_file(check_inside(place.root, run), fcntl.LOCK_EX)
                with contextlib.suppress(OSError):  # only said in messages; a full disk is found soon enough
                    os.truncate(self._files[0].handle, 0)
                    who = f"{socket.gethostname()} process {os.getpid()}"
                    os.pwrite(self._files[0].handle, who.encode(), 0)
                self._lock_file(check_inside(place.root, ranks), fcntl.LOCK_EX)
                self._files.pop().close()
            else:
                self._lock_file(check_inside(place.root, ranks), fcntl.LOCK_SH)
        except BaseException:
            self.release()
            raise

    def _lock_file(self, path: Path, mode: int) -> None:
        try:
            self._files.append(_LockFile(path.resolve(), mode))
        except BlockingIOError as error:
            raise self._busy(error.args[1] or "a rank of an earlier run") from None

    def _lease(self) -> None:
        try:
            self._place.create(self._key, self._lease_text())
        except ObjectExists:
            holder = self._holder()
            if holder and not _dead(holder):
                seconds = max(0, round(float(holder["expires"]) - time.time()))
                raise self._busy(f"{holder['host']} process {holder['process']}, for {seconds} s more") from None
            self._place.delete(self._key)
            with contextlib.suppress(ObjectExists):  # another successor was quicker; the next line finds out
                self._place.create(self._key, self._lease_text())
            if self._holder().get("token") != self._token:
                raise self._busy("another process that started now") from None
        self._leased = True
        threading.Thread(target=self._renew, name="cache-lease", daemon=True).start()

    def _renew(self) -> None:
        while not self._stop.wait(LEASE_SECONDS / 5):
            with contextlib.suppress(OSError):  # a network hiccup; the lease lasts four more tries
                self._place.put(self._key, self._lease_text())

    def _lease_text(self) -> bytes:
        lease = {
            "token": self._token,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "expires": time.time() + LEASE_SECONDS,
        }
        return json.dumps(lease).encode()

    def _holder(self) -> dict[str, Any]:
        try:
            holder = json.loads(self._place.get(self._key))
        except (ObjectMissing, ValueError):
            return {}
        return holder if isinstance(holder, dict) else {}

    def _busy(self, holder: str) -> CacheBusy:
        return CacheBusy(
            f"cache busy: teacher {self._teacher!r} of {self._place.path} is being written",
            details=[f"by {holder}"],
            cure="wait for it, stop it, or cache into another directory with --cache",
        )


def _dead(holder: dict[str, Any]) -> bool:
    """Whether a lease has run out, or was taken by a process of this host that is gone."""
    try:
        if float(holder["expires"]) < time.time():
            return True
        if holder["host"] != socket.gethostname():
            return False
        os.kill(int(holder["process"]), 0)
    except ProcessLookupError:
        return True
    except (KeyError, ValueError, TypeError):
        return True
    except PermissionError:
        return False
    return False
