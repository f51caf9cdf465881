"""Images of Parquet files at random, though Parquet can only decode a row group from its beginning.

A row group that is asked for is decoded and kept in memory, up to `KEPT_BYTES` in all. One that has to be decoded
again, or is larger than that, is unpacked into a file of this program's own folder (see own_folder.py), where each
image is read from its place: by all threads and processes, now and in later runs. So data that are read once from end
to end, and small data, leave nothing on the disk; and no row group is decoded more than twice by a process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
from numpy.typing import NDArray

from deit_pipe.pipeline.sources.kept.decoded_rows import RowGroup, as_bytes, decoded_rows, open_for_rows
from deit_pipe.pipeline.sources.kept.own_folder import (
    FileState,
    entry_of,
    own_folder,
    read_whole,
    refuse_changed,
    state_of,
    write_whole,
)
from deit_pipe.pipeline.sources.kept.unpacked_rows import (
    Damaged,
    RowTable,
    lengths_of,
    read_image,
    read_table,
    write_rows,
)

try:
    import fcntl
except ImportError:  # no such locks: two processes may unpack the same row group
    fcntl = None  # type: ignore[assignment]

KEPT_BYTES = 128 << 20
SPARE_DISK = 1 << 30  # bytes that are left free
KIND = "parquet"
LENGTHS = "lengths"
LOCK = "lock"


class RowGroups:
    """The encoded images of one split's row groups. Can be pickled and forked; several threads may read at once."""

    def __init__(self, files: Sequence[Path], column: str, groups: Sequence[RowGroup]) -> None:
        self.files = tuple(files)
        self.column = column
        self.groups = list(groups)
        self._states = [state_of(file) for file in files]
        self._met: set[int] = set()  # decoded before by this process
        self._tables: dict[int, RowTable] = {}
        self._fresh()

    def __getstate__(self) -> dict[str, Any]:
        without = ("_reading", "_kept", "_open", "_process")
        return {name: value for name, value in self.__dict__.items() if name not in without}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._fresh()

    def _fresh(self) -> None:
        """Begin with nothing decoded: what a process starts with, however it came to be."""
        self._process = os.getpid()
        self._reading = Lock()  # a row group is decoded once, whoever of several threads asks for it
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._open: dict[int, Any] = {}

    @property
    def unpacked_bytes(self) -> int:
        """What may come to be unpacked on the disk; 0 where all of it stays in memory."""
        total = sum(group.size for group in self.groups)
        return total if total > KEPT_BYTES else 0

    def room(self) -> Path | None:
        """Return the folder for unpacked images, None where it cannot hold them."""
        folder = own_folder(make=True)
        there = 0 if folder is None else sum(_size(file) for place in self.entries() for file in place.glob("*.rows"))
        with contextlib.suppress(OSError):
            if folder is not None and _free(folder) + there > self.unpacked_bytes:
                return folder
        return None

    def entries(self) -> list[Path]:
        """Return where the unpacked images of each file are, or would be."""
        return [entry for state in self._states if (entry := entry_of(KIND, state)) is not None]

    def read(self, group: int, row: int) -> bytes | None:
        """Return an encoded image, None for a null.

        Raises:
            DataCorrupt: the row group cannot be decoded.
        """
        kept = self._kept.get(group) if self._process == os.getpid() else None
        if kept is None:
            with contextlib.suppress(Damaged, OSError):
                return self._from_disk(group, row)
            if self._process != os.getpid():  # a lock that another thread held when this process was forked stays so
                self._fresh()
            with self._reading:
                kept = self._kept.get(group)
                if kept is None and self._to_disk(group):
                    with contextlib.suppress(Damaged, OSError):
                        return self._from_disk(group, row)
                kept = kept if kept is not None else self._decode(group)
        image = kept[row].as_py()
        return None if image is None else bytes(image)

    def lengths(self) -> NDArray[np.int64]:
        """Return the length of every image, int64, 0 for a null; kept too, so that a file is measured once."""
        parts = []
        for place in range(len(self.files)):
            groups = [i for i, group in enumerate(self.groups) if group.file == place]
            rows = sum(self.groups[i].rows for i in groups)
            known = self._entry(place, make=False)
            data = None if known is None else read_whole(known / f"{self._prefix}{LENGTHS}")
            if data is None or len(data) != 8 * rows:
                settled = self._states[place].settled  # before it is read: what changes it later is seen
                data = np.concatenate([np.zeros(0, np.int64), *map(self._measure, groups)]).astype("<i8").tobytes()
                if settled and (entry := self._entry(place, make=True)) is not None:
                    write_whole(entry / f"{self._prefix}{LENGTHS}", data)
            parts.append(np.frombuffer(data, "<i8"))
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def _measure(self, group: int) -> NDArray[np.int64]:
        with contextlib.suppress(Damaged, OSError):
            return lengths_of(self._table(group))
        parts = [compute.fill_null(compute.binary_length(part), 0).to_numpy(False) for part in self._decoded(group)]
        return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)

    @property
    def _prefix(self) -> str:
        """Of the names of files: other columns are other images, however alike their names begin."""
        return hashlib.sha256(self.column.encode("utf-8", "surrogateescape")).hexdigest()[:32] + "-"

    def _entry(self, file: int, *, make: bool) -> Path | None:
        """Return where to keep what is made of a file, None where it is no longer the file that was opened."""
        state = self._states[file]
        return entry_of(KIND, state, make=make) if not make or _unchanged(self.files[file], state) else None

    def _rows_file(self, group: int, *, make: bool = False) -> Path:
        one = self.groups[group]
        entry = self._entry(one.file, make=make)
        if entry is None:
            raise FileNotFoundError(self.files[one.file])
        return entry / f"{self._prefix}{one.number:06}.rows"

    def _table(self, group: int) -> RowTable:
        return read_table(self._rows_file(group), self.groups[group].rows)

    def _from_disk(self, group: int, row: int) -> bytes | None:
        file = self._rows_file(group)
        table = self._tables.get(group)
        try:
            if table is None:
                table = self._tables[group] = read_table(file, self.groups[group].rows)
            return read_image(file, table, row)
        except (Damaged, OSError):
            self._tables.pop(group, None)
            raise

    def _to_disk(self, group: int) -> bool:
        """Unpack a row group into its file, unless it is there; False: it is to be decoded in memory."""
        size = self.groups[group].size
        if group not in self._met and size <= KEPT_BYTES:
            return False
        with contextlib.suppress(OSError):
            file = self._rows_file(group, make=True)
            with _alone(file.parent, self.groups[group].number):
                with contextlib.suppress(Damaged, OSError):
                    table = read_table(file, self.groups[group].rows)
                    for row in range(len(table)):
                        read_image(file, table, row)
                    return True  # another made it
                if _free(file.parent) > size:
                    write_rows(file, (image for part in self._decoded(group) for image in as_bytes(part)))
                    self._tables.pop(group, None)
                    one = self.groups[group].file
                    if _unchanged(self.files[one], self._states[one]):
                        return True
                    file.unlink(missing_ok=True)
        return False

    def _decode(self, group: int) -> Any:
        """Decode a row group into memory, and let go of others."""
        kept = pa.chunked_array(list(self._decoded(group)) or [pa.array([], pa.binary())])
        self._met.add(group)
        self._kept[group] = kept
        while len(self._kept) > 1 and sum(part.nbytes for part in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return kept

    def _decoded(self, group: int) -> Iterator[Any]:
        """Yield the images of a row group as binary Arrow arrays, a few at a time."""
        one = self.groups[group]
        if one.file not in self._open:
            self._open[one.file] = open_for_rows(self.files[one.file])
        self._refuse_changed(one.file)
        yield from decoded_rows(self._open[one.file], self.column, one, self.files[one.file])
        self._refuse_changed(one.file)

    def _refuse_changed(self, place: int) -> None:
        with contextlib.suppress(OSError):
            refuse_changed(self.files[place], self._states[place], self.files[place].stat())


def _unchanged(file: Path, state: FileState) -> bool:
    try:
        return state.settled and state_of(file) == state
    except OSError:
        return False


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free - SPARE_DISK


@contextlib.contextmanager
def _alone(entry: Path, number: int) -> Iterator[None]:
    """Let one process at a time unpack a row group of a file."""
    with (entry / LOCK).open("ab") as lock:
        if fcntl is not None:
            fcntl.lockf(lock, fcntl.LOCK_EX, 1, number)
        yield
