"""What a cache is: the manifest (views), the identity of each teacher, the sample table. All of it immutable.

MANIFEST.json and teachers/NAME.json carry the SHA-256 of their own identity, so that a damaged one is
refused and never compared. Epochs so far are no identity and lie in the ledger.
"""

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from deit_pipe.store.errors import (
    CacheMismatch,
    CacheMissing,
    FieldDifference,
    FormatInvalid,
    corrupt_file,
    mismatch,
)
from deit_pipe.store.identity import (
    FORMAT_VERSION,
    READABLE,
    Identity,
    Manifest,
    TeacherIdentity,
    canonical_digest,
    is_teacher_name,
)
from deit_pipe.store.places.location import Location, ObjectExists, ObjectMissing
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.samples import SAMPLES, SampleIndex, decode_samples, encode_samples, sample_bytes
from deit_pipe.store.strict.json_values import DIGEST, Rule, check_values, strict_json
from deit_pipe.store.strict.parquet_bounds import ROWS_ALWAYS, most_rows

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

IdentityType = TypeVar("IdentityType", bound=Identity)

MANIFEST = "MANIFEST.json"
PROVENANCE = "PROVENANCE.json"
ZARR_ROOT = "targets.zarr"
_BESIDE = {"files": Rule("SHA-256 by key", lambda v: isinstance(v, dict) and all(map(DIGEST.holds, v.values())))}
_ROOT_METADATA = b'{"attributes":{},"zarr_format":3,"node_type":"group"}'
MOST_TEXT, MOST_TEXTS = 2000, 100  # of provenance: characters, entries
_OURS = (MANIFEST, PROVENANCE, SAMPLES, "targets.zarr/", "teachers/", "ledger/", "locks/", "encoded/")


def create_cache(
    location: str | Path | Location,
    manifest: Manifest,
    samples: SampleIndex,
    provenance: Mapping[str, str],
    recipe_defaults: Mapping[str, Any] = MappingProxyType({}),
    data_choice: Mapping[str, Any] | None = None,
) -> None:
    """Create a cache, or do nothing when the same one is there.

    `data_choice` says how the samples were chosen from their data, as JSON values: kept with the manifest and covered
    by its SHA-256, but no identity (the sample digest is).

    MANIFEST.json is written last and only if absent: its presence means "created", and of two processes that
    create at once one finds the other's. `recipe_defaults` are recipe fields that the one there may lack.

    Raises:
        CacheMismatch: there is a cache of other views; `fields` names every difference.
        FormatInvalid: the directory holds something that is not a cache.
    """
    place = open_location(location)
    if not place.exists(MANIFEST):
        _refuse_foreign(place)
        table = encode_samples(samples)
        place.put(SAMPLES, table)
        place.put(PROVENANCE, _pretty(dict(provenance)))
        place.put(f"{ZARR_ROOT}/zarr.json", _ROOT_METADATA)
        beside: dict[str, Any] = {"files": {SAMPLES: hashlib.sha256(table).hexdigest()}}
        if data_choice is not None:
            beside["data"] = dict(data_choice)
        try:
            place.create(MANIFEST, _pretty(_sealed(manifest, beside, manifest.format_version)))
        except ObjectExists:
            pass
        else:
            return
    differences = read_manifest(place).differences(manifest, recipe_defaults)
    if differences:
        raise mismatch("was made from other views", place.path, differences)


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
    try:
        data = place.get(MANIFEST)
    except ObjectMissing:
        raise CacheMissing(
            f"no cache at {place.path}: it has no {MANIFEST}",
            cure=f"make one with: deit-pipe cache-teacher --cache {shlex.quote(place.path)} --teacher NAME",
        ) from None
    manifest, document = _read_identity(place, MANIFEST, data, Manifest)
    if manifest.num_samples > ROWS_ALWAYS and manifest.num_samples > most_rows(place.size(SAMPLES) or 0):
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
    return decode_samples(
        place.path, sample_bytes(place), file.files[SAMPLES], file.manifest.num_samples, file.manifest.num_classes
    )


def list_teachers(location: str | Path | Location) -> list[str]:
    """Names of the teachers of a cache, sorted."""
    keys = open_location(location).sizes("teachers")
    return sorted(name for key in keys if (name := named_by(key)) is not None)


