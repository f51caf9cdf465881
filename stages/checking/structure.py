"""What can be said without reading an image: classes, links to one file, names."""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from deit_pipe.pipeline.sources.left_out import printable
from deit_pipe.stages.checking.findings import Finding
from deit_pipe.stages.checking.images import CheckedImages

LONG = 240  # characters; some systems take paths of 260, with the folders around


def class_findings(images: CheckedImages) -> list[Finding]:
    """Empty classes, a single class, classes of one name."""
    names = images.class_names
    train = images.splits[0].table.labels
    counts = np.bincount(train[train >= 0], minlength=len(names))
    empty = [
        Finding("empty", (names[label],), "no image in the training split")
        for label in np.flatnonzero(counts == 0).tolist()
    ]
    few = [Finding("classes", names, "there is a single class: nothing to tell apart")] if len(names) == 1 else []
    twins = [
        Finding("class-name", tuple(same), "one name: " + " and ".join(ascii(name) for name in same))
        for same in one_spelling(names, composed)
    ]
    return [*empty, *few, *twins]


def name_findings(images: CheckedImages) -> list[Finding]:
    """Names of images that some system cannot keep, or shows as another."""
    found = []
    start = 0
    for split in images.splits:
        if split.identities is not None:  # elsewhere the names are rows of a file
            keys = list(split.table.keys)
            for sample, key in enumerate(keys):
                about = oddities(key)
                if about:
                    found.append(Finding("name", (f"{split.kind}/{key}",), about, (start + sample,)))
            place = {key: start + sample for sample, key in enumerate(keys)}
            for same in one_spelling(keys, folded):
                names = tuple(f"{split.kind}/{key}" for key in same)
                found.append(
                    Finding("name", names, "differ only in spelling or case", tuple(place[key] for key in same))
                )
        start += len(split.table)
    return found


def oddities(key: str) -> str:
    """What is odd about a path, in words; "" where nothing is."""
    said = []
    if any("\udc80" <= char <= "\udcff" for char in key):
        said.append("not UTF-8")
    elif printable(key) != key:
        said.append("characters that cannot be printed")
    if "\\" in key:
        said.append("a backslash, as some systems separate folders")
    if any(part != part.strip() or part.endswith(".") for part in key.split("/")):
        said.append("begins or ends with a space, or ends with a dot")
    if len(key) > LONG:
        said.append(f"{len(key)} characters long")
    return "; ".join(said)


def one_spelling(names: Iterable[str], spelling: Callable[[str], str]) -> list[list[str]]:
    """Different names that become one when they are spelled so."""
    spelled: dict[str, list[str]] = defaultdict(list)
    for name in names:
        spelled[spelling(name)].append(name)
    return [same for same in spelled.values() if len(same) > 1]


def composed(name: str) -> str:
    """An umlaut as one character, as some systems spell it; others write two."""
    return unicodedata.normalize("NFC", name)


def folded(path: str) -> str:
    """A path as a system sees it that composes letters and ignores case in the names of files."""
    folder, slash, file = path.rpartition("/")
    return composed(folder) + slash + composed(composed(file).casefold())
