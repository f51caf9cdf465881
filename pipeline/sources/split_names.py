"""Which split a name speaks of, by the conventions of Hugging Face data sets.

A split's word is a whole word of the name: words are separated by -, _, ., spaces, digits and capitals.
"""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal["train", "val", "test"]
KINDS: tuple[Kind, Kind, Kind] = ("train", "val", "test")

KEYWORDS: dict[str, Kind] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
# Words that say nothing about what is in a folder: test_images is a split, test_tube a class.
NEUTRAL = frozenset(
    {
        *(
            "data",
            "dataset",
            "set",
            "split",
            "image",
            "images",
            "img",
            "imgs",
            "picture",
            "pictures",
            "photo",
        ),
        *("photos", "file", "files", "folder", "jpg", "jpeg", "png", "new", "all"),
    }
)
_HUMP = re.compile(r"([a-z])([A-Z])")
_SEPARATORS = re.compile(r"[-_. 0-9]+")
# train-00000-of-00005, and the hash that older uploads append
_SHARD = re.compile(r"^(?P<name>.*?)[-_.]?(?P<part>\d+)-of-(?P<parts>\d+)(?:-[0-9a-f]{16})?$")
_NUMBER = re.compile(r"[-_. ]*\d+$")


def words_of(name: str) -> list[str]:
    """Return the words of a file's or folder's name, in lower case; TrainImages are two, and trainset is train."""
    parts = _SEPARATORS.split(_HUMP.sub(r"\1-\2", name))
    words = [word.lower() for word in parts if word]
    return [word.removesuffix("set") if word.removesuffix("set") in KEYWORDS else word for word in words]


def kinds_of(name: str) -> frozenset[Kind]:
    """Return the splits that a name speaks of; normally none or one."""
    return frozenset(KEYWORDS[word] for word in words_of(name) if word in KEYWORDS)


def is_exact(name: str) -> bool:
    """Tell whether a name is a split's word and nothing else."""
    return name.lower() in KEYWORDS


def names_only_a_split(name: str) -> bool:
    """Tell whether a name can hardly be that of a class: train, Test-Images, val2017."""
    words = words_of(name)
    return any(word in KEYWORDS for word in words) and all(word in KEYWORDS or word in NEUTRAL for word in words)


def without_shard(stem: str) -> tuple[str, tuple[int, int] | None]:
    """Cut the part's number off the name of a file, without its suffix.

    Returns:
        The name, and (part, parts) where the name says how many parts there are.
    """
    match = _SHARD.match(stem)
    if match:
        return match["name"], (int(match["part"]), int(match["parts"]))
    return _NUMBER.sub("", stem), None
