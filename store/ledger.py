"""Which blocks of a teacher exist: their records, with the SHA-256 of each array and the statistics of each block.

    ledger/NAME/epochs/0008               made once: so many epochs are wanted; the largest counts
    ledger/NAME/sealed/0003-0003-DIGEST.parquet  records of complete epochs: an index of what the blocks say themselves

zarr cannot tell an absent block from a block of fill values; the header of a block can (`block_object`). What no index has
is listed, and its headers are read. Formats 1 and 2 are read by `earlier`. Needs no zarr.
"""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store import sealed
from deit_pipe.store.block_object import BlockCodec, ObjectDamaged
from deit_pipe.store.blocks import BlockObjects
from deit_pipe.store.errors import CacheCorrupt
from deit_pipe.store.layout import Block, blocks_of, blocks_per_epoch
from deit_pipe.store.manifest import Manifest, TeacherIdentity, read_manifest, read_teacher
from deit_pipe.store.places.location import Location, ObjectMissing
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.proof.witness import Witnesses, witnesses_of
from deit_pipe.store.record import BlockRecord
from deit_pipe.store.sealed import Cell

LISTED_ALONE = 4  # so many open epochs are listed one by one; more of them by one listing of all blocks
LISTINGS = 20  # tries to read an index that others are replacing


class Damage(NamedTuple):
    """A bad file of a ledger, or a block whose header is bad.

    `epochs` is the range it covered; `lost` is False if it says nothing that is not said elsewhere; `foreign`: it is whole,
    but of another teacher or cache, so it is refused and never replaced: put back, it may be worth days of a teacher.
    `cell` is set for a block, and `array` then says in which part of it.
    """

    key: str
    epochs: tuple[int, int]
    lost: bool
    what: str
    foreign: bool = False
    cell: Cell | None = None
    array: str = "ledger"


class Ledger:
    """The records of one teacher: indexed ones as columns, the others as records.

    Attributes:
        epochs: how many are wanted; None if nothing says so.
        loose: records that no index has.
        class_counts: teacher labels per class of the epochs that an index has.
        sealed_keys: names of the index files that were read.
        keys: every file of the teacher's ledger when it was listed, also those of other modules.
    """

    def __init__(
        self,
        epochs: int | None,
        columns: dict[str, NDArray[Any]],
        loose: dict[Cell, BlockRecord],
        class_counts: dict[int, NDArray[np.int64]],
        damage: list[Damage],
        sealed_keys: list[str],
        keys: tuple[str, ...] = (),
    ) -> None:
        self.epochs = epochs
        self.loose = loose
        self.class_counts = class_counts
        self.damage = damage
        self.sealed_keys = sealed_keys
        self.keys = keys
        self._columns = columns
        self._rows: dict[Cell, int] = sealed.newest_rows(columns) if columns else {}

    @cached_property
    def sealed_epochs(self) -> set[int]:
        """Epochs that have class counts, which come with the seal, and no loose records."""
        return set(self.class_counts) - {epoch for epoch, _ in self.loose}

    def __contains__(self, cell: Cell) -> bool:
        return cell in self.loose or cell in self._rows

    def __len__(self) -> int:
        return len(self.cells())

    def cells(self) -> set[Cell]:
        """All committed (epoch, block index)."""
        return self.loose.keys() | self._rows.keys()

    def record(self, epoch: int, index: int) -> BlockRecord:
        """Return the record of a committed block.

        Raises:
            KeyError: it is not committed.
        """
        if (epoch, index) in self.loose:
            return self.loose[epoch, index]
        return sealed.record_at(self._columns, self._rows[epoch, index])

    def records(self) -> Iterable[BlockRecord]:
        """All records in order of epoch and slot."""
        return (self.record(*cell) for cell in sorted(self.cells()))

    def columns(self) -> dict[str, NDArray[Any]]:
        """All records as columns [records], in order.

        epoch, index, start, stop, rank, run, written, agree, agree_either,
        ties, top1, entropy, topk_mass (NaN where there is none), confidence [records, 20], bytes.ARRAY,
        sha256.ARRAY; since format 2 also cache, teacher, witness.slots [records, 2] (-1: no second view),
        witness.sums [records, 2, 4], witness.labels [records, 2, 2], witness.lam [records, 2].
        """
        rows = np.array([row for cell, row in self._rows.items() if cell not in self.loose], np.int64)
        if len(rows):
            rows = rows[np.lexsort((self._columns["index"][rows], self._columns["epoch"][rows]))]
            sealed_part = {name: column[rows] for name, column in self._columns.items()}
            if not self.loose:
                return sealed_part
        loose_part = sealed.to_columns([self.loose[cell] for cell in sorted(self.loose)])
        if not len(rows):
            return loose_part
        merged = {name: np.concatenate([sealed_part[name], loose_part[name]]) for name in sealed_part}
        order = np.lexsort((merged["index"], merged["epoch"]))
        return {name: column[order] for name, column in merged.items()}

    def witnesses(self, epoch: int) -> Witnesses:
        """The witnessed views of an epoch; none in format 1."""
        return witnesses_of(self._all_columns, epoch)

    @cached_property
    def _all_columns(self) -> dict[str, NDArray[Any]]:
        return self.columns()


