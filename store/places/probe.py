"""Does a place do what a commit needs? Asked once, by every job that opens a cache for writing."""

import uuid

from deit_pipe.store.errors import StoreUnreachable
from deit_pipe.store.places.location import Location, ObjectExists


def probe(place: Location) -> None:
    """Create an object twice, and swap it once with the version that is there and once with one that is gone.

    Raises:
        StoreUnreachable: it lets a second writer overwrite, so it is not written at all.
    """
    key = f"hints/probe-{uuid.uuid4().hex}"
    problem = None
    try:
        place.create(key, b"first")
        try:
            place.create(key, b"second")
            problem = "it creates an object over one that is there"
        except ObjectExists:
            problem = _swap_problem(place, key)
    finally:
        place.delete(key)
    if problem:
        raise StoreUnreachable(
            f"{place.path} cannot hold a cache that is written: {problem}",
            expected="create-if-absent and compare-and-swap (If-None-Match and If-Match)",
            cure="cache into a folder or another store with --cache, then copy it there; it is read everywhere",
        )


def _swap_problem(place: Location, key: str) -> str | None:
    seen = place.see(key)
    if seen is None or seen.data != b"first":
        return "it does not give back what it was given"
    if not place.swap(key, seen, b"third"):
        return "it does not replace an object that is unchanged"
    if place.swap(key, seen, b"fourth"):
        return "it replaces an object that has changed"
    now = place.see(key)
    return None if now is not None and now.data == b"third" else "it does not give back what it was given"
