"""Files that systems leave in folders they touch: no part of a cache, passed over, and listed by `inspect-cache`."""

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
