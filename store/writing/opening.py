"""What a job does before it writes: add the teacher, say what is wanted, look at what is there."""

from dataclasses import dataclass, field

from deit_pipe.store.blocks.checks import Check, chosen, resume_check
from deit_pipe.store.errors import CacheOld
from deit_pipe.store.layout import Block, blocks_of, first_array, metadata_key, teacher_root
from deit_pipe.store.ledger import ledger_of, marked_epochs, refuse_foreign, want_epochs
from deit_pipe.store.manifest import (
    Manifest,
    TeacherIdentity,
    copy_identities,
    list_teachers,
    refuse_removed,
    upgrade_line,
    write_teacher,
)
from deit_pipe.store.places.location import Location, ObjectExists
from deit_pipe.store.places.probe import probe
from deit_pipe.store.shards import array_metadata, group_metadata, metadata_agrees
from deit_pipe.store.verify import check_objects, check_sizes

TRIES = 9  # at a file that others write too


@dataclass(frozen=True)
class Opened:
    """A teacher as it was found.

    Attributes:
        epochs: wanted. blocks: all of them. missing: not there, or damaged.
        damaged: those of `missing` whose objects are there.
        stale: epochs whose index says something else than their blocks.
        bytes: of the blocks that are there.
        checked: what of them was compared, in words.
    """

    epochs: int
    blocks: list[Block]
    missing: list[Block]
    bytes: int
    damaged: set[Block] = field(default_factory=set)
    stale: set[int] = field(default_factory=set)
    checked: str = ""


def open_teacher(
    place: Location,
    manifest: Manifest,
    teacher: TeacherIdentity,
    epochs: int,
    check: Check | None,
    share: tuple[int, int],
) -> Opened:
    """Make a teacher ready to be written. See `TargetWriter.open`; `share` is rank and world."""
    if manifest.format_version < 3:
        return _open_earlier(place, manifest, teacher, epochs)
    refuse_removed(place, teacher.name)
    probe(place)
    copy_identities(place)
    write_teacher(place, teacher)
    for folder in (f"ledger/{teacher.name}", f"hints/{teacher.name}", teacher_root(teacher.name)):
        place.sweep(folder)
    want_epochs(place, teacher.name, epochs)  # before looking: what is not wanted is not looked for
    ledger = ledger_of(place, manifest, teacher, tolerant=True)
    refuse_foreign(place, teacher.name, ledger)
    wanted = max(epochs, ledger.epochs or 0)
    want_epochs(place, teacher.name, wanted)
    write_metadata(place, manifest, teacher)
    blocks = all_blocks(manifest, teacher, wanted)
    bad = {damage.cell for damage in ledger.damage if damage.cell is not None}
    stale = set()
    committed = ledger.cells()
    check = check or resume_check(ledger.stored_bytes, len(committed))
    hashed = [] if check.level == "sizes" else chosen(committed, check)
    records = [ledger.record(*cell) for cell in hashed[share[0] :: share[1]]]
    found, _ = check_objects(place, manifest, teacher, records, check.level)
    if len(hashed) < len(committed):
        found += check_sizes(place, manifest, teacher, ledger)
    for finding in found:
        assert finding.epoch is not None
        assert finding.slots is not None
        if finding.where == "ledger":
            stale.add(finding.epoch)
        else:
            bad.add((finding.epoch, finding.slots[0] // teacher.block_slots))
    there = committed - bad
    missing = [block for block in blocks if (block.epoch, block.index) not in there]
    return Opened(
        epochs=wanted,
        blocks=blocks,
        missing=missing,
        bytes=ledger.stored_bytes,
        damaged={block for block in missing if (block.epoch, block.index) in bad},
        stale=stale,
        checked=check.words(len(hashed), len(committed)) if committed else "",
    )


def all_blocks(manifest: Manifest, teacher: TeacherIdentity, epochs: int) -> list[Block]:
    """Every block of so many epochs, in order."""
    return [block for e in range(epochs) for block in blocks_of(e, manifest.num_samples, teacher.block_slots)]


def write_metadata(place: Location, manifest: Manifest, teacher: TeacherIdentity) -> None:
    """Describe the array to readers of zarr; several jobs agree, because its length is that of the largest marker."""
    place.settle(f"{teacher_root(teacher.name)}/zarr.json", group_metadata())
    spec = first_array(teacher.format)
    key = metadata_key(teacher.name, spec.name)
    for _ in range(TRIES):
        seen = place.see(key)  # first, and then the markers: what was written for a larger one is not replaced
        epochs = marked_epochs(place, teacher.name)
        expected = array_metadata(spec, epochs, manifest.num_samples, teacher.block_slots)
        if seen is not None and metadata_agrees(seen.data, expected):
            return
        try:
            if seen is None:
                place.create(key, expected)
            elif not place.swap(key, seen, expected):
                continue
        except ObjectExists:
            continue
        return


def _open_earlier(place: Location, manifest: Manifest, teacher: TeacherIdentity, epochs: int) -> Opened:
    """A cache of format 1 or 2 has nothing to be written, or is refused.

    Raises:
        CacheOld: something is missing or damaged, or another teacher would join.
    """
    version = manifest.format_version
    if teacher.name not in list_teachers(place):
        raise old_cache(place, version, f"teacher {teacher.name!r} cannot join it")
    write_teacher(place, teacher)  # compares
    ledger = ledger_of(place, manifest, teacher)
    wanted = max(epochs, ledger.epochs or 0)
    blocks = all_blocks(manifest, teacher, wanted)
    cells = ledger.cells()
    missing = [block for block in blocks if (block.epoch, block.index) not in cells]
    if missing:
        raise old_cache(place, version, f"{len(missing)} of {len(blocks)} blocks of {teacher.name!r} are missing")
    damaged, _ = check_objects(place, manifest, teacher, list(ledger.records()), "hash")
    if damaged:
        raise old_cache(place, version, f"{damaged[0]}")
    return Opened(epochs=wanted, blocks=blocks, missing=[], bytes=ledger.stored_bytes)


def old_cache(place: Location, version: int, what: str) -> CacheOld:
    """The one message of a cache that is read and not written any more."""
    return CacheOld(
        f"{place.path} is a cache of format {version}, which is not written any more: {what}",
        details=["it stays readable: training, inspecting and replaying go on as before"],
        cure=f"copy it into a new cache, without its teacher: {upgrade_line(place.path)}",
    )
