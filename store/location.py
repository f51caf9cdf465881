"""Where a cache lies: a local directory or an fsspec URL, as whole objects with keys such as `ledger/NAME/epochs.json`.

The store needs six verbs only, and the same six on both sides: get, put, create (fails when the object is there), delete,
sizes, size. Local puts are durable: temporary file, fsync, rename, fsync of the directory. Object stores make a PUT
visible at once or not at all, and `create` is a conditional PUT (If-None-Match).
"""

import contextlib
import errno
import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from deit_pipe.store.errors import DiskFull, FormatInvalid

PARTIAL = ".partial"  # suffix of temporary files that a killed writer leaves behind
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class ObjectMissing(LookupError):
    """There is no object with this key."""


class ObjectExists(FileExistsError):
    """`create` found an object with this key."""


class FreeSpace(NamedTuple):
    """Free bytes and free inodes (None where the file system has no limit)."""

    bytes: int
    inodes: int | None


class Location(ABC):
    """A place for objects. `path` is what messages show and what `open_location` takes again."""

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


class LocalDirectory(Location):
    """A cache in a directory of the local (or a network) file system."""

    local = True

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()
        self.path = str(root)

    def get(self, key: str) -> bytes:
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ObjectMissing(key) from None

    def put(self, key: str, data: bytes) -> None:
        target = self.root / key
        with self._temporary(target, data) as temporary:
            temporary.replace(target)
        _sync_folder(target.parent)

    def create(self, key: str, data: bytes) -> None:
        target = self.root / key
        with self._temporary(target, data) as temporary:
            try:
                os.link(temporary, target)  # atomic, and refuses an existing name, which a rename does not
            except FileExistsError:
                raise ObjectExists(key) from None
            except OSError as error:  # file systems without hard links
                if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}:
                    raise
                if target.exists():
                    raise ObjectExists(key) from None
                temporary.replace(target)
        _sync_folder(target.parent)

    def delete(self, key: str) -> None:
        target = self.root / key
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            target.unlink()  # no fsync: whatever comes back after a power cut is verified like everything else

    def delete_tree(self, prefix: str) -> None:
        target = self.root / prefix
        if target.is_dir():
            shutil.rmtree(target)
            _sync_folder(target.parent)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        found: dict[str, int] = {}
        _scan(str(self.root / prefix) if prefix else str(self.root), f"{prefix}/" if prefix else "", found)
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
        count = 0
        if (self.root / prefix).is_dir():
            for leftover in (self.root / prefix).rglob(f"*{PARTIAL}"):
                leftover.unlink(missing_ok=True)
                count += 1
        return count

    def make_folder(self, key: str) -> None:
        """Make a folder of the cache."""
        _make_folder(self.root / key)

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


class RemoteObjects(Location):
    """A cache under an fsspec URL. The file system object is made again after a fork: most are not fork-safe."""

    local = False

    def __init__(self, url: str) -> None:
        self.path = url.rstrip("/")
        self._process = -1
        self._fs: Any = None
        self._root = ""
        self._connect()

    def __getstate__(self) -> str:
        return self.path

    def __setstate__(self, state: str) -> None:
        self.__init__(state)  # type: ignore[misc]

    def _connect(self) -> Any:
        if self._process != os.getpid():
            try:
                import fsspec

                self._fs, self._root = fsspec.core.url_to_fs(self.path, skip_instance_cache=True)
            except (ImportError, ValueError) as error:
                raise FormatInvalid(
                    f"cannot open {self.path}: {error}\n"
                    "install the package for this kind of address, for example: pip install 's3fs'"
                ) from error
            self._process = os.getpid()
        return self._fs

    def _address(self, key: str) -> str:
        return f"{self._root}/{key}" if key else self._root

    def get(self, key: str) -> bytes:
        try:
            return bytes(self._connect().cat_file(self._address(key)))
        except FileNotFoundError:
            raise ObjectMissing(key) from None

    def put(self, key: str, data: bytes) -> None:
        self._connect().pipe_file(self._address(key), data)

    def create(self, key: str, data: bytes) -> None:
        try:
            self._connect().pipe_file(self._address(key), data, mode="create")
        except FileExistsError:
            raise ObjectExists(key) from None
        except OSError as error:  # s3fs passes 412 on as a plain OSError
            if "precondition" in str(error).lower() or "412" in str(error):
                raise ObjectExists(key) from None
            raise

    def delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._connect().rm_file(self._address(key))

    def delete_tree(self, prefix: str) -> None:
        fs = self._connect()
        fs.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            fs.rm(self._address(prefix), recursive=True)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        fs = self._connect()
        fs.invalidate_cache()
        try:
            found = fs.find(self._address(prefix), detail=True)
        except FileNotFoundError:
            return {}
        cut = len(self._root) + 1
        return {name[cut:]: int(entry["size"]) for name, entry in found.items() if name[cut:]}

    def size(self, key: str) -> int | None:
        fs = self._connect()
        fs.invalidate_cache()
        try:
            return int(fs.info(self._address(key))["size"])
        except FileNotFoundError:
            return None


def open_location(location: "str | Path | Location") -> Location:
    """Open a path or an fsspec URL (`s3://`, `gs://`, `memory://`); a Location passes through."""
    if isinstance(location, Location):
        return location
    text = str(location)
    if "://" in text and not text.startswith("file://"):
        return RemoteObjects(text)
    return LocalDirectory(text.removeprefix("file://"))


def _scan(folder: str, prefix: str, found: dict[str, int]) -> None:
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _scan(entry.path, f"{prefix}{entry.name}/", found)
            elif not entry.name.endswith(PARTIAL):
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile by its writer
                    found[prefix + entry.name] = entry.stat().st_size


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents, each new name fsynced into its parent: a record must not outlive its folder."""
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
        finally:
            os.close(handle)


def _disk_full(path: str, target: Path, size: int, error: OSError) -> DiskFull:
    return DiskFull(
        f"disk full: {path} cannot take {target.name} ({size:,} bytes): {error.strerror}\n"
        "  every committed block is intact, and nothing partial was kept\n"
        "free some space and give the same command again; it resumes"
    )