def read_ledger(location: str | Path | Location, teacher: str, *, tolerant: bool = False) -> Ledger:
    """Read all records of a teacher; manifest and identity first. See `ledger_of`.

    Raises:
        CacheMissing: no such cache or teacher. CacheCorrupt: also of an identity.
    """
    place = open_location(location)
    return ledger_of(place, read_manifest(place), read_teacher(place, teacher), tolerant=tolerant)


def ledger_of(
    place: Location,
    manifest: Manifest,
    teacher: TeacherIdentity,
    *,
    tolerant: bool = False,
    epochs: int | None = None,
) -> Ledger:
    """Read the records of a teacher.

    Args:
        place: the cache.
        manifest: its identity.
        teacher: whose records.
        tolerant: list what is bad in `damage` instead of raising.
        epochs: only these first epochs matter: no other block is listed, and no other damage counts.

    Raises:
        CacheCorrupt: a file is damaged and has no good copy, or blocks are another teacher's or cache's.
    """
    for _ in range(LISTINGS):  # somebody may seal between the listing and the reading; then list again
        try:
            if manifest.format_version >= 3:
                ledger = _read_once(place, manifest, teacher, epochs)
            else:
                from deit_pipe.store.earlier.ledger import read_earlier

                ledger = read_earlier(place, manifest, teacher)
            break
        except ObjectMissing:
            continue
    else:
        raise CacheCorrupt(f"the ledger of {teacher.name!r} at {place.path} keeps changing", cure="try again later")
    if not tolerant:
        refuse_foreign(place, teacher.name, ledger)
    lost = [damage for damage in ledger.damage if damage.lost and (epochs is None or damage.epochs[0] < epochs)]
    if lost and not tolerant:
        raise CacheCorrupt(
            f"cache corrupt: blocks of teacher {teacher.name!r} at {place.path}",
            details=[f"{damage.key} {damage.what}" for damage in lost[:3]]
            + ([f"and {len(lost) - 3} more"] if len(lost) > 3 else []),
            cure=f"repair with: deit-pipe cache-teacher --cache {shlex.quote(place.path)} --teacher NAME "
            "(only those blocks are made again)",
        )
    return ledger


def refuse_foreign(place: Location, teacher: str, ledger: Ledger) -> None:
    """Refuse records of another teacher or cache: reading them would serve the wrong answers, removing them lose some.

    Raises:
        CacheCorrupt: names the files.
    """
    foreign = [damage for damage in ledger.damage if damage.foreign]
    if foreign:
        more = [f"and {len(foreign) - 3} more"] if len(foreign) > 3 else []
        raise CacheCorrupt(
            f"cache corrupt: records of teacher {teacher!r} at {place.path} are not its own",
            details=[*(f"{damage.key} {damage.what}" for damage in foreign[:3]), *more],
            cure="files of two teachers or caches were exchanged or copied: put them back; or delete the files named "
            "here, and give cache-teacher again to make their blocks anew",
        )


def _read_once(place: Location, manifest: Manifest, teacher: TeacherIdentity, limit: int | None) -> Ledger:
    codec = BlockCodec(manifest, teacher)
    root = f"ledger/{teacher.name}"
    keys = place.sizes(root)
    wanted = wanted_epochs(keys, teacher.name)
    damage: list[Damage] = []
    names: list[str] = []
    parts: list[tuple[sealed.Columns, sealed.Counts]] = []
    for key in sorted(key for key in keys if key.startswith(f"{root}/sealed/")):
        name = key.rpartition("/")[2]
        epochs = sealed.epochs_named(name)
        if epochs is None:
            continue  # none of ours
        data = place.get(key)
        what = None if sealed.is_whole(name, data) else "fails its SHA-256"
        if what is None:
            part = sealed.read_table(data)
            other = sealed.stranger(part[0], codec.owner)
            what = None if other is None else f"belongs to another teacher or cache ({other})"
        if what is not None:
            damage.append(Damage(key, epochs, False, f"{what}; the blocks are read instead"))
            continue
        parts.append(part)
        names.append(name)
    columns, counts = sealed.joined(parts)
    known = sealed.cells_of(columns) if columns else set()
    wanted = max([wanted, *(epoch + 1 for epoch, _ in known)])
    done = np.bincount([epoch for epoch, _ in known], minlength=wanted)
    total = blocks_per_epoch(manifest.num_samples, teacher.block_slots)
    unsealed = [epoch for epoch in range(min(wanted, wanted if limit is None else limit)) if done[epoch] < total]
    sizes = list_blocks(place, codec, manifest, teacher, unsealed)
    sizes = {block: size for block, size in sizes.items() if (block.epoch, block.index) not in known}
    loose: dict[Cell, BlockRecord] = {}
    for block, found in zip(sizes, BlockObjects(place, codec).headers(sizes), strict=True):
        cell = (block.epoch, block.index)
        if isinstance(found, ObjectDamaged):
            damage.append(Damage(found.key, (block.epoch, block.epoch), True, found.what, found.foreign, cell, found.array))
        else:
            loose[cell] = found
    return Ledger(wanted or None, columns, loose, counts, damage, names, tuple(keys))


