"""What was measured of a teacher before it was cached: kept beside its identity, not in it.

    ledger/NAME/gate.json    signed; `identity` is the digest of the teacher it was measured for

Measuring again gives other numbers for the same teacher, so nothing is compared with it and no target depends on it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from deit_pipe.store.manifest import TeacherIdentity
from deit_pipe.store.places.location import Location, ObjectMissing
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.record import read_signed, signed_json
from deit_pipe.store.strict.json_values import OBJECT, check_values, optional, real, text, whole

_SHARE, _LINE, _COUNT = optional(real(-1e6, 1e6)), text(4000), whole(0, 1 << 40)
RULES = {
    **dict.fromkeys(("accuracy", "skill", "skill_low", "skill_high", "ece", "mean_confidence", "known"), _SHARE),
    **dict.fromkeys(("decision", "model", "weights_sha256", "head", "reason", "identity"), _LINE),
    **dict.fromkeys(("body", "split", "known_from"), optional(_LINE)),
    **dict.fromkeys(("image_size", "num_classes", "images", "classes_seen", "seed"), _COUNT),
    "trained_size": optional(_COUNT),
    "measured": real(0, 1e12),
    "cause": optional(OBJECT),
}
CAUSE_RULES = {
    **dict.fromkeys(("kind", "text", "cure"), _LINE),
    **dict.fromkeys(("before", "after"), real(-1e6, 1e6)),
    "images": _COUNT,
}


def gate_key(teacher: str) -> str:
    """Key of the record."""
    return f"ledger/{teacher}/gate.json"


class GateFile(NamedTuple):
    """A teacher's record, None where there is none or a damaged one; and what is wrong with it, None for nothing."""

    record: dict[str, Any] | None
    damage: str | None


def read_gate_file(location: str | Path | Location, teacher: str) -> GateFile:
    """Read the record of a teacher, and say what is wrong with it."""
    try:
        record = read_signed(open_location(location).get(gate_key(teacher)))
    except ObjectMissing:
        return GateFile(None, None)
    if record is None:
        return GateFile(None, "fails its SHA-256")
    try:
        check_values(record, RULES)
        check_values(record.get("cause") or {}, CAUSE_RULES)
    except ValueError as error:
        return GateFile(None, f"says what cannot be: {error}")
    return GateFile(record, None)


def read_gate(location: str | Path | Location, teacher: str) -> dict[str, Any] | None:
    """The record of a teacher; None where there is none, or a damaged one."""
    return read_gate_file(location, teacher).record


def write_gate(location: str | Path | Location, teacher: TeacherIdentity, record: Mapping[str, Any]) -> bool:
    """Keep a record, unless a newer one of the same teacher is there; returns whether it was written.

    Args:
        location: the cache.
        teacher: that was measured.
        record: JSON values, with `measured`, seconds since 1970.
    """
    place = open_location(location)
    there = read_gate(place, teacher.name)
    if there is not None and there["identity"] == teacher.digest and there["measured"] >= record["measured"]:
        return False
    place.put(gate_key(teacher.name), signed_json({**record, "identity": teacher.digest}))
    return True
