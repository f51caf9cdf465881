"""Who wrote a teacher's targets: a record per writing run, with its library versions. Not identity."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deit_pipe.store.places.location import Location
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.record import read_signed, signed_json


def read_runs(location: str | Path | Location, teacher: str) -> list[dict[str, Any]]:
    """Records `{"time": ..., "world": ..., "provenance": {...}}`, oldest first; damaged ones are left out."""
    place = open_location(location)
    documents = [read_signed(place.get(key)) for key in sorted(place.sizes(f"ledger/{teacher}/runs"))]
    return [document for document in documents if document is not None]


def write_run(place: Location, teacher: str, world: int, provenance: Mapping[str, str]) -> None:
    """Add the record of a run that starts now."""
    run = {"time": time.time(), "world": world, "provenance": dict(provenance)}
    place.put(f"ledger/{teacher}/runs/{time.time_ns()}.json", signed_json(run))
