"""The small files that nothing can be made again from, each there twice: manifest, identities of teachers.

MANIFEST.json, teachers/NAME.json            {"deit_pipe": version, "identity": {...}, ..., "sha256": of the rest}
copies/MANIFEST.json, copies/teachers/...    the same bytes again (since format 3)
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from deit_pipe.store.errors import CacheCorrupt, CacheMismatch, FieldDifference, FormatInvalid, corrupt_file
from deit_pipe.store.identity import FORMAT_VERSION, READABLE, Identity, canonical_digest
from deit_pipe.store.places.location import Location, ObjectMissing
from deit_pipe.store.strict.json_values import DIGEST, Rule, check_values, strict_json

IdentityType = TypeVar("IdentityType", bound=Identity)

COPIES = "copies"
_BESIDE = {"files": Rule("SHA-256 by key", lambda v: isinstance(v, dict) and all(map(DIGEST.holds, v.values())))}


def copy_key(key: str) -> str:
    """Where the second copy of a file lies."""
    return f"{COPIES}/{key}"


def original_key(key: str) -> str:
    """What a copy is of; a file that is no copy is its own."""
    return key.removeprefix(f"{COPIES}/")


def read_either(place: Location, key: str, kind: type[IdentityType]) -> tuple[IdentityType, dict[str, Any]] | None:
    """A file, or its copy where it is damaged or gone; None where neither is there.

    Returns:
        the identity, and the file's whole content, both as its SHA-256 vouches for them.

    Raises:
        CacheCorrupt: what is there is damaged. CacheMismatch: of a later format, or with fields that nobody knows here.
    """
    trouble: CacheCorrupt | None = None
    for one in (key, copy_key(key)):
        try:
            return read_identity(place, one, place.get(one), kind)
        except ObjectMissing:
            continue
        except CacheCorrupt as error:
            trouble = trouble or error
    if trouble is not None:
        raise trouble
    return None


def write_twice(place: Location, key: str, kind: type[Identity]) -> None:
    """Let both copies of a file be the whole one; of two whole ones that differ, the first. One must be whole."""
    data = b""
    for one in (copy_key(key), key):
        with contextlib.suppress(ObjectMissing, CacheCorrupt):
            read_identity(place, one, there := place.get(one), kind)
            data = there
    for one in (key, copy_key(key)):
        place.settle(one, data)


def damaged_copies(place: Location, key: str, kind: type[Identity]) -> Iterator[tuple[str, str]]:
    """What is wrong with a file and its copy: key, and what."""
    found: list[bytes] = []
    for one in (key, copy_key(key)):
        try:
            found.append(place.get(one))
            read_identity(place, one, found[-1], kind)
        except ObjectMissing:
            yield one, "is missing"
        except CacheCorrupt as error:
            found.pop()
            yield one, error.what.rpartition(f" of {place.path} ")[2]
    if len(found) == 2 and found[0] != found[1]:
        yield copy_key(key), "is not what the file says that it is a copy of"


def identity_file(identity: Identity, beside: Mapping[str, Any], version: int) -> bytes:
    """The file of an identity, with what is kept beside it."""
    content = {"identity": identity.to_json(), **beside}
    return pretty({"deit_pipe": version, **content, "sha256": canonical_digest(content)})


def pretty(data: Mapping[str, Any]) -> bytes:
    """JSON for people."""
    return (json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_identity(
    place: Location, key: str, data: bytes, kind: type[IdentityType]
) -> tuple[IdentityType, dict[str, Any]]:
    """The identity in the bytes of a file, and the file's whole content, both as its SHA-256 vouches for them."""
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
        first_line = str(error).partition("\n")[0]
        raise corrupt_file(place.path, key, f"says what cannot be: {first_line}") from None
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
