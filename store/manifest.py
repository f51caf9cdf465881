"""What a cache is: the manifest (views), the identity of each teacher, the sample table. All of it immutable.

MANIFEST.json and teachers/NAME.json carry the SHA-256 of their own identity, so that a damaged one is
refused and never compared. Epochs so far are no identity and lie in the ledger.
"""

import contextlib
import hashlib
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from deit_pipe.store.errors import (
    CacheMissing,
    FormatInvalid,
    TeacherRemoved,
    corrupt_file,
    mismatch,
)
from deit_pipe.store.identity import FORMAT_VERSION, Manifest, TeacherIdentity, canonical_digest, is_teacher_name
from deit_pipe.store.places.location import Location, ObjectExists, ObjectMissing
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.samples import SAMPLES, SampleIndex, decode_samples, encode_samples, sample_bytes
from deit_pipe.store.strict.json_values import strict_json
from deit_pipe.store.strict.parquet_bounds import ROWS_ALWAYS, most_rows
from deit_pipe.store.twice.identities import copy_key, damaged_copies, identity_file, pretty, read_either, write_twice

__all__ = [
    "FORMAT_VERSION",
    "Manifest",
    "ManifestFile",
    "SampleIndex",
    "TeacherIdentity",
    "create_cache",
    "list_teachers",
    "read_data_choice",
    "read_manifest",
    "read_manifest_file",
    "read_provenance",
    "read_samples",
    "read_teacher",
    "teacher_key",
    "write_teacher",
]

MANIFEST = "MANIFEST.json"
PROVENANCE = "PROVENANCE.json"
ZARR_ROOT = "targets.zarr"
_ROOT_METADATA = b'{"attributes":{},"zarr_format":3,"node_type":"group"}'
MOST_TEXT, MOST_TEXTS = 2000, 100  # of provenance: characters, entries
REMOVED = ".removed"
"""Ending of the mark of a removed teacher, beside the identities."""
_OURS = (MANIFEST, PROVENANCE, SAMPLES)
_FOLDERS = ("targets.zarr/", "teachers/", "ledger/", "locks/", "hints/", "encoded/", "copies/")


def create_cache(
    location: str | Path | Location,
    manifest: Manifest,
    samples: SampleIndex | Callable[[], SampleIndex],
    provenance: Mapping[str, str],
    recipe_defaults: Mapping[str, Any] = MappingProxyType({}),
    data_choice: Mapping[str, Any] | None = None,
) -> None:
    """Create a cache, or do nothing when the same one is there.

    `samples` may be a function, which is called only where they are to be written: to measure images can take long.
    `data_choice` says how the samples were chosen from their data, as JSON values: kept with the manifest and covered
    by its SHA-256, but no identity (the sample digest is).

    MANIFEST.json is written last and only if absent: its presence means "created", and of two processes that
    create at once one finds the other's. `recipe_defaults` are recipe fields that the one there may lack.

    Raises:
        CacheMismatch: there is a cache of other views; `fields` names every difference.
        FormatInvalid: the directory holds something that is not a cache.
    """
    place = open_location(location)
    if not place.exists(MANIFEST) and not place.exists(copy_key(MANIFEST)):
        _refuse_foreign(place)
        table = encode_samples(samples() if callable(samples) else samples)
        files = {
            SAMPLES: table,
            PROVENANCE: pretty(dict(provenance)),
            f"{ZARR_ROOT}/zarr.json": _ROOT_METADATA,
        }
        for key, data in files.items():  # what is there may be another creator's, who will be the first
            with contextlib.suppress(ObjectExists):
                place.create(key, data)
        beside: dict[str, Any] = {"files": {SAMPLES: digest(table)}}
        if data_choice is not None:
            beside["data"] = dict(data_choice)
        try:
            place.create(MANIFEST, identity_file(manifest, beside, manifest.format_version))
        except ObjectExists:
            pass
        else:
            for key, data in files.items():  # ours to replace, whatever an interrupted creation left
                place.settle(key, data)
            if manifest.format_version >= 3:
                write_twice(place, MANIFEST, Manifest)
                place.settle(copy_key(SAMPLES), table)
            return
    file = read_manifest_file(place)
    differences = file.manifest.differences(manifest, recipe_defaults)
    if differences:
        raise mismatch("was made from other views", place.path, differences)
    stated = file.files[SAMPLES]
    if digest(sample_bytes(place, stated)) != stated:
        table = encode_samples(samples() if callable(samples) else samples)
        if digest(table) == stated:
            place.settle(SAMPLES, table)


