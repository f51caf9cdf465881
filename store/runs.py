"""Who wrote a teacher's blocks, and with what: a record for each writing run. No identity, and nothing depends on it.

ledger/NAME/runs/TIME-RUN.json    signed; time, number of processes, library versions
"""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deit_pipe.store.manifest import plain_texts
from deit_pipe.store.places.location import Location
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.record import read_signed, signed_json
from deit_pipe.store.strict.json_values import OBJECT, check_values, real, whole

RULES = {"time": real(0, 1e12), "world": whole(1, 1 << 20), "provenance": OBJECT}


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
        check_values(document, RULES)
    except ValueError:
        return False
    document["provenance"] = plain_texts(document["provenance"])
    return document.keys() >= RULES.keys()


def write_run(place: Location, teacher: str, world: int, provenance: Mapping[str, str], run: str) -> None:
    """Add the record of a run that starts now; `run` is its own name, so that two of one instant have two files."""
    record = {"time": time.time(), "world": world, "provenance": dict(provenance)}
    place.create(f"ledger/{teacher}/runs/{time.time_ns()}-{run}.json", signed_json(record))
