"""Write a teacher's targets, block by block; resume, extend and repair by opening again.

Commit of a block: check -> encode in memory -> put each object (temporary file, fsync, rename, fsync of the
directory) -> read back and compare -> create the ledger record, which is the commit. SIGKILL at any instant
loses the block at hand.

    with TargetWriter.open(location, teacher, epochs=10, rank=rank, world=world) as writer:
        for block in writer.mine:
            ... writer.write(block, logits, fingerprints, labels, partner_labels, witness)
"""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.errors import CacheBusy, CacheCorrupt, CacheMismatch, FieldDifference, TargetsInvalid
from deit_pipe.store.formats import encode
from deit_pipe.store.layout import Block, array_specs, blocks_of, object_key
from deit_pipe.store.ledger import Cell, read_ledger
from deit_pipe.store.lock import WriterLock
from deit_pipe.store.manifest import TeacherIdentity, read_manifest
from deit_pipe.store.places.location import Location, ObjectExists
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.preflight import Preflight, preflight
from deit_pipe.store.proof.witness import BlockWitness
from deit_pipe.store.record import BlockRecord, StoredObject, digest_of, owner_of, record_key, signed_json
from deit_pipe.store.recovery import check_teacher, prepare, seal_epochs
from deit_pipe.store.shards import ShardCodec
from deit_pipe.store.statistics import block_statistics
from deit_pipe.store.verify import Level


@dataclass(frozen=True)
class WriterReport:
    """How far a teacher is, as this rank knows it."""

    blocks_committed: int
    blocks_total: int
    views_committed: int
    bytes_committed: int

    @property
    def bytes_per_view(self) -> float | None:
        """Measured over the committed blocks; None before the first."""
        return self.bytes_committed / self.views_committed if self.views_committed else None


