"""What was found beside the images and not taken: counted by kind, with the first of each."""

from __future__ import annotations

from collections.abc import Iterable

HIDDEN = "hidden files and folders"
SYSTEM = "files and folders of an operating system"
DANGLING = "links that lead nowhere"
REPEATED = "links to what is counted already"
IRREGULAR = "neither files nor folders"
NO_IMAGE = "files that are no images by their name"
LOOSE = "images in no class folder"


class LeftOut:
    """Counts by kind, in the order they were first met."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, kind: str, name: str, count: int = 1) -> None:
        """Count something; the name of the first of its kind is kept."""
        before, first = self._found.get(kind, (0, name))
        self._found[kind] = (before + count, first)

    def merge(self, other: LeftOut, below: str = "") -> None:
        """Add what another place left out; its names are below `below`."""
        for kind, (count, first) in other._found.items():
            self.add(kind, f"{below}/{first}" if below else first, count)

    def count(self, kind: str) -> int:
        """Return how many of a kind there were."""
        return self._found.get(kind, (0, ""))[0]

    def kinds(self) -> list[tuple[str, int, str]]:
        """Return (kind, count, name of the first) of everything."""
        return [(kind, count, first) for kind, (count, first) in self._found.items()]

    def lines(self) -> list[str]:
        """Return one line per kind."""
        return [f"left out: {kind}: {count:,}, the first {printable(first)}" for kind, count, first in self.kinds()]


def printable(text: str) -> str:
    """Return a name that can be printed anywhere: control characters and broken bytes are escaped."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii") for char in text
    )


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return names for a message, the first few and how many more."""
    shown = [printable(name) for name in names]
    rest = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {rest:,} more" if rest > 0 else "")
