"""Find damage and name it: teacher, array, epoch, slots, what.

sizes   every object of every committed block is there and has its size (one listing, reads no target)
hash    and its bytes have the recorded SHA-256; manifest, sample table, ledger and zarr metadata are intact
deep    and it decodes to possible targets: finite, classes in range, the label attains the maximum, mass at
most 1
"""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.blocks import ObjectDamaged, decode_rows, fetch_bytes
from deit_pipe.store.errors import CacheCorrupt, FormatInvalid
from deit_pipe.store.formats import LEVELS, TargetFormat
from deit_pipe.store.gates import gate_key
from deit_pipe.store.layout import array_specs, metadata_key, object_key, teacher_root
from deit_pipe.store.ledger import Ledger
from deit_pipe.store.manifest import Manifest, TeacherIdentity
from deit_pipe.store.places.location import Location, ObjectMissing
from deit_pipe.store.record import BlockRecord
from deit_pipe.store.samples import SAMPLES
from deit_pipe.store.stored_cache import Source, StoredTeacher, stored_cache

Level = Literal["sizes", "hash", "deep"]

MASS_MAX = 1.01  # float16 log-probabilities are off by up to 2^-11 of themselves


class Finding(NamedTuple):
    """One damaged thing. `slots` is (start, stop), None where it is not about cells."""

    teacher: str | None
    where: str
    """Array name, or `ledger`, `gate`, `metadata`, `samples.parquet`."""
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

    level: Level
    damaged: list[Finding] = field(default_factory=list)
    bytes_checked: int = 0

    @property
    def ok(self) -> bool:
        """No damage."""
        return not self.damaged

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.damaged)

    def __len__(self) -> int:
        return len(self.damaged)


def verify(cache: Source, level: Level = "hash", teacher: str | None = None) -> Findings:
    """Check a cache, or one teacher of it; small files that `cache` has read already are not read again.

    Raises:
        CacheMissing: no cache or no such teacher. CacheCorrupt: the manifest or an identity cannot be
        trusted.
    """
    if level not in ("sizes", "hash", "deep"):
        raise FormatInvalid(f"unknown level {level!r}", cure="give --verify sizes, hash or deep")
    stored = stored_cache(cache)
    _ = stored.manifest
    findings = Findings(level)
    if level != "sizes":
        try:
            _ = stored.samples
        except CacheCorrupt as error:
            what = str(error).partition("\n")[0]
            findings.damaged.append(Finding(None, SAMPLES, None, None, what, SAMPLES))
    for name in [teacher] if teacher is not None else stored.teacher_names:
        _verify_teacher(stored.teacher(name), findings)
    return findings


def _verify_teacher(stored: StoredTeacher, findings: Findings) -> None:
    place, teacher, ledger = stored.cache.place, stored.identity, stored.ledger
    for damage in ledger.damage:
        copy = "" if damage.lost else "; its copy is good"
        findings.damaged.append(Finding(teacher.name, "ledger", damage.epochs[0], None, damage.what + copy, damage.key))
    if (what := stored.gate.damage) is not None:
        findings.damaged.append(Finding(teacher.name, "gate", None, None, what, gate_key(teacher.name)))
    findings.damaged += _check_metadata(place, stored.cache.manifest, teacher, ledger)
    if findings.level == "sizes":
        findings.damaged += check_sizes(place, teacher, ledger)
        return
    damaged, size = check_objects(place, teacher, list(ledger.records()), findings.level)
    findings.damaged += damaged
    findings.bytes_checked += size


def check_sizes(place: Location, teacher: TeacherIdentity, ledger: Ledger) -> list[Finding]:
    """Compare one listing with the ledger's columns: quick enough for every opening, reads no target."""
    sizes = place.sizes(teacher_root(teacher.name))
    columns = ledger.columns()
    epochs, indices = columns["epoch"].tolist(), columns["index"].tolist()
    found = []
    for spec in array_specs(teacher.format):
        recorded = columns.get(f"bytes.{spec.name}", np.full(len(epochs), -1)).tolist()
        for row, (epoch, index, size) in enumerate(zip(epochs, indices, recorded, strict=True)):
            key = object_key(teacher.name, spec, epoch, index)
            if sizes.get(key) != size:
                slots = (int(columns["start"][row]), int(columns["stop"][row]))
                found.append(Finding(teacher.name, spec.name, epoch, slots, _size_problem(sizes, key, size), key))
    return found


def check_objects(
    place: Location, teacher: TeacherIdentity, records: list[BlockRecord], level: Level
) -> tuple[list[Finding], int]:
    """Read the objects of committed blocks, at level hash or deep; returns the damage and the bytes read."""
    sizes = place.sizes(teacher_root(teacher.name))
    codecs: dict[str, Any] = {}
    if level == "deep":
        from deit_pipe.store.shards import ShardCodec

        codecs = {spec.name: ShardCodec(spec, teacher.block_slots) for spec in array_specs(teacher.format)}

    def check(record: BlockRecord) -> list[Finding]:
        found = []
        arrays: dict[str, NDArray[Any]] = {}
        for spec in array_specs(teacher.format):
            key = object_key(teacher.name, spec, record.epoch, record.index)
            stored = record.objects.get(spec.name)
            if stored is not None and sizes.get(key) != stored.bytes:  # known from the listing, so not fetched
                what = _size_problem(sizes, key, stored.bytes)
                found.append(_finding(teacher, record, spec.name, what, key))
                continue
            try:
                data = fetch_bytes(place, spec.name, key, record)
                if codecs:
                    arrays[spec.name] = decode_rows(codecs[spec.name], key, data, record)
            except ObjectDamaged as error:
                found.append(_finding(teacher, record, spec.name, error.what, key))
        if codecs and not found:
            for name, what in impossible(arrays, teacher.format):
                key = f"{teacher_root(teacher.name)}/{name}"
                found.append(_finding(teacher, record, name, what, key))
        return found

    threads = min(8, os.cpu_count() or 1) if place.local else 16
    with ThreadPoolExecutor(threads) as pool:  # hashing and reading let go of the interpreter
        damaged = [finding for found in pool.map(check, records) for finding in found]
    return damaged, sum(record.stored_bytes for record in records)


def _finding(teacher: TeacherIdentity, record: BlockRecord, array: str, what: str, key: str) -> Finding:
    return Finding(teacher.name, array, record.epoch, (record.start, record.stop), what, key)


def _size_problem(sizes: Mapping[str, int], key: str, recorded: int) -> str:
    return "is missing" if key not in sizes else f"has {sizes[key]:,} bytes, recorded {recorded:,}"


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

    for spec in array_specs(teacher.format):
        key = metadata_key(teacher.name, spec.name)
        expected = array_metadata(spec, ledger.epochs or 1, manifest.num_samples, teacher.block_slots)
        try:
            stored = place.get(key)
        except ObjectMissing:
            yield Finding(teacher.name, "metadata", None, None, "is missing", key)
            continue
        if ledger.epochs is not None and not metadata_agrees(stored, expected):
            yield Finding(teacher.name, "metadata", None, None, "does not describe the array", key)
