"""An address becomes a place: a directory, or objects below a URL."""

from pathlib import Path

from deit_pipe.store.places.local import LocalDirectory
from deit_pipe.store.places.location import Location
from deit_pipe.store.places.remote import RemoteObjects


def open_location(location: str | Path | Location) -> Location:
    """Open a path or an fsspec URL (`s3://`, `gs://`, `memory://`); a Location passes through."""
    if isinstance(location, Location):
        return location
    text = str(location)
    if "://" in text and not text.startswith("file://"):
        return RemoteObjects(text)
    return LocalDirectory(text.removeprefix("file://"))