class ManifestFile(NamedTuple):
    """All that MANIFEST.json says: the identity, and what is kept with it and covered by its SHA-256."""

    manifest: Manifest
    files: Mapping[str, str]
    """SHA-256 of files that never change, by key."""
    data_choice: dict[str, Any] | None
    """How the samples were chosen, as given to `create_cache`; None in caches that did not record it."""


def read_manifest_file(location: str | Path | Location) -> ManifestFile:
    """Read MANIFEST.json.

    Raises:
        CacheMissing: there is none. CacheCorrupt: it is damaged. CacheMismatch: a newer format.
    """
    place = open_location(location)
    found = read_either(place, MANIFEST, Manifest)
    if found is None:
        raise CacheMissing(
            f"no cache at {place.path}: it has no {MANIFEST}",
            cure=f"make one with: deit-pipe cache-teacher --cache {shlex.quote(place.path)} --teacher NAME",
        )
    manifest, document = found
    if manifest.num_samples > ROWS_ALWAYS and manifest.num_samples > most_rows(largest_size(place, SAMPLES)):
        what = f"names {manifest.num_samples:,} samples, more than {SAMPLES} can hold"
        raise corrupt_file(place.path, MANIFEST, what)
    # the rule since format 1; of the recipe as it was written, whatever fields this program would write
    if canonical_digest(manifest.recipe) != manifest.recipe_digest:
        raise corrupt_file(place.path, MANIFEST, "holds a recipe that is not the one of its recipe_digest")
    if SAMPLES not in document.get("files", {}):
        raise corrupt_file(place.path, MANIFEST, f"has no SHA-256 of {SAMPLES}")
    return ManifestFile(manifest, document["files"], document.get("data"))


def read_manifest(location: str | Path | Location) -> Manifest:
    """Read the identity of a cache.

    Raises:
        CacheMissing, CacheCorrupt, CacheMismatch: as `read_manifest_file`.
    """
    return read_manifest_file(location).manifest


def read_data_choice(location: str | Path | Location) -> dict[str, Any] | None:
    """How the samples were chosen, as given to `create_cache`; None in caches that did not record it.

    Raises:
        CacheMissing, CacheCorrupt, CacheMismatch: as `read_manifest_file`.
    """
    return read_manifest_file(location).data_choice


def read_provenance(location: str | Path | Location) -> dict[str, str]:
    """Library versions at creation (no identity); empty if they were lost."""
    try:
        return plain_texts(strict_json(open_location(location).get(PROVENANCE)))
    except (ObjectMissing, ValueError, AttributeError):
        return {}


def read_samples(location: str | Path | Location) -> SampleIndex:
    """Read the sample table, checked against the digest in the manifest.

    Raises:
        CacheCorrupt: it is damaged or gone.
    """
    place = open_location(location)
    file = read_manifest_file(place)
    counts = file.manifest.num_samples, file.manifest.num_classes
    return decode_samples(place.path, sample_bytes(place, file.files[SAMPLES]), file.files[SAMPLES], *counts)


def list_teachers(location: str | Path | Location) -> list[str]:
    """Names of the teachers of a cache, sorted."""
    return teachers_among(identity_keys(open_location(location)))


def identity_keys(place: Location) -> list[str]:
    """The files beside the identities, and their copies."""
    return [key for folder in ("teachers", copy_key("teachers")) for key in place.sizes(folder)]


def teachers_among(listed: Sequence[str]) -> list[str]:
    """Names of the teachers whose files were listed, sorted."""
    keys = {key.rpartition("teachers/")[2] for key in listed}
    names = {key.removesuffix(".json") for key in keys if key.endswith(".json")}
    return sorted(name for name in names if is_teacher_name(name) and f"{name}{REMOVED}" not in keys)


def read_teacher(location: str | Path | Location, name: str) -> TeacherIdentity:
    """Read the identity of one teacher.

    Raises:
        CacheMissing: not in this cache (the message lists those that are). CacheCorrupt: damaged.
    """
    place = open_location(location)
    found = None if is_removed(place, name) else read_either(place, teacher_key(name), TeacherIdentity)
    if found is None:
        known = ", ".join(list_teachers(place)) or "none"
        raise CacheMissing(
            f"no teacher {name!r} in {place.path}",
            details=[f"teachers here: {known}"],
            cure=f"add one with: deit-pipe cache-teacher --cache {shlex.quote(place.path)} --teacher NAME",
        )
    teacher = found[0]
    if teacher.name != name:
        raise corrupt_file(place.path, teacher_key(name), f"is the identity of {teacher.name!r}: files were exchanged")
    return teacher


