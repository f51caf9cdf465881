"""What rank 0 does before anybody writes, and sealing: every change of a cache except committing a block."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store import sealed
from deit_pipe.store.blocks import ObjectDamaged, fetch_rows
from deit_pipe.store.errors import mismatch
from deit_pipe.store.layout import array_specs, blocks_per_epoch, metadata_key, teacher_root
from deit_pipe.store.ledger import Cell, Ledger, read_ledger, refuse_foreign, write_epochs, write_run
from deit_pipe.store.lock import WriterLock
from deit_pipe.store.manifest import (
    Manifest,
    TeacherIdentity,
    read_manifest,
    read_teacher,
    teacher_key,
    write_teacher,
)
from deit_pipe.store.places.location import Location, ObjectMissing
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.record import owner_of, record_key
from deit_pipe.store.shards import ShardCodec, array_metadata, group_metadata, metadata_agrees
from deit_pipe.store.verify import Level, check_objects, check_sizes


def prepare(
    place: Location,
    manifest: Manifest,
    teacher: TeacherIdentity,
    epochs: int,
    level: Level,
    provenance: Mapping[str, str] | None,
    world: int,
) -> None:
    """Make a teacher ready to be written; needs the writer's lock. See `TargetWriter.open`."""
    write_teacher(place, teacher)
    place.sweep(f"ledger/{teacher.name}")
    place.sweep(teacher_root(teacher.name))
    ledger = read_ledger(place, teacher.name, owner=owner_of(manifest, teacher), tolerant=True)
    refuse_foreign(place, teacher.name, ledger)
    if ledger.damage:
        _mend_ledger(place, teacher, ledger)
        ledger = read_ledger(place, teacher.name, tolerant=True)
    if level == "sizes":
        damaged = check_sizes(place, teacher, ledger)
    else:
        damaged, _ = check_objects(place, teacher, list(ledger.records()), level)
    if damaged:
        drop_records(place, teacher, {(f.epoch or 0, (f.slots or (0, 0))[0] // teacher.block_slots) for f in damaged})
        ledger = read_ledger(place, teacher.name, tolerant=True)
    last = max((epoch for epoch, _ in ledger.cells()), default=-1) + 1
    wanted = max(epochs, last)
    _write_metadata(place, manifest, teacher, wanted)  # longer arrays first: an epoch that is wanted has a place
    if ledger.epochs != wanted:
        write_epochs(place, teacher.name, wanted)
    if provenance is not None:
        write_run(place, teacher.name, world, provenance)
    seal_epochs(place, manifest, teacher)


def check_teacher(place: Location, teacher: TeacherIdentity) -> None:
    """Compare a teacher with the one of this name in the cache.

    Raises:
        CacheMissing: there is none. CacheMismatch: it is another.
    """
    differences = read_teacher(place, teacher.name).differences(teacher)
    if differences:
        raise mismatch(f"teacher {teacher.name!r} differs from what rank 0 opened", place.path, differences)


def drop_records(place: Location, teacher: TeacherIdentity, cells: set[Cell]) -> None:
    """Make blocks missing again. Their objects stay until the blocks are written anew."""
    ledger = read_ledger(place, teacher.name, tolerant=True)
    for cell in cells & ledger.loose.keys():
        place.delete(record_key(teacher.name, *cell))
    keys = place.sizes(root := f"ledger/{teacher.name}")
    for name in ledger.sealed_keys:
        here = {key: size for key, size in keys.items() if key.endswith(name)}
        columns, counts, _, _ = sealed.read_sealed(place, root, here)
        rows = list(zip(columns["epoch"].tolist(), columns["index"].tolist(), strict=True))
        keep = np.array([cell not in cells for cell in rows], dtype=np.bool_)
        if keep.all():
            continue
        if keep.any():
            left = {epoch for (epoch, _), kept in zip(rows, keep, strict=True) if kept}
            touched = {epoch for epoch, _ in cells}
            kept_counts = {epoch: counts[epoch] for epoch in counts if epoch in left - touched}
            sealed.write_sealed(place, root, {n: c[keep] for n, c in columns.items()}, kept_counts)
        sealed.delete_sealed(place, root, [name])


def seal_epochs(place: Location, manifest: Manifest, teacher: TeacherIdentity) -> None:
    """Compact the records of every complete epoch into Parquet, with the class counts of its labels.

    Safe at any time, by one process: the same records give the same file, and records go after the file is there.
    """
    ledger = read_ledger(place, teacher.name, tolerant=True)
    root = f"ledger/{teacher.name}"
    total = blocks_per_epoch(manifest.num_samples, teacher.block_slots)
    done = np.bincount([epoch for epoch, _ in ledger.cells()], minlength=1)
    for epoch in np.flatnonzero(done == total).tolist():
        if epoch in ledger.sealed_epochs:
            continue
        counts = _class_counts(place, teacher, ledger, epoch, total)
        if counts is None:
            continue
        records = [ledger.record(epoch, index) for index in range(total)]
        name = sealed.write_sealed(place, root, sealed.to_columns(records), {epoch: counts})
        same = f"{epoch:04d}-{epoch:04d}-"  # what a repair left of this epoch
        older = [old for old in ledger.sealed_keys if old.startswith(same) and old != name]
        sealed.delete_sealed(place, root, older)
        for record in records:
            if (epoch, record.index) in ledger.loose:
                place.delete(record_key(teacher.name, epoch, record.index))
    if len(ledger.sealed_keys) >= sealed.MERGE_FILES:
        _merge(place, root)


def _merge(place: Location, root: str) -> None:
    columns, counts, names, damage = sealed.read_sealed(place, root, place.sizes(root))
    if damage or len(names) < 2:
        return
    newest: dict[Cell, int] = {}
    for row in np.argsort(columns["written"], kind="stable").tolist():
        newest[int(columns["epoch"][row]), int(columns["index"][row])] = row
    rows = [newest[cell] for cell in sorted(newest)]
    merged = sealed.write_sealed(place, root, {n: c[rows] for n, c in columns.items()}, counts)
    sealed.delete_sealed(place, root, [name for name in names if name != merged])


def _class_counts(
    place: Location, teacher: TeacherIdentity, ledger: Ledger, epoch: int, total: int
) -> NDArray[np.int64] | None:
    """Count an epoch's teacher labels; None if a block does not read back (the next opening repairs it)."""
    spec = array_specs(teacher.format)[0]
    codec = ShardCodec(spec, teacher.block_slots)
    counts = np.zeros(teacher.num_classes, np.int64)
    for index in range(total):
        record = ledger.record(epoch, index)
        try:
            labels = fetch_rows(place, teacher.name, codec, record)
        except ObjectDamaged:
            return None
        counts += np.bincount(labels, minlength=teacher.num_classes)
    return counts


def _mend_ledger(place: Location, teacher: TeacherIdentity, ledger: Ledger) -> None:
    """Restore sealed files from their copies; forget records that nothing vouches for."""
    root = f"ledger/{teacher.name}"
    names = {damage.key.rpartition("/")[2] for damage in ledger.damage if not damage.lost}
    sealed.restore_sealed(place, root, sorted(names))
    for damage in ledger.damage:
        if damage.lost and not damage.key.endswith("epochs.json"):
            place.delete(damage.key)


def _write_metadata(place: Location, manifest: Manifest, teacher: TeacherIdentity, epochs: int) -> None:
    group = f"{teacher_root(teacher.name)}/zarr.json"
    if not place.exists(group):
        place.put(group, group_metadata())
    for spec in array_specs(teacher.format):
        key = metadata_key(teacher.name, spec.name)
        expected = array_metadata(spec, epochs, manifest.num_samples, teacher.block_slots)
        try:
            if metadata_agrees(place.get(key), expected):
                continue
        except ObjectMissing:
            pass
        place.put(key, expected)


def remove_teacher(location: str | Path | Location, name: str) -> int:
    """Remove a teacher and return the bytes freed.

    The ledger goes first and the identity last: what an interrupted removal leaves is never trusted, and
    keeps the name taken until the removal is done again.

    Raises:
        CacheMissing: no such cache or teacher. CacheBusy: it is being written.
    """
    place = open_location(location)
    read_manifest(place)
    trees = (f"ledger/{name}", teacher_root(name))
    sizes = {key: size for tree in trees for key, size in place.sizes(tree).items()}
    if not place.exists(teacher_key(name)):
        read_teacher(place, name)  # raises, and lists those that are there
    lock = WriterLock(place, name, 0)
    try:
        freed = sum(sizes.values()) + (place.size(teacher_key(name)) or 0)
        for tree in trees:
            place.delete_tree(tree)
        place.delete(teacher_key(name))
    finally:
        lock.release()
    return freed
