"""Only what lies in a cache itself is read and written: a link in a stranger's cache could lead anywhere."""

import errno
import os
import stat
from pathlib import Path

from deit_pipe.store.errors import CacheCorrupt


def check_inside(root: Path, key: str) -> Path:
    """The path of an object, none of whose folders below the root is a link. The root itself may be one.

    Raises:
        CacheCorrupt: names the link.
    """
    path = root
    for part in key.split("/"):
        path = path / part
        if path.is_symlink():
            raise not_followed(path)
    return path


def not_followed(path: Path | str) -> CacheCorrupt:
    """Build the message of a link."""
    return CacheCorrupt(
        f"cache corrupt: {path} is a link, and what a cache links to is not followed",
        expected="files and folders of its own",
        cure="put what it links to in its place, or mount it there (mount --bind)",
    )


def read_regular(path: Path, most: int, start: int = 0, stop: int | None = None) -> bytes:
    """Bytes of a file of at most `most`, or those from `start` to `stop`.

    A pipe would be waited for, and a device has no end.

    Raises:
        FileNotFoundError, IsADirectoryError: there is none. CacheCorrupt: a longer one, or something else than a file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(found.st_mode) or found.st_size > most:
            raise CacheCorrupt(
                f"cache corrupt: {path} is no file that a cache has",
                expected=f"a regular file of at most {most:,} bytes",
                got=f"{stat.filemode(found.st_mode)}, {found.st_size:,} bytes",
                cure="remove it, or restore the file from a copy",
            )
        file.seek(start)
        return file.read() if stop is None else file.read(max(0, stop - start))