def wanted_epochs(keys: Iterable[str], teacher: str) -> int:
    """How many epochs are wanted of a teacher: its largest marker among the files of its ledger; 0 without one."""
    folder = f"ledger/{teacher}/epochs/"
    return max(declared_epochs(keys, folder), default=0)


def declared_epochs(keys: Iterable[str], folder: str) -> list[int]:
    """The numbers of epochs that were ever wanted, ascending."""
    names = (key.removeprefix(folder) for key in keys if key.startswith(folder))
    return sorted(int(name) for name in names if name.isdecimal() and len(name) <= 9)


def list_blocks(
    place: Location, codec: BlockCodec, manifest: Manifest, teacher: TeacherIdentity, epochs: list[int]
) -> dict[Block, int]:
    """The blocks of some epochs whose objects are there, with their bytes."""
    if not epochs:
        return {}
    root = codec.key(0, 0).partition("/c/")[0] + "/c"
    if len(epochs) > LISTED_ALONE:
        sizes = place.sizes(root)
    else:
        sizes = {key: size for epoch in epochs for key, size in place.sizes(f"{root}/{epoch}").items()}
    blocks = (block for epoch in epochs for block in blocks_of(epoch, manifest.num_samples, teacher.block_slots))
    keyed = ((block, codec.key(block.epoch, block.index)) for block in blocks)
    return {block: sizes[key] for block, key in keyed if key in sizes}


def want_epochs(place: Location, teacher: str, epochs: int) -> None:
    """Say how many epochs are wanted; a marker is made once, and the largest counts."""
    key = f"ledger/{teacher}/epochs/{epochs:04d}"
    if not place.exists(key):
        place.settle(key, b"%d\n" % epochs)


@dataclass(frozen=True)
class Coverage:
    """How much of a teacher is there. Arrays are indexed by epoch."""

    teacher: str
    epochs: int
    num_slots: int
    block_slots: int
    blocks_total: int
    """Blocks of one epoch."""
    blocks_committed: NDArray[np.int64]
    slots_committed: NDArray[np.int64]
    sealed: NDArray[np.bool_]
    class_counts: dict[int, NDArray[np.int64]]
    """Teacher labels per class, for sealed epochs."""
    columns: dict[str, NDArray[Any]]
    """See `Ledger.columns`."""
    damage: list[Damage]

    @property
    def complete(self) -> bool:
        """Whether every block of every wanted epoch is committed."""
        return bool((self.blocks_committed == self.blocks_total).all())


def coverage(location: str | Path | Location, teacher: str) -> Coverage:
    """Read identity and ledger of one teacher; no zarr, no target.

    Raises:
        CacheMissing: no such cache or teacher. CacheCorrupt: an identity is damaged (of the ledger: listed).
    """
    place = open_location(location)
    manifest, identity = read_manifest(place), read_teacher(place, teacher)
    return coverage_of(manifest, identity, ledger_of(place, manifest, identity, tolerant=True))


def coverage_of(manifest: Manifest, identity: TeacherIdentity, ledger: Ledger) -> Coverage:
    """How much of a teacher is there, of what has been read already."""
    columns = ledger.columns()
    last = int(columns["epoch"].max()) + 1 if len(columns["epoch"]) else 0
    epochs = max(ledger.epochs or 0, last)
    slots = np.zeros(epochs, np.int64)
    np.add.at(slots, columns["epoch"], columns["stop"] - columns["start"])
    return Coverage(
        teacher=identity.name,
        epochs=epochs,
        num_slots=manifest.num_samples,
        block_slots=identity.block_slots,
        blocks_total=blocks_per_epoch(manifest.num_samples, identity.block_slots),
        blocks_committed=np.bincount(columns["epoch"], minlength=epochs).astype(np.int64),
        slots_committed=slots,
        sealed=np.array([epoch in ledger.sealed_epochs for epoch in range(epochs)], dtype=np.bool_),
        class_counts=ledger.class_counts,
        columns=columns,
        damage=ledger.damage,
    )
