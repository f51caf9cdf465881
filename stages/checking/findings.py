"""What can be wrong with images: the kinds of findings, and what the exit code says of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from deit_pipe.stages.checking.images import CheckedImages

BAD_IMAGE, CONTRADICTION, EMPTY, FINE = 6, 4, 3, 0


class KindOfFinding(NamedTuple):
    """A kind: its heading, and the exit code where there is one of it."""

    heading: str
    exit_code: int


KINDS: dict[str, KindOfFinding] = {
    "bad": KindOfFinding("images that cannot be decoded", BAD_IMAGE),
    "labels": KindOfFinding("the same image in several classes", CONTRADICTION),
    "leak": KindOfFinding("the same image in several splits", CONTRADICTION),
    "class-name": KindOfFinding("classes of one name in two spellings", CONTRADICTION),
    "empty": KindOfFinding("classes without an image", EMPTY),
    "copies": KindOfFinding("the same image several times in one class", FINE),
    "alike": KindOfFinding("images that look alike (a hint)", FINE),
    "odd": KindOfFinding("odd modes and sizes", FINE),
    "name": KindOfFinding("odd names", FINE),
    "classes": KindOfFinding("too few classes", FINE),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: a key of `KINDS`.
        names: of the images or classes it is about.
        note: what is the matter, one line.
        images: places of the images, where it is about images.
    """

    kind: str
    names: tuple[str, ...]
    note: str
    images: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Kind, names and note; the names as UTF-8 can hold them."""
        names = [name.encode("utf-8", "backslashreplace").decode() for name in self.names]
        return {"kind": self.kind, "names": names, "note": self.note}


def exit_code(findings: Sequence[Finding]) -> int:
    """The gravest: a bad image, then contradictions and leaks, then empty classes."""
    return max((KINDS[one.kind].exit_code for one in findings), default=FINE)


def excludable(images: CheckedImages, findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """What `--exclude` cures, as (why, name): afterwards no image is bad, contradicts another or is in two splits.

    Of an image in several splits the copy stays in the one that judges last; which of several labels is right cannot be
    known, so none of such images stays.
    """
    found = []
    for one in findings:
        gone: Sequence[int] = one.images if one.kind in ("bad", "labels") else ()
        if one.kind == "leak":
            last = max(int(images.split_of[image]) for image in one.images)
            gone = [image for image in one.images if images.split_of[image] != last]
        found += [(f"{KINDS[one.kind].heading}: {one.note}", images.name(image)) for image in gone]
    return found


def by_kind(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """The findings of each kind that there is, gravest first."""
    sorted_in = {kind: [one for one in findings if one.kind == kind] for kind in KINDS}
    return {kind: found for kind, found in sorted_in.items() if found}