def read_teacher(location: str | Path | Location, name: str) -> TeacherIdentity:
    """Read the identity of one teacher.

    Raises:
        CacheMissing: not in this cache (the message lists those that are). CacheCorrupt: damaged.
    """
    place = open_location(location)
    try:
        data = place.get(teacher_key(name))
    except ObjectMissing:
        known = ", ".join(list_teachers(place)) or "none"
        raise CacheMissing(
            f"no teacher {name!r} in {place.path}",
            details=[f"teachers here: {known}"],
            cure=f"add one with: deit-pipe cache-teacher --cache {shlex.quote(place.path)} --teacher NAME",
        ) from None
    teacher = _read_identity(place, teacher_key(name), data, TeacherIdentity)[0]
    if teacher.name != name:
        raise corrupt_file(place.path, teacher_key(name), f"is the identity of {teacher.name!r}: files were exchanged")
    return teacher


def write_teacher(place: Location, teacher: TeacherIdentity) -> None:
    """Add a teacher to a cache, in the cache's own format, or check that the one of this name is the same.

    Raises:
        CacheMismatch: another teacher has this name.
    """
    if not place.exists(teacher_key(teacher.name)):  # asked first: a full disk could not even try to create it
        try:
            version = read_manifest(place).format_version
            place.create(teacher_key(teacher.name), _pretty(_sealed(teacher, {}, version)))
        except ObjectExists:
            pass
        else:
            return
    differences = read_teacher(place, teacher.name).differences(teacher)
    if differences:
        raise mismatch(
            f"teacher {teacher.name!r} was cached otherwise",
            place.path,
            differences,
            "give the same teacher and settings, another --name, or free it first: "
            f"deit-pipe remove-teacher {teacher.name} --cache {shlex.quote(place.path)}",
        ) from None


def teacher_key(name: str) -> str:
    """Key of a teacher's identity file."""
    return f"teachers/{name}.json"


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


def first_line(error: Exception) -> str:
    """What an error says first."""
    return str(error).partition("\n")[0]


def _sealed(identity: Identity, beside: Mapping[str, Any], version: int) -> dict[str, Any]:
    content = {"identity": identity.to_json(), **beside}
    return {"deit_pipe": version, **content, "sha256": canonical_digest(content)}


def _read_identity(
    place: Location, key: str, data: bytes, kind: type[IdentityType]
) -> tuple[IdentityType, dict[str, Any]]:
    """The identity in a file, and the file's whole content, both as its SHA-256 vouches for them."""
    try:
        document = strict_json(data)
        version = document.pop("deit_pipe")
        stated = document.pop("sha256")
        intact = canonical_digest(document) == stated
    except (ValueError, KeyError, AttributeError, TypeError):
        raise corrupt_file(place.path, key, "cannot be read") from None
    if version not in READABLE:
        raise CacheMismatch(
            f"cache format {version} at {place.path}, this program reads {READABLE[0]} to {READABLE[-1]}",
            [FieldDifference("format_version", version, FORMAT_VERSION)],
            cure="use the deit-pipe that wrote it, or give a new directory with --cache",
        )
    if not intact:
        raise corrupt_file(place.path, key, "fails its SHA-256")
    try:
        identity = kind.from_json(document["identity"])
        check_values(document, _BESIDE)
    except (ValueError, KeyError, FormatInvalid) as error:
        raise corrupt_file(place.path, key, f"says what cannot be: {first_line(error)}") from None
    except TypeError as error:
        known = ", ".join(field.name for field in fields(kind))  # type: ignore[arg-type]
        raise CacheMismatch(
            f"{place.path}/{key} has other fields than this program knows: {error}",
            details=[f"known: {known}"],
            cure="use the deit-pipe that wrote it",
        ) from None
    if getattr(identity, "format_version", version) != version:
        raise corrupt_file(place.path, key, "says two different formats")
    return identity, document


def _refuse_foreign(place: Location) -> None:
    foreign = [key for key in place.sizes() if not key.startswith((*_OURS, "."))]
    if foreign:
        raise FormatInvalid(
            f"{place.path} holds files that are no cache, for example {min(foreign)}",
            cure="give a new or empty directory with --cache",
        )


def _pretty(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
