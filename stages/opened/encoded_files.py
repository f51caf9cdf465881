"""Is this image file the one that was cached? What can be proven of it: its size, and the CRC-32 of its bytes."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.errors import PipelineError
from deit_pipe.pipeline.proof.encoded import KNOWN, NotedSamples, encoded_crc
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.facts import Facts
from deit_pipe.store.errors import StoreError
from deit_pipe.store.proof.encoded import encoded_key, read_encoded, write_encoded
from deit_pipe.store.stored_cache import StoredCache

SAVE_SECONDS = 60.0


@dataclass(frozen=True)
class FileVerdict(Facts):
    """What is proven of an image file, and in words."""

    kind: Literal["changed", "same", "unknown"]
    text: str


class EncodedFiles:
    """The image files of a cache, as they are now and as stage one read them."""

    def __init__(self, stored: StoredCache, table: SampleTable) -> None:
        self._stored, self._table = stored, table

    @cached_property
    def _notes(self) -> NDArray[np.uint64]:
        return read_encoded(self._stored.place, len(self._table))

    def verdict(self, sample: int) -> FileVerdict:
        """Read the file and compare; never raises, because it explains an error that is there already."""
        try:
            image = self._table.read(sample)
            size, recorded = len(image) if isinstance(image, bytes) else image.size, int(self._sizes[sample])
        except (PipelineError, StoreError, OSError) as error:
            return FileVerdict("unknown", f"nothing is proven of the image file: {str(error).splitlines()[0]}")
        if size != recorded:
            return FileVerdict("changed", f"an image file was changed: it had {recorded:,} bytes, it has {size:,}")
        if not self._notes[sample]:
            return FileVerdict("unknown", "the image file has the size it had; its CRC-32 was not noted")
        then, now = int(self._notes[sample] - KNOWN), encoded_crc(image)
        if then != now:
            return FileVerdict("changed", f"an image file was changed: its CRC-32 was {then:08x}, it is {now:08x}")
        return FileVerdict("same", f"the image file has the bytes it had (CRC-32 {now:08x})")

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        return self._stored.samples.byte_sizes


def cause_lines(verdict: FileVerdict, changed: Mapping[str, object], pairs: str) -> list[str]:
    """What follows of a file and of the libraries that differ (`pairs` in words), and what to do."""
    if verdict.kind == "changed":
        return [verdict.text, "restore it, or make a new cache"]
    if changed:
        return [
            verdict.text,
            f"libraries that differ from the cache's: {pairs}",
            "install the cached versions, or make a new cache",
        ]
    if verdict.kind == "same":
        return [
            f"{verdict.text}, and the libraries are the cache's own",
            "so this program is another one, or the memory is faulty: use the one that made the cache",
        ]
    return [
        verdict.text,
        "the libraries are the cache's own, so an image file was changed, or a library's code: "
        "restore it, or make a new cache",
    ]


class Notes:
    """What a writing run notes of the images it reads first; saved in its own file from time to time."""

    def __init__(self, place: str, teacher: str, rank: int, table: NotedSamples, others: NDArray[np.bool_]) -> None:
        self._place, self._teacher, self._rank = place, teacher, rank
        self._table, self._others = table, others
        self._saved = time.monotonic()

    def save_if_due(self) -> None:
        """Save when a minute has passed."""
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Write what this run and earlier ones of this name and rank have noted."""
        self._saved = time.monotonic()
        mine = np.where(self._others, 0, self._table.notes)
        if mine.any():
            write_encoded(self._place, self._teacher, self._rank, mine)


@contextmanager
def noting(place: str, teacher: str, rank: int, table: SampleTable) -> Iterator[tuple[SampleTable, Notes | None]]:
    """The table to read from, so that what is not known yet is noted; the table itself when all of it is."""
    known = read_encoded(place, len(table))
    if known.all():
        yield table, None
        return
    mine = read_encoded(place, len(table), encoded_key(teacher, rank))
    with tempfile.TemporaryDirectory(prefix="deit-pipe-") as folder:
        file = Path(folder) / "notes"
        file.write_bytes(known.tobytes())
        noted = NotedSamples(table, file)
        notes = Notes(place, teacher, rank, noted, (known != 0) & (mine == 0))
        try:
            yield noted, notes
        finally:
            notes.save()
