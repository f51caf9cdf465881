"""Find damage and name it: teacher, array, epoch, slots, what.

sizes   every committed block is there and has its size (one listing, reads no target)
hash    and every byte of it has its recorded SHA-256; manifest, identities, samples (each with its copy), index and
        zarr metadata are intact
deep    and it decodes to possible targets: finite, classes in range, the label attains the maximum, mass at
        most 1
5%      hash, of a seeded share of the blocks, and the sizes of all (`blocks.checks`)
"""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.blocks.checks import Check, Level, chosen, read_check
from deit_pipe.store.blocks.choice import blocks_in
from deit_pipe.store.blocks.records import Damage, Ledger
from deit_pipe.store.errors import CacheCorrupt
from deit_pipe.store.formats import LEVELS, TargetFormat
from deit_pipe.store.gates import gate_key
from deit_pipe.store.layout import array_specs, first_array, metadata_key, object_key
from deit_pipe.store.ledger import declared_epochs
from deit_pipe.store.manifest import Manifest, TeacherIdentity, bad_identities
from deit_pipe.store.places.location import Location, ObjectMissing
from deit_pipe.store.record import BlockRecord
from deit_pipe.store.samples import SAMPLES
from deit_pipe.store.sealed import Cell
from deit_pipe.store.stored_cache import Source, StoredTeacher, stored_cache

MASS_MAX = 1.01  # float16 log-probabilities are off by up to 2^-11 of themselves


class Finding(NamedTuple):
    """One damaged thing. `slots` is (start, stop), None where it is not about cells."""

    teacher: str | None
    where: str
    """Array name, or `header` of a block, `ledger`, `gate`, `metadata`, `identity`, `samples.parquet`."""
    epoch: int | None
    slots: tuple[int, int] | None
    what: str
    key: str

    def __str__(self) -> str:
        cells = "" if self.epoch is None else f", epoch {self.epoch}"
        cells += "" if self.slots is None else f", slots {self.slots[0]}..{self.slots[1] - 1}"
        return f"{self.teacher or 'cache'}: {self.where}{cells}: {self.what} ({self.key})"


@dataclass
class Findings:
    """What `verify` found, and how much it looked at."""

    check: Check
    damaged: list[Finding] = field(default_factory=list)
    blocks: int = 0
    """Committed ones, of the teachers that were looked at."""
    hashed: int = 0
    """Of these, the ones whose bytes were compared with their SHA-256."""
    bytes_checked: int = 0

    @property
    def words(self) -> str:
        """What was looked at: `sizes`, `hash`, `deep`, or which share."""
        return self.check.words(self.hashed, self.blocks)

    @property
    def ok(self) -> bool:
        """No damage."""
        return not self.damaged

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.damaged)

    def __len__(self) -> int:
        return len(self.damaged)


def verify(cache: Source, level: str = "hash", teacher: str | None = None) -> Findings:
    """Check a cache, or one teacher of it; small files that `cache` has read already are not read again.

    `level` is `sizes`, `hash`, `deep`, or a share such as `5%` or `5%@SEED`: that part of each teacher's blocks.

    Raises:
        CacheMissing: no cache or no such teacher. CacheCorrupt: the manifest or an identity cannot be
        trusted. FormatInvalid: no such level.
    """
    check = read_check(level)
    stored = stored_cache(cache)
    _ = stored.manifest
    findings = Findings(check)
    if check.level != "sizes":
        try:
            _ = stored.samples
        except CacheCorrupt as error:
            what = str(error).partition("\n")[0]
            findings.damaged.append(Finding(None, SAMPLES, None, None, what, SAMPLES))
    if stored.manifest.format_version >= 3 and check.level != "sizes":
        for key, what in bad_identities(stored.place, stored.manifest_file, stored.teacher_names):
            where = SAMPLES if key.endswith(SAMPLES) else "identity"
            findings.damaged.append(Finding(None, where, None, None, what, key))
    for name in [teacher] if teacher is not None else stored.teacher_names:
        _verify_teacher(stored.teacher(name), findings)
    return findings


def _verify_teacher(stored: StoredTeacher, findings: Findings) -> None:
    place, teacher, ledger = stored.cache.place, stored.identity, stored.ledger
    for damage in ledger.damage:
        findings.damaged.append(_ledger_finding(teacher, damage, stored.cache.manifest.num_samples))
    if (what := stored.gate.damage) is not None:
        findings.damaged.append(Finding(teacher.name, "gate", None, None, what, gate_key(teacher.name)))
    findings.damaged += _check_metadata(place, stored.cache.manifest, teacher, ledger)
    check, cells = findings.check, ledger.cells()
    findings.blocks += len(cells)
    hashed: list[Cell] = [] if check.level == "sizes" else chosen(cells, check)
    findings.hashed += len(hashed)
    if len(hashed) < len(cells):
        twice = {(epoch, index * teacher.block_slots) for epoch, index in hashed}
        for one in check_sizes(place, stored.cache.manifest, teacher, ledger):
            if one.slots is None or (one.epoch, one.slots[0]) not in twice:
                findings.damaged.append(one)
    records = [ledger.record(*cell) for cell in hashed]
    damaged, size = check_objects(place, stored.cache.manifest, teacher, records, check.level)
    findings.damaged += damaged
    findings.bytes_checked += size


def check_sizes(place: Location, manifest: Manifest, teacher: TeacherIdentity, ledger: Ledger) -> list[Finding]:
    """Compare one listing with the ledger's columns: quick enough for every opening on a disk, reads no target."""
    columns = ledger.columns()
    found = []
    for problem in blocks_in(place, manifest, teacher).size_problems(columns):
        slots = (int(columns["start"][problem.row]), int(columns["stop"][problem.row]))
        epoch = int(columns["epoch"][problem.row])
        found.append(Finding(teacher.name, problem.array, epoch, slots, problem.what, problem.key))
    return found


