"""The folder where this program keeps what it can make again from the data: `$XDG_CACHE_HOME/deit-pipe`.

Never inside the data. It may be deleted at any time, also while something runs. What is found there counts only if
nobody else could have written it, it is whole, and the file it was made from is the very same (`FileState`); else it is
as if it were not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from deit_pipe.pipeline.errors import DataCorrupt

FOLDER = "deit-pipe"
# A file that was changed so lately may be changed again without a sign of it: clocks of file systems are coarse.
SETTLED_NS = 2_000_000_000
_DIGEST = 32  # bytes of a SHA-256
_SOURCE = "source"  # names the file that an entry was made from
_tidied: set[str] = set()  # kinds of entries, by this process


class FileState(NamedTuple):
    """What a file is known by: where it is, which it is, how long, and when it was last changed in any way."""

    path: str
    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @property
    def name(self) -> str:
        """Of its entry: of the path, then of the rest."""
        where = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:24]
        return f"{where}/{hashlib.sha256(repr(self[1:]).encode()).hexdigest()[:24]}"

    @property
    def settled(self) -> bool:
        """Whether a change from now on would be seen in its times."""
        return max(self.modified_ns, self.changed_ns) < time.time_ns() - SETTLED_NS


def state_of(file: Path) -> FileState:
    """Ask the file system, once."""
    real = os.path.realpath(file)
    about = Path(real).stat()
    return FileState(real, about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)


def refuse_changed(file: Path, before: FileState, now: os.stat_result) -> None:
    """Refuse a file that was replaced or written while it is used: what is known of it was read of the file as it was.

    The inode or the time of change has to be the same: the numbers of some file systems are not the file's own, and
    other links and permissions are no other content.

    Raises:
        DataCorrupt: it was changed.
    """
    same = now.st_ino == before.inode or now.st_ctime_ns == before.changed_ns
    if not (same and (now.st_size, now.st_mtime_ns) == (before.size, before.modified_ns)):
        raise DataCorrupt(f"{file} was changed after it was opened", cure="start again")


def own_folder(*, make: bool = False) -> Path | None:
    """Return the folder; None where there is none (`make`: and none can be made), or it is not this user's alone."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / FOLDER
        if make:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
    except (OSError, RuntimeError):  # RuntimeError: nobody's home
        return None
    mine = not hasattr(os, "geteuid") or (about.st_uid == os.geteuid() and not about.st_mode & 0o022)
    return folder if mine and stat.S_ISDIR(about.st_mode) and os.access(folder, os.W_OK) else None


def entry_of(kind: str, state: FileState, *, make: bool = False) -> Path | None:
    """Return the folder for what is kept of a file; None where nothing can be kept.

    Making one removes what was kept of the same file as it was before, and of files that are gone.
    """
    root = own_folder(make=make)
    if root is None:
        return None
    entry = root / kind / state.name
    if make and not entry.is_dir():
        try:
            entry.mkdir(mode=0o700, parents=True, exist_ok=True)
            (entry.parent / _SOURCE).write_bytes(os.fsencode(state.path))
            _remove_others(entry)
            if kind not in _tidied:
                _tidied.add(kind)
                _remove_orphans(root / kind)
        except OSError:
            return None
    return entry


def _remove_others(entry: Path) -> None:
    for other in entry.parent.iterdir():
        if other.is_dir() and other != entry:
            shutil.rmtree(other, ignore_errors=True)


def _remove_orphans(kind: Path) -> None:
    for other in kind.iterdir():
        with contextlib.suppress(OSError, ValueError):
            if not Path(os.fsdecode((other / _SOURCE).read_bytes())).exists():
                shutil.rmtree(other, ignore_errors=True)


def write_whole(file: Path, content: bytes) -> None:
    """Write a small file, with its SHA-256, so that readers see all of it or nothing; a failure is no error."""
    with contextlib.suppress(OSError):
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as opened:
                opened.write(hashlib.sha256(content).digest() + content)
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def read_whole(file: Path) -> bytes | None:
    """Read what `write_whole` wrote; None where it is not there or damaged."""
    try:
        data = file.read_bytes()
    except OSError:
        return None
    content = data[_DIGEST:]
    return content if data[:_DIGEST] == hashlib.sha256(content).digest() else None