def write_teacher(place: Location, teacher: TeacherIdentity) -> None:
    """Add a teacher to a cache, in the cache's own format, or check that the one of this name is the same.

    Raises:
        CacheMismatch: another teacher has this name.
    """
    key = teacher_key(teacher.name)
    # asked first: a full disk could not even try to create it
    if not place.exists(key) and not place.exists(copy_key(key)):
        version = read_manifest(place).format_version
        data = identity_file(teacher, {}, version)
        try:
            place.create(key, data)
        except ObjectExists:
            pass
        else:
            if version >= 3:
                place.settle(copy_key(key), data)
            return
    differences = read_teacher(place, teacher.name).differences(teacher)
    if differences:
        raise mismatch(
            f"teacher {teacher.name!r} was cached otherwise",
            place.path,
            differences,
            "give the same teacher and settings, another --name, or free it first: "
            f"deit-pipe remove-teacher {teacher.name} --cache {shlex.quote(place.path)}",
        )


def named_by(key: str) -> str | None:
    """The teacher whose identity a file is; None for what systems and people leave beside them."""
    name = key.removeprefix("teachers/").removesuffix(".json")
    return name if is_teacher_name(name) and key == teacher_key(name) else None


def plain_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Provenance as it may be shown: one line each, of bounded length."""
    return {
        str(key)[:MOST_TEXT]: " ".join(str(value)[:MOST_TEXT].split("\n"))
        for key, value in [*values.items()][:MOST_TEXTS]
    }


def largest_size(place: Location, key: str) -> int:
    """Bytes of a file that is there twice: of the longer copy."""
    return max(place.size(key) or 0, place.size(copy_key(key)) or 0)


def digest(data: bytes | None) -> str | None:
    """SHA-256 of a file, in hex; None of none."""
    return None if data is None else hashlib.sha256(data).hexdigest()


def teacher_key(name: str) -> str:
    """Key of a teacher's identity file."""
    return f"teachers/{name}.json"


def removed_key(name: str) -> str:
    """The mark that a teacher was removed; it stays, and its name is not used again."""
    return f"teachers/{name}{REMOVED}"


def is_removed(place: Location, name: str) -> bool:
    """Whether a teacher of this name was removed."""
    return place.exists(removed_key(name))


def refuse_removed(place: Location, name: str) -> None:
    """Refuse to write a teacher that was removed: what other jobs still write of it must never count.

    Raises:
        TeacherRemoved: it was.
    """
    if is_removed(place, name):
        raise TeacherRemoved(
            f"teacher {name!r} was removed from {place.path}, and its name is not used again",
            cure=f"give it another name, such as: --name {name}-2",
        )


def copy_identities(place: Location) -> None:
    """See that manifest, samples and identities are there twice, both whole; nothing else is changed.

    Raises:
        CacheCorrupt: one of them is damaged, and so is its copy.
    """
    file = read_manifest_file(place)
    stated = file.files[SAMPLES]
    write_twice(place, MANIFEST, Manifest)
    table = sample_bytes(place, stated)
    decode_samples(place.path, table, stated, file.manifest.num_samples, file.manifest.num_classes)
    for key in (SAMPLES, copy_key(SAMPLES)):
        place.settle(key, table or b"")
    for name in list_teachers(place):
        read_teacher(place, name)
        write_twice(place, teacher_key(name), TeacherIdentity)


def bad_identities(place: Location, file: ManifestFile, teachers: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is wrong with the files that are there twice: key, and what; `file` and `teachers` as they were read."""
    yield from damaged_copies(place, MANIFEST, Manifest)
    for name in teachers:
        yield from damaged_copies(place, teacher_key(name), TeacherIdentity)
    for key in (SAMPLES, copy_key(SAMPLES)):
        seen = place.see(key)
        if digest(seen.data if seen else None) != file.files[SAMPLES]:
            yield key, "is gone" if seen is None else "fails its SHA-256"


def upgrade_line(path: str) -> str:
    """The command that copies a cache of an earlier format into a new one."""
    return f"deit-pipe inspect-cache {shlex.quote(path)} --upgrade NEW"


def _refuse_foreign(place: Location) -> None:
    foreign = [key for key in place.sizes() if not key.startswith((*_OURS, *_FOLDERS, "."))]
    if foreign:
        raise FormatInvalid(
            f"{place.path} holds files that are no cache, for example {min(foreign)}",
            cure="give a new or empty directory with --cache",
        )