def check_objects(
    place: Location, manifest: Manifest, teacher: TeacherIdentity, records: list[BlockRecord], level: Level
) -> tuple[list[Finding], int]:
    """Read committed blocks, at level hash or deep; returns the damage and the bytes read."""
    blocks = blocks_in(place, manifest, teacher)

    def check(record: BlockRecord) -> list[Finding]:
        damaged, arrays = blocks.damage(record, decode=level == "deep")
        found = [_finding(teacher, record, one.array, one.what, one.key) for one in damaged]
        if arrays:
            key = object_key(teacher.name, first_array(teacher.format), record.epoch, record.index)
            found += [_finding(teacher, record, array, what, key) for array, what in impossible(arrays, teacher.format)]
        return found

    workers = min(8, os.cpu_count() or 1) if place.local else 16
    with ThreadPoolExecutor(workers) as pool:
        damaged = [finding for found in pool.map(check, records) for finding in found]
    return damaged, sum(record.stored_bytes for record in records)


def _ledger_finding(teacher: TeacherIdentity, damage: Damage, num_samples: int) -> Finding:
    """A bad file of a ledger; or a block whose header is bad, with its cells."""
    if damage.cell is None:
        return Finding(teacher.name, "ledger", damage.epochs[0], None, damage.what, damage.key)
    start = damage.cell[1] * teacher.block_slots
    slots = (start, min(start + teacher.block_slots, num_samples))
    return Finding(teacher.name, damage.array, damage.epochs[0], slots, damage.what, damage.key)


def _finding(teacher: TeacherIdentity, record: BlockRecord, array: str, what: str, key: str) -> Finding:
    return Finding(teacher.name, array, record.epoch, (record.start, record.stop), what, key)


def impossible(arrays: Mapping[str, NDArray[Any]], fmt: TargetFormat) -> Iterator[tuple[str, str]]:
    """Name the arrays of a decoded block that no teacher can have given."""
    label = arrays["teacher_label"].astype(np.int64)
    if ((label < 0) | (label >= fmt.num_classes)).any():
        yield "teacher_label", "has a class outside the range"
        return
    if fmt.kind == "dense":
        logits = arrays["logits"]
        if not np.isfinite(logits).all():
            yield "logits", "has a value that is not finite"
        # rounding keeps order, so the label of the float32 logits still attains the maximum
        elif (np.take_along_axis(logits, label[:, None], axis=1)[:, 0] < logits.max(axis=1)).any():
            yield "logits", "has a row whose label does not attain the maximum"
    elif fmt.kind == "dense8":
        step = arrays["logit_step"]
        if not (np.isfinite(step) & (step >= 0)).all():
            yield "logit_step", "has a step that is not finite or below 0"
        if (np.take_along_axis(arrays["logit_level"], label[:, None], axis=1) < LEVELS).any():
            yield "logit_level", "has a row whose label does not attain the maximum"
    elif fmt.kind == "topk":
        yield from _impossible_topk(arrays, fmt, label)


def _impossible_topk(
    arrays: Mapping[str, NDArray[Any]], fmt: TargetFormat, label: NDArray[np.int64]
) -> Iterator[tuple[str, str]]:
    classes = arrays["topk_class"].astype(np.int64)
    logp = arrays["topk_logp"].astype(np.float64)
    ordered = np.sort(classes, axis=1)
    if ((classes < 0) | (classes >= fmt.num_classes)).any():
        yield "topk_class", "has a class outside the range"
    elif (np.diff(ordered, axis=1) == 0).any():
        yield "topk_class", "has a class twice in one row"
    elif (classes[:, 0] != label).any():
        yield "topk_class", "has a row that does not start with the label"
    if not np.isfinite(logp).all():
        yield "topk_logp", "has a value that is not finite"
        return
    if (np.diff(logp, axis=1) > 0).any():
        yield "topk_logp", "has a row that is not descending"
    if (np.exp(logp).sum(axis=1) > MASS_MAX).any():
        yield "topk_logp", "has a row of probabilities that sum to more than 1"
    for column, tau in enumerate(fmt.other_taus):
        lse = arrays["lse_tau"][:, column].astype(np.float64)
        if not np.isfinite(lse).all() or (np.exp(logp / tau - lse[:, None]).sum(axis=1) > MASS_MAX).any():
            yield "lse_tau", f"does not fit the log-probabilities at tau {tau:g}"


def _check_metadata(place: Location, manifest: Manifest, teacher: TeacherIdentity, ledger: Ledger) -> Iterator[Finding]:
    from deit_pipe.store.shards import array_metadata, metadata_agrees

    earlier = manifest.format_version < 3
    last = max((epoch + 1 for epoch, _ in ledger.cells()), default=1)
    lengths = {ledger.epochs or 1}
    if not earlier:  # a job that died while it made the array longer leaves a shorter one, which the next makes longer
        folder = f"ledger/{teacher.name}/epochs/"
        lengths |= {number for number in declared_epochs(ledger.keys, folder) if number >= last}
    for spec in array_specs(teacher.format) if earlier else [first_array(teacher.format)]:
        key = metadata_key(teacher.name, spec.name)
        try:
            stored = place.get(key)
        except ObjectMissing:
            yield Finding(teacher.name, "metadata", None, None, "is missing", key)
            continue
        size = (manifest.num_samples, teacher.block_slots)
        agrees = any(metadata_agrees(stored, array_metadata(spec, length, *size)) for length in lengths)
        if ledger.epochs is not None and not agrees:
            yield Finding(teacher.name, "metadata", None, None, "does not describe the array", key)
