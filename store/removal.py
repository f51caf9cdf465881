"""Remove a teacher: the mark first, for ever; then its blocks, its ledger, its identity.

What an interrupted removal leaves, or another job still writes, is never read: the mark stays, and the name is not used
again. The same command goes on.
"""

from pathlib import Path

from deit_pipe.store.layout import teacher_root
from deit_pipe.store.manifest import is_removed, read_manifest, read_teacher, removed_key, teacher_key
from deit_pipe.store.places.location import Location
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.twice.identities import copy_key


def remove_teacher(location: str | Path | Location, name: str) -> int:
    """Remove a teacher and return the bytes freed.

    Raises:
        CacheMissing: no such cache or teacher.
    """
    place = open_location(location)
    read_manifest(place)
    trees = (teacher_root(name), f"hints/{name}", f"ledger/{name}")
    sizes = {key: size for tree in trees for key, size in place.sizes(tree).items()}
    files = [key for key in (teacher_key(name), copy_key(teacher_key(name))) if place.exists(key)]
    if not files and not (sizes and is_removed(place, name)):
        read_teacher(place, name)  # raises, and lists those that are there
    place.settle(removed_key(name), b"removed\n")
    freed = sum(sizes.values()) + sum(place.size(key) or 0 for key in files)
    for tree in trees:
        place.delete_tree(tree)
    for key in files:
        place.delete(key)
    return freed
