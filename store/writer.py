"""Write a teacher's targets, block by block; resume, extend and repair by opening again. Any number of jobs at once.

Commit of a block: check -> encode in memory -> create its one object (`commit`). SIGKILL at any instant loses the block
at hand. Jobs know nothing of each other but what lies in the cache: committed blocks, and hints (`hints`).

    with TargetWriter.open(location, teacher, epochs=10) as writer:
        for block in writer.claims():
            ... writer.write(block, logits, fingerprints, labels, partner_labels, witness)
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.blocks.block_object import BlockCodec
from deit_pipe.store.blocks.checks import Check
from deit_pipe.store.errors import CacheCorrupt, CacheMismatch, FieldDifference, TargetsInvalid
from deit_pipe.store.formats import encode
from deit_pipe.store.index import seal_epochs
from deit_pipe.store.layout import Block
from deit_pipe.store.manifest import Manifest, TeacherIdentity, read_manifest, refuse_removed
from deit_pipe.store.places.location import Location
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.preflight import Preflight, preflight
from deit_pipe.store.proof.witness import BlockWitness
from deit_pipe.store.record import BlockRecord
from deit_pipe.store.statistics import block_statistics
from deit_pipe.store.writing.claims import Claims, Job
from deit_pipe.store.writing.commit import commit
from deit_pipe.store.writing.opening import Opened, open_teacher
from deit_pipe.store.writing.report import WriterReport


class TargetWriter:
    """One job that writes one teacher. Make it with `open`, use it as a context manager.

    Attributes:
        manifest, identity: what is written.
        epochs: how many are wanted.
        blocks: all of them; `missing`: those that were not there when it was opened; `mine`: those that this rank would
            take first.
        damaged: those of `missing` that are there and bad.
        checked: what was compared of the blocks that were there, in words; empty where there was none.
        written: blocks that this job committed; `dropped`: that it made while another committed them.
    """

    def __init__(
        self, place: Location, manifest: Manifest, teacher: TeacherIdentity, opened: Opened, rank: int, world: int
    ) -> None:
        self._place, self._rank = place, rank
        self.manifest, self.identity = manifest, teacher
        self._run = uuid.uuid4().hex[:12]
        self._codec = BlockCodec(manifest, teacher)
        self.epochs, self.blocks, self.missing = opened.epochs, opened.blocks, opened.missing
        self.mine: list[Block] = self.missing[rank::world]
        self.checked, self.damaged = opened.checked, frozenset(opened.damaged)
        self._stale = set(opened.stale)
        self._bytes = opened.bytes
        self._sealed_to = 0
        self.dropped = self.written = 0
        job = Job(self._run, rank, world)
        self._claims = Claims(place, manifest, teacher, job, set(self.missing), set(opened.damaged))

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
        check: Check | None = None,
        check_space: bool = True,
    ) -> Self:
        """Open a teacher of a cache for writing, beside whoever else writes it.

        Adds the teacher, grows it to `epochs` (it never shrinks), and checks the committed blocks:
        this rank's share of them. Those that are damaged are missing again.

        Args:
            location: of the cache.
            teacher: whose answers are written.
            epochs: wanted.
            rank: of this process among `world` that were started together: it begins with its own share of the blocks.
            world: number of processes that were started together.
            provenance: what this run is made with; None: nothing is noted of it.
            check: how committed blocks are checked; None: all hashes, or an affordable share (`resume_check`), and the
                sizes of all.
            check_space: whether to refuse what does not fit.

        Raises:
            CacheMissing, CacheMismatch: no cache; another teacher of this name. CacheOld: a cache of an earlier format
            that is not complete. TeacherRemoved: it was removed. StoreUnreachable: a place that cannot hold a cache.
            DiskFull: what is missing does not fit.
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
        opened = open_teacher(place, manifest, teacher, epochs, check, (rank, world))
        writer = cls(place, manifest, teacher, opened, rank, world)
        if rank == 0 and check_space:
            writer.preflight().require(place)
        if rank == 0 and provenance is not None and manifest.format_version >= 3:
            writer.note_run(world, provenance)
        return writer

    def note_run(self, world: int, provenance: Mapping[str, str]) -> None:
        """Note who writes, and with what."""
        from deit_pipe.store.runs import write_run

        write_run(self._place, self.identity.name, world, provenance, self._run)

    def claims(self) -> Iterator[Block]:
        """Blocks to make, one after the other, each with a hint that this job makes it; `write` each.

        From this rank's own place on, the lowest epochs first. Ends when others make all that is left: then `wait`.

        Raises:
            TeacherRemoved: somebody removed the teacher meanwhile.
        """
        return iter(self._claims)

    def wait(self, sleep: Callable[[float], object] = time.sleep) -> bool:
        """Wait for what others make: True when there is something to make again, False when all is committed.

        What does not change for long is taken over (see `hints`). To be called when all claimed blocks are written.
        """
        return self._claims.wait(sleep)

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

        Where another job has committed it meanwhile, its block stays and ours is dropped.

        Returns:
            the record of the block that is committed.

        Raises:
            TargetsInvalid: shapes, non-finite or too large values, no possible witness; nothing was written.
            DiskFull: no space; nothing is lost. StoreUnreachable: no answer. TeacherRemoved: somebody removed it.
            CacheCorrupt: the bytes read back are not the bytes written.
        """
        if block not in self._claims.left:
            raise ValueError(f"{block} is not a missing block of this writer")
        started = time.monotonic()
        record, shards = self._checked(block, logits, fingerprints, labels, partner_labels, witness)
        data, record = self._codec.pack(record, shards)
        known = block in self._claims.damaged or self._claims.shared
        done = commit(self._place, self._codec, data, record, look_first=known)
        if done.ours and self._place.get(self._codec.key(block.epoch, block.index)) != data:
            raise CacheCorrupt(
                f"{block} of {self.identity.name!r} reads back other bytes than were written",
                details=["the same command makes it again"],
                cure="check the disk and its memory before anything else",
            )
        self.dropped += not done.ours
        self.written += done.ours
        if block in self._claims.damaged:
            self._stale.add(block.epoch)
        self._settle(block, done.record, time.monotonic() - started)
        return done.record

    def _checked(
        self,
        block: Block,
        logits: NDArray[np.float32],
        fingerprints: NDArray[np.uint32],
        labels: NDArray[np.int64],
        partner_labels: NDArray[np.int64] | None,
        witness: BlockWitness | None,
    ) -> tuple[BlockRecord, dict[str, bytes]]:
        for name, values in (("fingerprints", fingerprints), ("labels", labels), ("logits", logits)):
            if len(values) != block.slots:
                raise TargetsInvalid(f"{name} of {block}: expected {block.slots} rows, got {len(values)}")
        if fingerprints.dtype != np.uint32:
            raise TargetsInvalid(f"fingerprints of {block}: expected uint32, got {fingerprints.dtype}")
        problem = "missing" if witness is None else witness.problem(block)
        if problem:
            raise TargetsInvalid(f"the witness of {block}: {problem}", details=["nothing of this block was written"])
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
            objects={},
            statistics=statistics,
            witness=witness,
            token=uuid.uuid4().hex,
        )
        return record, self._codec.encode(arrays)

    def _settle(self, block: Block, record: BlockRecord, seconds: float) -> None:
        """What follows of a committed block: counts, hints, the index of the epochs before."""
        self._bytes += record.stored_bytes
        self._claims.done(block, seconds)
        if block.epoch > self._sealed_to:
            self._sealed_to = block.epoch
            self._seal()

    def _seal(self) -> None:
        seal_epochs(self._place, self.manifest, self.identity, self._stale)
        self._stale.clear()

    def holders(self) -> list[str]:
        """Who makes what is left, in words."""
        return sorted({self._claims.hints.holder(block) for block in self.left()})

    @property
    def report(self) -> WriterReport:
        """Counts of committed blocks, views and bytes: those found at opening and those of this job."""
        left = self._claims.left
        views = sum(block.slots for block in self.blocks) - sum(block.slots for block in list(left))
        size = self._bytes + self._claims.found_bytes
        return WriterReport(len(self.blocks) - len(left), len(self.blocks), views, size)

    def preflight(self) -> Preflight:
        """What the blocks still missing will take, measured as soon as a block is committed."""
        left = list(self._claims.left)
        views = sum(block.slots for block in left)
        return preflight(self._place, self.identity.format, views, len(left), self.report.bytes_per_view)

    def left(self) -> list[Block]:
        """The blocks that nobody has committed: lists them again."""
        self._claims.refresh()
        return sorted(self._claims.left)

    def complete(self) -> bool:
        """Whether every block of every epoch is committed, by anybody: lists what this job has not seen committed."""
        return not self.left()

    def close(self) -> None:
        """Take the hints back and index what is complete. Twice is fine."""
        self._claims.hints.drop_all()
        if self.manifest.format_version >= 3:
            refuse_removed(self._place, self.identity.name)
            self._seal()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._claims.hints.drop_all()
