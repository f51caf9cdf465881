# ruff: noqa: D102 (the verbs are described in places/location.py)
"""A cache in a directory. What is written is durable: temporary file, fsync, link or rename, fsync of the directory."""

import contextlib
import errno
import fcntl
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from deit_pipe.store.errors import DiskFull, FormatInvalid
from deit_pipe.store.places.inside import check_inside, not_followed, read_regular
from deit_pipe.store.places.location import PARTIAL, SWAP_FILE, FreeSpace, Location, ObjectExists, ObjectMissing, Seen
from deit_pipe.store.places.strays import is_stray
from deit_pipe.store.strict.json_values import MOST_BYTES as MOST_JSON

MOST_BYTES = 4_000_000_000  # of an object; a block is a few megabytes
_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
LEFT_SECONDS = 3600.0  # a temporary file older than this is what a dead writer left


class LocalDirectory(Location):
    """A cache in a directory of the local (or a network) file system."""

    local = True
    _swapping = threading.Lock()  # POSIX locks do not tell the threads of a process apart

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()
        self.path = str(root)

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        try:
            most = MOST_JSON if key.endswith(".json") else MOST_BYTES
            return read_regular(check_inside(self.root, key), most, start, stop)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ObjectMissing(key) from None

    def see(self, key: str) -> Seen | None:
        try:
            return Seen(self.get(key), None)
        except ObjectMissing:
            return None

    def put(self, key: str, data: bytes) -> None:
        target = check_inside(self.root, key)
        with self._temporary(target, data) as temporary:
            temporary.replace(target)
        _sync_folder(target.parent)

    def create(self, key: str, data: bytes) -> None:
        target = check_inside(self.root, key)
        with self._temporary(target, data) as temporary:
            try:
                os.link(temporary, target)  # atomic, and refuses an existing name, which a rename does not
            except FileExistsError:
                raise ObjectExists(key) from None
            except OSError as error:
                if error.errno in _NO_LINKS:
                    raise _no_links(self.path, error) from error
                raise
        _sync_folder(target.parent)

    def swap(self, key: str, seen: Seen, data: bytes) -> bool:
        target = check_inside(self.root, key)
        with self._temporary(target, data) as temporary, self._alone():
            now = self.see(key)
            if now is None or now.data != seen.data:
                return False
            temporary.replace(target)
        _sync_folder(target.parent)
        return True

    def delete(self, key: str) -> None:
        target = self.root / key
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            target.unlink()  # no fsync: what comes back after a power cut is verified like the rest

    def delete_tree(self, prefix: str) -> None:
        target = self.root / prefix
        if target.is_dir():
            shutil.rmtree(target)
            _sync_folder(target.parent)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        found: dict[str, int] = {}
        folder = check_inside(self.root, prefix) if prefix else self.root
        _scan(str(folder), f"{prefix}/" if prefix else "", found)
        return found

    def size(self, key: str) -> int | None:
        target = self.root / key
        try:
            return target.stat().st_size if target.is_file() else None
        except (FileNotFoundError, NotADirectoryError):
            return None

    def free_space(self) -> FreeSpace | None:
        place = self.root
        while not place.exists() and place != place.parent:
            place = place.parent
        disk = os.statvfs(place)
        return FreeSpace(disk.f_bavail * disk.f_frsize, disk.f_favail if disk.f_files else None)

    def sweep(self, prefix: str) -> int:
        """Remove temporary files under `prefix/` that nobody can be writing any more."""
        count = 0
        now = time.time()
        if (self.root / prefix).is_dir():
            for leftover in (self.root / prefix).rglob(f"*{PARTIAL}"):
                with contextlib.suppress(FileNotFoundError):
                    if now - leftover.stat().st_mtime > LEFT_SECONDS:
                        leftover.unlink()
                        count += 1
        return count

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self._swapping, check_inside(self.root, SWAP_FILE).open("a") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _temporary(self, target: Path, data: bytes) -> Iterator[Path]:
        temporary = target.parent / f".{target.name}.{uuid.uuid4().hex[:12]}{PARTIAL}"
        try:
            _make_folder(target.parent)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        except OSError as error:
            if error.errno in _FULL:
                raise _disk_full(self.path, target, len(data), error) from error
            raise
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _scan(folder: str, prefix: str, found: dict[str, int]) -> None:
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            if is_stray(entry.name):
                continue
            if entry.is_symlink():
                raise not_followed(entry.path)
            if entry.is_dir(follow_symlinks=False):
                _scan(entry.path, f"{prefix}{entry.name}/", found)
            elif not entry.name.endswith(PARTIAL):
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile by its writer
                    found[prefix + entry.name] = entry.stat().st_size


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents, each new name fsynced into its parent: blocks lie below it."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in _CANNOT_SYNC:  # some network file systems cannot; what they wrote is verified
                raise
        finally:
            os.close(handle)


def _disk_full(path: str, target: Path, size: int, error: OSError) -> DiskFull:
    return DiskFull(
        f"disk full: {path} cannot take {target.name} ({size:,} bytes): {error.strerror}",
        details=["every committed block is intact, and nothing partial was kept"],
        cure="free some space and give the same command again; it resumes",
    )


def _no_links(path: str, error: OSError) -> FormatInvalid:
    return FormatInvalid(
        f"a cache cannot be written at {path}: its file system has no hard links ({error.strerror})",
        details=["a link is what puts a block there at once, and only where there is none"],
        cure="cache into a folder of another file system with --cache, then copy it; it is read everywhere",
    )