class TargetWriter:
    """The writer of one rank. Make it with `open`, use it as a context manager."""

    def __init__(self, place: Location, teacher: TeacherIdentity, lock: WriterLock, rank: int, world: int) -> None:
        self._place = place
        self.identity = teacher
        self._lock = lock
        self._rank = rank
        self._run = uuid.uuid4().hex[:12]
        self.manifest = read_manifest(place)
        self._codecs = [ShardCodec(spec, teacher.block_slots) for spec in array_specs(teacher.format)]
        self._owner = owner_of(self.manifest, teacher)
        ledger = read_ledger(place, teacher.name, owner=self._owner)
        self.epochs = ledger.epochs or 0
        cells = ledger.cells()
        self.blocks: list[Block] = [
            block
            for epoch in range(self.epochs)
            for block in blocks_of(epoch, self.manifest.num_samples, teacher.block_slots)
        ]
        self.missing: list[Block] = [b for b in self.blocks if (b.epoch, b.index) not in cells]
        self.mine: list[Block] = self.missing[rank::world]
        self._open: set[Cell] = {(b.epoch, b.index) for b in self.missing}
        columns = ledger.columns()
        self._views = int((columns["stop"] - columns["start"]).sum())
        self._bytes = sum(int(column.sum()) for name, column in columns.items() if name.startswith("bytes."))
        self._committed = len(cells)
        self._sealed_to = 0

    @classmethod
    def open(
        cls,
        location: str | Path | Location,
        teacher: TeacherIdentity,
        *,
        epochs: int,
        rank: int = 0,
        world: int = 1,
        provenance: Mapping[str, str] | None = None,
        verify: Level = "hash",
        check_space: bool = True,
    ) -> Self:
        """Open a teacher of a cache for writing; rank 0 first, the other ranks after it.

        Rank 0 adds the teacher, grows it to `epochs` (it never shrinks below what is committed), removes
        what dead runs left, and checks every committed block at level `verify`: records of damaged blocks
        are removed, so that they are missing again. Other ranks take the number of epochs from rank 0.

        Raises:
            CacheMissing, CacheMismatch: no cache; another teacher of this name. CacheBusy: another run is
            writing.
            DiskFull: what is missing does not fit (unless `check_space` is False).
        """
        if epochs < 1 or not 0 <= rank < world:
            raise ValueError(f"epochs={epochs}, rank={rank}, world={world}")
        place = open_location(location)
        manifest = read_manifest(place)
        if manifest.num_classes != teacher.num_classes:
            field = FieldDifference("num_classes", manifest.num_classes, teacher.num_classes)
            raise CacheMismatch(
                f"teacher {teacher.name!r} knows {teacher.num_classes} classes, the cache at {place.path} "
                f"has {manifest.num_classes}",
                [field],
                cure="give --fit-head, or a teacher trained on these classes (deit-pipe train-teacher)",
            )
        lock = WriterLock(place, teacher.name, rank)
        try:
            if rank == 0:
                prepare(place, manifest, teacher, epochs, verify, provenance, world)
            else:
                check_teacher(place, teacher)
            writer = cls(place, teacher, lock, rank, world)
            if rank == 0 and check_space:
                writer.preflight().require(place)
        except BaseException:
            lock.release()
            raise
        return writer

    def write(
        self,
        block: Block,
        logits: NDArray[np.float32],
        fingerprints: NDArray[np.uint32],
        labels: NDArray[np.int64],
        partner_labels: NDArray[np.int64] | None = None,
        witness: BlockWitness | None = None,
    ) -> BlockRecord:
        """Commit one block: logits float32 [n, C], fingerprints uint32 [n], true labels int64 [n].

        The witness is part of every record of format 2; a cache of format 1 keeps none, and leaves it out.

        Raises:
            TargetsInvalid: shapes, non-finite or too large values, no possible witness; nothing was written.
            DiskFull: no space; nothing is lost. CacheBusy: somebody else committed this block.
            CacheCorrupt: the bytes read back are not the bytes written.
        """
        cell = (block.epoch, block.index)
        if cell not in self._open:
            raise ValueError(f"{block} is not a missing block of this writer")
        for name, values in (("fingerprints", fingerprints), ("labels", labels), ("logits", logits)):
            if len(values) != block.slots:
                raise TargetsInvalid(f"{name} of {block}: expected {block.slots} rows, got {len(values)}")
        if fingerprints.dtype != np.uint32:
            raise TargetsInvalid(f"fingerprints of {block}: expected uint32, got {fingerprints.dtype}")
        witness = self._kept_witness(block, witness)
        arrays = encode(logits, self.identity.format)
        statistics = block_statistics(logits, arrays, labels, partner_labels)
        arrays["fingerprint"] = fingerprints
        record = BlockRecord(
            epoch=block.epoch,
            index=block.index,
            start=block.start,
            stop=block.stop,
            rank=self._rank,
            run=self._run,
            written=time.time(),
            objects={codec.spec.name: self._put(block, codec, arrays) for codec in self._codecs},
            statistics=statistics,
            cache=self._owner.cache,
            teacher=self._owner.teacher,
            witness=witness,
        )
        try:
            self._place.create(record_key(self.identity.name, *cell), signed_json(record.to_json()))
        except ObjectExists:
            raise CacheBusy(
                f"cache busy: another run committed {block} of {self.identity.name!r} at {self._place.path}",
                cure="stop one of the two runs and give the command again; it checks every block",
            ) from None
        self._open.discard(cell)
        self._committed += 1
        self._views += block.slots
        self._bytes += record.stored_bytes
        if self._rank == 0 and block.epoch > self._sealed_to:
            self._sealed_to = block.epoch
            seal_epochs(self._place, self.manifest, self.identity)
        return record

    def _kept_witness(self, block: Block, witness: BlockWitness | None) -> BlockWitness | None:
        if self.manifest.format_version == 1:
            return None
        problem = "missing" if witness is None else witness.problem(block)
        if problem:
            raise TargetsInvalid(f"the witness of {block}: {problem}", details=["nothing of this block was written"])
        return witness

    def _put(self, block: Block, codec: ShardCodec, arrays: Mapping[str, NDArray[Any]]) -> StoredObject:
        data = codec.encode(arrays[codec.spec.name])
        key = object_key(self.identity.name, codec.spec, block.epoch, block.index)
        self._place.put(key, data)
        digest = digest_of(data)
        if digest_of(self._place.get(key)) != digest:
            raise CacheCorrupt(
                f"{codec.spec.name} of {block} reads back other bytes than were written ({key})",
                details=["the block was not committed"],
                cure="check the disk and its memory before anything else",
            )
        return StoredObject(len(data), digest)

    @property
    def report(self) -> WriterReport:
        """Counts of committed blocks, views and bytes: those found at opening and those of this rank."""
        return WriterReport(self._committed, len(self.blocks), self._views, self._bytes)

    def preflight(self) -> Preflight:
        """What the blocks still missing will take, measured as soon as a block is committed."""
        report = self.report
        views = max(0, self.epochs * self.manifest.num_samples - report.views_committed)
        blocks = max(0, report.blocks_total - report.blocks_committed)
        return preflight(self._place, self.identity.format, views, blocks, report.bytes_per_view)

    def complete(self) -> bool:
        """Whether every block of every epoch is committed, by any rank: reads the ledger again."""
        cells = read_ledger(self._place, self.identity.name).cells()
        return all((block.epoch, block.index) in cells for block in self.blocks)

    def close(self) -> None:
        """Free the lock; rank 0 seals complete epochs first, so it closes last. Twice is fine."""
        try:
            if self._rank == 0:
                seal_epochs(self._place, self.manifest, self.identity)
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._lock.release()
