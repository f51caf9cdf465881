"""Files that systems leave in folders they touch: no part of a cache, passed over, and listed by `inspect-cache`."""

import os
from pathlib import Path

from deit_pipe.store.places.location import PARTIAL, SWAP_FILE

MOST_SHOWN = 100

_NAMES = {
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "__macosx",
    "lost+found",
    "@eadir",
    "$recycle.bin",
    "system volume information",
}


def is_stray(name: str) -> bool:
    """Whether a file or folder of this name is none of ours: ours never begin with a dot.

    >>> [is_stray(name) for name in (".DS_Store", "._a.json", ".nfs00001", "Thumbs.db", "zarr.json")]
    [True, True, True, True, False]
    """
    return name.startswith(".") or name.lower() in _NAMES


def find_strays(root: Path, depth: int = 4) -> list[str]:
    """Strays below a folder, as deep as a system leaves them, sorted; at most 100, and links are not followed."""
    found: list[str] = []
    folders = [(root, 0)]
    while folders and len(found) < MOST_SHOWN:
        folder, level = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            path = Path(entry.path)
            if is_stray(entry.name):
                if not entry.name.endswith((PARTIAL, SWAP_FILE)):
                    found.append(path.relative_to(root).as_posix())
            elif level + 1 < depth and entry.is_dir(follow_symlinks=False):
                folders.append((path, level + 1))
    return sorted(found)[:MOST_SHOWN]
