"""An address becomes a place: a directory, or objects below a URL."""

from pathlib import Path

from deit_pipe.store.places.local import LocalDirectory
from deit_pipe.store.places.location import Location
from deit_pipe.store.places.memory import MemoryObjects


def open_location(location: str | Path | Location) -> Location:
    """Open a path or a URL (`s3://`, `gs://`, `az://`, `http://`, `memory://`); a Location passes through."""
    if isinstance(location, Location):
        return location
    text = str(location)
    if text.startswith("memory://"):
        return MemoryObjects(text)
    if "://" in text and not text.startswith("file://"):
        from deit_pipe.store.places.remote import RemoteObjects

        return RemoteObjects(text)
    return LocalDirectory(text.removeprefix("file://"))
