"""A cache as it lies in its place: every small file is read once, when it is first asked for, and kept.

Small files are the manifest, the provenance, the sample table, the teachers' identities and their ledgers. Nothing is
read again: what a writer adds meanwhile is seen by the next `StoredCache`.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.blocks.records import Ledger
from deit_pipe.store.gates import GateFile, read_gate_file
from deit_pipe.store.ledger import Coverage, coverage_of, declared_epochs, ledger_of, marked_epochs
from deit_pipe.store.manifest import (
    REMOVED,
    Manifest,
    ManifestFile,
    TeacherIdentity,
    identity_keys,
    named_by,
    read_manifest_file,
    read_provenance,
    read_teacher,
    teachers_among,
)
from deit_pipe.store.places.local import LocalDirectory
from deit_pipe.store.places.location import Location
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.places.strays import find_strays
from deit_pipe.store.runs import read_runs
from deit_pipe.store.samples import SAMPLES, SampleIndex, decode_labels, decode_samples, sample_bytes
from deit_pipe.store.twice.identities import original_key


class StoredCache:
    """The small files of a cache, each read once.

    Attributes:
        place: where it lies.
        path: its folder or URL, as it was given.
    """

    def __init__(self, location: str | Path | Location) -> None:
        """Nothing is read yet, so a cache that is not there is missed by whoever asks for its manifest."""
        self.place = open_location(location)
        self.path = str(location)
        self._teachers: dict[str, StoredTeacher] = {}

    @cached_property
    def manifest_file(self) -> ManifestFile:
        """All that MANIFEST.json says.

        Raises:
            CacheMissing: no cache there. CacheCorrupt: it is damaged. CacheMismatch: of a newer format.
        """
        return read_manifest_file(self.place)

    @property
    def manifest(self) -> Manifest:
        """The identity of the views; raises as `manifest_file`."""
        return self.manifest_file.manifest

    @cached_property
    def provenance(self) -> dict[str, str]:
        """Library versions at creation (no identity); empty if they were lost."""
        return read_provenance(self.place)

    @cached_property
    def samples(self) -> SampleIndex:
        """The sample table.

        Raises:
            CacheCorrupt: it is damaged or gone.
        """
        manifest, files, _ = self.manifest_file
        counts = manifest.num_samples, manifest.num_classes
        return decode_samples(self.place.path, self._sample_bytes, files[SAMPLES], *counts)

    @cached_property
    def labels(self) -> NDArray[np.int64] | None:
        """True classes, int64 [N], -1 for unlabelled samples; None where the table is gone or damaged."""
        return decode_labels(self._sample_bytes)

    @cached_property
    def _sample_bytes(self) -> bytes | None:
        return sample_bytes(self.place, self.manifest_file.files[SAMPLES])

    @cached_property
    def teacher_names(self) -> list[str]:
        """Names of its teachers, sorted."""
        return teachers_among(self._identity_keys)

    @cached_property
    def _identity_keys(self) -> list[str]:
        return identity_keys(self.place)

    @cached_property
    def strays(self) -> list[str]:
        """Files here that are no part of a cache: what systems leave in folders, and what has no teacher's name."""
        found = find_strays(self.place.root) if isinstance(self.place, LocalDirectory) else []
        unnamed = (key for key in self._identity_keys if named_by(original_key(key)) is None)
        return found + sorted(key for key in unnamed if not key.endswith(REMOVED))

    def teacher(self, name: str) -> "StoredTeacher":
        """One of its teachers, the same object each time.

        Raises:
            CacheMissing: there is none of this name. CacheCorrupt: its identity is damaged.
        """
        if name not in self._teachers:
            self._teachers[name] = StoredTeacher(self, read_teacher(self.place, name))
        return self._teachers[name]

    def __str__(self) -> str:
        return self.path


class StoredTeacher:
    """The small files of one teacher.

    Attributes:
        cache: that it belongs to.
        identity: whose answers these are.
    """

    def __init__(self, cache: StoredCache, identity: TeacherIdentity) -> None:
        self.cache, self.identity = cache, identity

    @property
    def name(self) -> str:
        """Its name in the cache."""
        return self.identity.name

    @cached_property
    def ledger(self) -> Ledger:
        """Which blocks there are; damage is listed in it, not raised."""
        return ledger_of(self.cache.place, self.cache.manifest, self.identity, tolerant=True)

    @property
    def wanted_epochs(self) -> int:
        """How many epochs are wanted of it, whatever is there; no block is looked at (before format 3: the ledger)."""
        if self.cache.manifest.format_version < 3:
            return self.ledger.epochs or 0
        return marked_epochs(self.cache.place, self.name)

    @cached_property
    def coverage(self) -> Coverage:
        """How much of it is there."""
        return coverage_of(self.cache.manifest, self.identity, self.ledger)

    def usable_epochs(self, asked: int) -> int:
        """How many epochs a reader that shows `asked` of them may take in turn now, whatever is written beside it.

        All that are wanted once they are there; before, the most that were ever wanted and are there (a cache that is
        being extended), or as many as are asked for; 0 where there are fewer.
        """
        state = self.coverage
        whole = state.blocks_committed == state.blocks_total
        leading = len(whole) if whole.all() else int(np.argmin(whole))
        if leading == state.epochs:
            return leading
        folder = f"ledger/{self.name}/epochs/"
        wished = max([0, *(number for number in declared_epochs(self.ledger.keys, folder) if number <= leading)])
        return wished if wished >= asked or leading < asked else leading

    @cached_property
    def runs(self) -> list[dict[str, Any]]:
        """Who wrote it, oldest first."""
        return read_runs(self.cache.place, self.name, self.ledger.keys)

    @cached_property
    def gate(self) -> GateFile:
        """What was measured of it before it was cached; a record of another teacher is damage."""
        found = read_gate_file(self.cache.place, self.name)
        if found.record is None or found.record.get("identity") == self.identity.digest:
            return found
        return GateFile(None, "is another teacher's")


Source = str | Path | Location | StoredCache


def stored_cache(source: Source) -> StoredCache:
    """The small files of a cache; those that are opened already pass through."""
    return source if isinstance(source, StoredCache) else StoredCache(source)
