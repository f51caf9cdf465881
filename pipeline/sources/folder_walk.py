"""Walk through a folder that people and systems have left things in.

Links are followed, but nothing is counted twice: a link into the folder itself, to a folder around it, or to a folder
met before is left out. What is hidden, belongs to an operating system, leads nowhere or is no regular file is left out
and counted.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deit_pipe.pipeline.errors import DataMissing
from deit_pipe.pipeline.sources.left_out import DANGLING, HIDDEN, IRREGULAR, REPEATED, SYSTEM, LeftOut

SYSTEM_NAMES = frozenset(
    {
        *(
            "__macosx",
            "__pycache__",
            "thumbs.db",
            "ehthumbs.db",
            "ehthumbs_vista.db",
            "desktop.ini",
            "icon\r",
        ),
        *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin"),
        *("system volume information", "lost+found", "network trash folder", "temporary items"),
    }
)
# What following a link to nothing, or to itself, ends with.
NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@dataclass(frozen=True)
class FoundFile:
    """A regular file, or a link to one.

    Attributes:
        name: without its folder.
        identity: what every link to the file shares, 0..2**64-1.
    """

    name: str
    identity: int


@dataclass(frozen=True)
class Listing:
    """One folder.

    Attributes:
        below: its path below the root with forward slashes, "" for the root.
        folders: names of the subfolders to go into, sorted.
        files: sorted by name.
    """

    below: str
    folders: tuple[str, ...]
    files: tuple[FoundFile, ...]


class FolderWalk:
    """Lists the folders below a root, each at most once."""

    def __init__(self, root: Path, left_out: LeftOut | None = None) -> None:
        self.root = root
        self.left_out = LeftOut() if left_out is None else left_out
        self._real_root = os.path.realpath(root)
        self._outside: set[str] = set()  # folders that a link led to, and those below them
        self._met: set[tuple[int, int]] = set()

    def walk(self, below: str = "") -> Iterator[Listing]:
        """Yield the listing of a folder and of all folders below it, parents first, sorted."""
        waiting = [below]
        while waiting:
            listing = self.look_in(waiting.pop())
            yield listing
            waiting += [joined(listing.below, name) for name in reversed(listing.folders)]

    def look_in(self, below: str = "") -> Listing:
        """List one folder.

        Raises:
            DataMissing: it cannot be listed; a folder is never silently empty.
        """
        folders: list[str] = []
        files: list[FoundFile] = []
        try:
            device = (self.root / below).stat().st_dev
            with os.scandir(self.root / below) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    self._sort_in(entry, below, device, folders, files)
        except OSError as error:
            raise DataMissing(
                f"cannot list the folder {error.filename or self.root / below}: {error.strerror}",
                cure="make it readable, or move it out of the data",
            ) from error
        return Listing(below, tuple(folders), tuple(files))

    def _sort_in(
        self,
        entry: os.DirEntry[str],
        below: str,
        device: int,
        folders: list[str],
        files: list[FoundFile],
    ) -> None:
        path = joined(below, entry.name)
        if is_hidden(entry.name):
            self.left_out.add(HIDDEN, path)
        elif is_system(entry.name):
            self.left_out.add(SYSTEM, path)
        elif entry.is_symlink():
            self._follow(entry, path, folders, files)
        elif entry.is_dir(follow_symlinks=False):
            if below in self._outside:
                self._enter_outside(Path(entry.path).stat(), path, folders)
            else:
                folders.append(entry.name)
        elif entry.is_file(follow_symlinks=False):
            files.append(FoundFile(entry.name, identity_of(device, entry.inode())))
        else:
            self.left_out.add(IRREGULAR, path)

    def _follow(self, entry: os.DirEntry[str], path: str, folders: list[str], files: list[FoundFile]) -> None:
        try:
            target = Path(entry.path).stat()
        except OSError as error:
            if error.errno not in NOWHERE:
                raise
            self.left_out.add(DANGLING, path)
            return
        if stat.S_ISREG(target.st_mode) and self._overlaps_root(os.path.realpath(entry.path)):
            self.left_out.add(REPEATED, path)
        elif stat.S_ISREG(target.st_mode):
            files.append(FoundFile(entry.name, identity_of(target.st_dev, target.st_ino)))
        elif not stat.S_ISDIR(target.st_mode):
            self.left_out.add(IRREGULAR, path)
        elif self._overlaps_root(os.path.realpath(entry.path)):
            self.left_out.add(REPEATED, path)
        else:
            self._enter_outside(target, path, folders)

    def _enter_outside(self, folder: os.stat_result, path: str, folders: list[str]) -> None:
        """Take a folder that is not really below the root, unless it was met before."""
        identity = (folder.st_dev, folder.st_ino)
        if identity in self._met:
            self.left_out.add(REPEATED, path)
            return
        self._met.add(identity)
        self._outside.add(path)
        folders.append(path.rpartition("/")[2])

    def _overlaps_root(self, real: str) -> bool:
        """Tell whether a real folder is counted from the root anyway, or holds the root."""
        common = os.path.commonpath((real, self._real_root))
        if common == real:
            return True
        # What is below a hidden folder is not counted there; some stores keep everything in one and link to it.
        below = Path(real).parts[len(Path(common).parts) :]
        return common == self._real_root and not any(is_hidden(name) or is_system(name) for name in below)


def joined(below: str, name: str) -> str:
    """Return the path of `name` in the folder `below`, where "" is the root."""
    return f"{below}/{name}" if below else name


def identity_of(device: int, inode: int) -> int:
    """Mix both numbers of a file into one; an equal pair of different files is only improbable."""
    return (inode + device * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder is hidden; ._x.jpg is what one system leaves beside x.jpg."""
    return name.startswith(".")


def is_system(name: str) -> bool:
    """Tell whether an operating system, and no person, made a file or folder of this name."""
    return name.lower() in SYSTEM_NAMES
