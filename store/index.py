"""Makes the index of complete epochs: their records, and the teacher labels per class, in few files.

Everybody may do it at any time. It says nothing that the blocks do not say, the same blocks give the same file, and one
that is lost is made again. So its old files may be deleted, which no block ever is.
"""

import contextlib
from collections.abc import Set

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store import sealed
from deit_pipe.store.blocks.block_object import BlockCodec, ObjectDamaged
from deit_pipe.store.blocks.objects import BlockObjects
from deit_pipe.store.blocks.records import Ledger
from deit_pipe.store.layout import blocks_of
from deit_pipe.store.ledger import ledger_of, list_blocks, want_epochs
from deit_pipe.store.manifest import Manifest, TeacherIdentity
from deit_pipe.store.places.location import Location, ObjectExists, ObjectMissing
from deit_pipe.store.record import BlockRecord

MERGE_FILES = 8


def seal_epochs(place: Location, manifest: Manifest, teacher: TeacherIdentity, stale: Set[int] = frozenset()) -> None:
    """Put the records of every complete epoch into the index; also of those that are there and `stale`."""
    ledger = ledger_of(place, manifest, teacher, tolerant=True)
    root = f"ledger/{teacher.name}"
    for damage in ledger.damage:
        if not damage.lost and damage.key.startswith(f"{root}/sealed/"):
            place.delete(damage.key)
    total = len(list(blocks_of(0, manifest.num_samples, teacher.block_slots)))
    done = np.bincount([epoch for epoch, _ in ledger.cells()], minlength=1)
    made = 0
    for epoch in np.flatnonzero(done == total).tolist():
        if epoch in ledger.sealed_epochs and epoch not in stale:
            continue
        made += _seal(place, manifest, teacher, ledger, epoch, fresh=epoch in stale)
    if made + len(ledger.sealed_keys) >= MERGE_FILES:
        _merge(place, manifest, teacher)


def rebuild_index(place: Location, manifest: Manifest, teacher: TeacherIdentity) -> int:
    """Make the whole index again from the blocks alone, whatever the one there says; returns the blocks found."""
    root = f"ledger/{teacher.name}"
    codec = BlockCodec(manifest, teacher)
    old = sorted(place.sizes(f"{root}/sealed"))
    prefix = codec.key(0, 0).partition("/c/")[0] + "/c/"
    found = (key.removeprefix(prefix).partition("/")[0] for key in place.sizes(prefix.removesuffix("/")))
    epochs = sorted({int(name) for name in found if name.isdecimal()})
    if epochs:
        want_epochs(place, teacher.name, epochs[-1] + 1)
    for key in old:
        place.delete(key)
    seal_epochs(place, manifest, teacher)
    return len(list_blocks(place, codec, manifest, teacher, epochs))


def _seal(
    place: Location, manifest: Manifest, teacher: TeacherIdentity, ledger: Ledger, epoch: int, *, fresh: bool
) -> bool:
    """One epoch; not where a block does not read back: the next job repairs it."""
    blocks = BlockObjects(place, BlockCodec(manifest, teacher))
    records: list[BlockRecord] = []
    counts = np.zeros(teacher.num_classes, np.int64)
    try:
        for block in blocks_of(epoch, manifest.num_samples, teacher.block_slots):
            record = blocks.header(block) if fresh else ledger.record(epoch, block.index)
            records.append(record)
            counts += _labels(blocks, record, teacher.num_classes)
    except ObjectDamaged:
        return False
    root = f"ledger/{teacher.name}"
    name = _write(place, root, sealed.to_columns(records), {epoch: counts})
    for old in ledger.sealed_keys:
        first, last = sealed.epochs_named(old) or (0, -1)
        if old != name and (first == last == epoch or (fresh and first <= epoch <= last)):
            _drop_epoch(place, root, old, epoch)
    return True


def _drop_epoch(place: Location, root: str, name: str, epoch: int) -> None:
    """Replace a file by one without an epoch, whatever the clocks said when its blocks were written."""
    try:
        columns, counts = sealed.read_table(place.get(f"{root}/sealed/{name}"))
    except ObjectMissing:  # another did
        return
    others = columns["epoch"] != epoch
    if others.any():
        counts.pop(epoch, None)
        _write(place, root, {n: column[others] for n, column in columns.items()}, counts)
    place.delete(f"{root}/sealed/{name}")


def _labels(blocks: BlockObjects, record: BlockRecord, classes: int) -> NDArray[np.int64]:
    labels = blocks.rows(record, "teacher_label").astype(np.int64)
    return np.bincount(np.clip(labels, 0, classes - 1), minlength=classes).astype(np.int64)


def _merge(place: Location, manifest: Manifest, teacher: TeacherIdentity) -> None:
    """All files into one; what others add meanwhile stays beside it."""
    ledger = ledger_of(place, manifest, teacher, tolerant=True)
    root = f"ledger/{teacher.name}"
    try:
        parts = [sealed.read_table(place.get(f"{root}/sealed/{name}")) for name in ledger.sealed_keys]
    except ObjectMissing:  # another merges
        return
    columns, counts = sealed.joined(parts)
    newest = sealed.newest_rows(columns)
    rows = [newest[cell] for cell in sorted(newest)]
    merged = _write(place, root, {n: c[rows] for n, c in columns.items()}, counts)
    for name in ledger.sealed_keys:
        if name != merged:
            place.delete(f"{root}/sealed/{name}")


def _write(place: Location, root: str, columns: sealed.Columns, counts: sealed.Counts) -> str:
    data = sealed.write_table(columns, counts)
    name = sealed.file_name(columns, data)
    with contextlib.suppress(ObjectExists):  # another made the same
        place.create(f"{root}/sealed/{name}", data)
    return name
