"""Which blocks exist: a record per committed block, with the SHA-256 of each object and its statistics.

    ledger/NAME/epochs.json               how many epochs are wanted; the arrays are this long or longer
    ledger/NAME/blocks/0003-000042.json   a committed block; creating this file is the commit
    ledger/NAME/sealed/0003-0003-DIGEST.parquet  records of complete epochs; DIGEST is the file's own SHA-256
    ledger/NAME/sealed-copy/...           the same again: losing one file must not cost epochs of teacher time
    ledger/NAME/runs/TIME.json            one per writing run: world size, library versions
    ledger/NAME/gate.json                 how the teacher did on plain images before it was cached (`gates`)

zarr cannot tell an absent block from a block of fill values, so nothing but this decides. Needs no zarr.
"""

import shlex
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store import sealed
from deit_pipe.store.errors import CacheCorrupt
from deit_pipe.store.layout import blocks_per_epoch
from deit_pipe.store.manifest import Manifest, TeacherIdentity, plain_texts, read_manifest, read_teacher
from deit_pipe.store.places.location import Location, ObjectMissing
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.proof.witness import Witnesses, witnesses_of
from deit_pipe.store.record import BlockRecord, Owner, owner_of, read_signed, record_stem, signed_json
from deit_pipe.store.strict.json_values import OBJECT, check_values, real, whole

Cell = sealed.Cell
EPOCHS = whole(0, 1_000_000)
RUN_RULES = {"time": real(0, 1e12), "world": whole(1, 1 << 20), "provenance": OBJECT}


class Damage(NamedTuple):
    """A bad ledger file.

    `epochs` is the range it covered; `lost` is False if its copy is good; `foreign`: it is whole, but of another
    teacher or cache, so it is refused and never removed: put back, it may be worth days of a teacher.
    """

    key: str
    epochs: tuple[int, int]
    lost: bool
    what: str
    foreign: bool = False


class Ledger:
    """The records of one teacher, sealed ones as columns, unsealed ones as records."""

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
        """Every file of the teacher's ledger when it was listed, also those of other modules."""
        self._columns = columns
        self._rows: dict[Cell, int] = {}
        if columns:
            # of two records of a block, the later one counts
            order = np.argsort(columns["written"], kind="stable")
            cells = zip(columns["epoch"][order].tolist(), columns["index"][order].tolist(), strict=True)
            self._rows = dict(zip(cells, order.tolist(), strict=True))

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


def read_ledger(
    location: str | Path | Location, teacher: str, *, owner: Owner | None = None, tolerant: bool = False
) -> Ledger:
    """Read all records of a teacher.

    Args:
        location: the cache.
        teacher: its name.
        owner: whose records they must be; None takes any.
        tolerant: list bad files in `damage` instead of raising.

    Raises:
        CacheCorrupt: a file is damaged and has no good copy, or its records are another teacher's or cache's.
    """
    place = open_location(location)
    for _ in range(20):  # a writer may seal between the listing and the reading; then list again
        try:
            ledger = _read_once(place, teacher, owner)
            break
        except ObjectMissing:
            continue
    else:
        raise CacheCorrupt(f"the ledger of {teacher!r} at {place.path} keeps changing", cure="try again later")
    if not tolerant:
        refuse_foreign(place, teacher, ledger)
    lost = [damage for damage in ledger.damage if damage.lost]
    if lost and not tolerant:
        raise CacheCorrupt(
            f"cache corrupt: ledger of teacher {teacher!r} at {place.path}",
            details=[f"{damage.key} {damage.what}" for damage in lost],
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


def _read_once(place: Location, teacher: str, owner: Owner | None) -> Ledger:
    root = f"ledger/{teacher}"
    keys = place.sizes(root)
    damage: list[Damage] = []
    epochs = None
    if (key := f"{root}/epochs.json") in keys:
        document = read_signed(place.get(key))
        epochs = None if document is None or not EPOCHS.holds(document.get("epochs")) else document["epochs"]
    recorded = [key for key in keys if key.startswith((f"{root}/blocks/", f"{root}/sealed"))]
    if epochs is None and (recorded or key in keys):  # nothing at all is a teacher that has just been added
        damage.append(Damage(key, (0, 0), True, "is missing" if key not in keys else "fails its SHA-256"))
    loose: dict[Cell, BlockRecord] = {}
    names = sorted(key for key in keys if key.startswith(f"{root}/blocks/"))
    for key, data in zip(names, _get_all(place, names), strict=True):
        document = read_signed(data)
        stem = key.rpartition("/")[2].removesuffix(".json")
        if document is None or stem != record_stem(document["epoch"], document["index"]):
            epoch = int(stem[:4]) if stem[:4].isdecimal() else 0
            damage.append(Damage(key, (epoch, epoch), True, "fails its SHA-256"))
            continue
        record = BlockRecord.from_json(document)
        if owner is not None and record.owner != owner:
            what = f"belongs to another teacher or cache ({record.owner})"
            damage.append(Damage(key, (record.epoch, record.epoch), True, what, True))
            continue
        loose[record.epoch, record.index] = record
    columns, counts, sealed_keys, sealed_damage = sealed.read_sealed(place, root, keys, loose.keys(), owner)
    damage += [Damage(*entry) for entry in sealed_damage]
    return Ledger(epochs, columns, loose, counts, damage, sealed_keys, tuple(keys))


def _get_all(place: Location, keys: list[str]) -> list[bytes]:
    if place.local or len(keys) < 2:
        return [place.get(key) for key in keys]
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(place.get, keys))


def write_epochs(place: Location, teacher: str, epochs: int) -> None:
    """Say how many epochs are wanted."""
    place.put(f"ledger/{teacher}/epochs.json", signed_json({"epochs": epochs}))


def read_runs(
    location: str | Path | Location, teacher: str, listed: Iterable[str] | None = None
) -> list[dict[str, Any]]:
    """Records `{"time": ..., "world": ..., "provenance": {...}}`, oldest first; damaged ones are left out.

    `listed` are the files of the teacher's ledger (`Ledger.keys`) where somebody has listed them already.
    """
    place = open_location(location)
    folder = f"ledger/{teacher}/runs"
    keys = place.sizes(folder) if listed is None else [key for key in listed if key.startswith(f"{folder}/")]
    documents = [read_signed(place.get(key)) for key in sorted(keys)]
    return [document for document in documents if document is not None and _is_run(document)]


def _is_run(document: dict[str, Any]) -> bool:
    try:
        check_values(document, RUN_RULES)
    except ValueError:
        return False
    document["provenance"] = plain_texts(document["provenance"])
    return document.keys() >= RUN_RULES.keys()


def write_run(place: Location, teacher: str, world: int, provenance: Mapping[str, str]) -> None:
    """Add the record of a run that starts now."""
    run = {"time": time.time(), "world": world, "provenance": dict(provenance)}
    place.put(f"ledger/{teacher}/runs/{time.time_ns()}.json", signed_json(run))


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
    owner = owner_of(manifest, identity)
    return coverage_of(manifest, identity, read_ledger(place, teacher, owner=owner, tolerant=True))


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
