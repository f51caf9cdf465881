"""Files that are whole or not there: written aside, fsynced, renamed, and the rename fsynced too. No torch.

Whatever is written here has the mode that the umask gives, and an error that names its file.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

PARTIAL = ".partial"  # what is being written; one that a killed process leaves does not count

_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def partial_of(path: Path) -> Path:
    """Where a file is written before it takes its name."""
    return path.with_name(path.name + PARTIAL)


def write_partial(path: Path, data: bytes) -> None:
    """Write what will be `path`, durably, beside it."""
    partial = partial_of(path)
    with naming(partial):
        partial.unlink(missing_ok=True)
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def replace_durably(path: Path) -> None:
    """Give what `write_partial` wrote its name."""
    with naming(path):
        partial_of(path).replace(path)
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Make what a library wrote durable."""
    with naming(path), path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; a file system that cannot (some network ones say EINVAL) is left at that."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(handle)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give errors of the operating system that name no file (a full disk does not) the name of this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def no_link(path: str, flags: int) -> int:
    """Open a file for writing, as `open` does with its `opener`; a link, which may lead anywhere, is refused."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def open_regular(path: Path) -> BufferedReader:
    """Open a file to read; a pipe would be waited for, a device has no end.

    Raises:
        FileNotFoundError: nothing there, or no regular file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise FileNotFoundError(errno.ENOENT, "no regular file", str(path))
    return path.open("rb")
