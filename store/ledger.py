"""Which blocks of a teacher exist: their records, with the SHA-256 of each array and the statistics of each block.

    ledger/NAME/epochs/0008               made once: so many epochs are wanted; the largest counts
    ledger/NAME/sealed/0003-0003-DIGEST.parquet  records of complete epochs: an index of what the blocks say themselves

zarr cannot tell an absent block from a block of fill values; the header of a block can (`block_object`). What no index
has is listed, and its headers are read. Formats 1 and 2 are read by `earlier`. Needs no zarr.
"""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store import sealed
from deit_pipe.store.blocks.block_object import BlockCodec, ObjectDamaged
from deit_pipe.store.blocks.objects import BlockObjects
from deit_pipe.store.blocks.records import Damage, Ledger
from deit_pipe.store.earlier.ledger import read_earlier
from deit_pipe.store.errors import CacheCorrupt
from deit_pipe.store.layout import Block, blocks_per_epoch
from deit_pipe.store.manifest import Manifest, TeacherIdentity, read_manifest, read_teacher
from deit_pipe.store.places.location import Location, ObjectMissing
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.record import BlockRecord
from deit_pipe.store.sealed import Cell

MOST_DIGITS = 5  # of a number of epochs; a stranger's could take all memory
LISTED_ALONE = 4  # so many open epochs are listed one by one; more of them by one listing of all blocks
LISTINGS = 20  # tries to read an index that others are replacing


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
        part: tuple[sealed.Columns, sealed.Counts] = {}, {}
        if what is None:
            try:
                part = sealed.read_table(data)
            except (ValueError, KeyError, TypeError, OSError):
                what = "cannot be read"
        if what is None:
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
            damage.append(
                Damage(found.key, (block.epoch, block.epoch), True, found.what, found.foreign, cell, found.array)
            )
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
    return sorted(int(name) for name in names if name.isdecimal() and len(name) <= MOST_DIGITS)


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
    found: dict[Block, int] = {}
    slots, total = teacher.block_slots, blocks_per_epoch(manifest.num_samples, teacher.block_slots)
    wanted = set(epochs)
    for key, size in sizes.items():
        parts = key.removeprefix(f"{root}/").split("/")
        if len(parts) < 2 or not (parts[0].isdecimal() and parts[1].isdecimal()):
            continue
        epoch, index = int(parts[0]), int(parts[1])
        if epoch in wanted and index < total and codec.key(epoch, index) == key:
            found[Block(epoch, index, index * slots, min((index + 1) * slots, manifest.num_samples))] = size
    return dict(sorted(found.items()))


def want_epochs(place: Location, teacher: str, epochs: int) -> None:
    """Say how many epochs are wanted; a marker is made once, and the largest counts."""
    if marked_epochs(place, teacher) < epochs:
        place.settle(f"ledger/{teacher}/epochs/{epochs:04d}", b"%d\n" % epochs)


def marked_epochs(place: Location, teacher: str) -> int:
    """How many epochs are wanted of a teacher, by its markers alone: one listing of a few names."""
    return wanted_epochs(place.sizes(f"ledger/{teacher}/epochs"), teacher)


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
