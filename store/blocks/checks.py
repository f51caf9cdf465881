"""How much of a cache is checked: how closely, and of its blocks all or a seeded share."""

import hashlib
import math
import re
from collections.abc import Collection
from typing import Literal, NamedTuple

from deit_pipe.store.errors import FormatInvalid
from deit_pipe.store.sealed import Cell

Level = Literal["sizes", "hash", "deep"]

RESUME_BYTES = 4_000_000_000  # hashed when a teacher is opened for writing: seconds on a disk, a minute on a network
RESUME_BLOCKS = 4096  # and at most so many requests
_SHARE = re.compile(r"(\d{1,3}(?:\.\d+)?)%(?:@(\d{1,18}))?")


class Check(NamedTuple):
    """What is compared: sizes of all blocks, and unless that is all, the SHA-256 of a share of them."""

    level: Level
    share: float = 1.0
    seed: int = 0

    def words(self, hashed: int, blocks: int) -> str:
        """What was looked at, of so many blocks: the level, or the share."""
        if self.share == 1.0:
            return self.level
        part = hashed / blocks if blocks else 1.0
        return f"hash of {hashed:,} of {blocks:,} blocks ({part:.1%}, seed {self.seed}), sizes of all"


def read_check(text: str) -> Check:
    """`sizes`, `hash`, `deep`, or a share of the hashes: `5%`, and with another seed `5%@7`.

    Raises:
        FormatInvalid: anything else.

    >>> read_check("2.5%@7")
    Check(level='hash', share=0.025, seed=7)
    """
    if text in ("sizes", "hash", "deep"):
        return Check(text)  # type: ignore[arg-type]  # mypy does not narrow a str to a Literal
    match = _SHARE.fullmatch(text)
    if match is None or not 0 < float(match[1]) <= 100:
        raise FormatInvalid(
            f"--verify cannot be {text!r}",
            expected="sizes, hash, deep, or a share such as 5% (5%@7: another 5%)",
            cure="give --verify hash for all",
        )
    return Check("hash", float(match[1]) / 100, int(match[2] or 0))


def resume_check(stored_bytes: int, blocks: int) -> Check:
    """What a writer checks by itself: all hashes of a small teacher, the affordable share of a large one.

    The seed is the number of blocks, so that one that grows is looked at elsewhere each time.
    """
    share = min(1.0, RESUME_BYTES / max(1, stored_bytes), RESUME_BLOCKS / max(1, blocks))
    return Check("hash", share, blocks)


def repair_option(stored_bytes: int, blocks: int) -> str:
    """What `cache-teacher` is told to find a damaged block of a teacher; nothing where it looks at all by itself."""
    return " --set verify=hash" if resume_check(stored_bytes, blocks).share < 1 else ""


def chosen(cells: Collection[Cell], check: Check) -> list[Cell]:
    """The share of the blocks (epoch, index) that a check hashes, in order; at least one where there is one."""
    count = math.ceil(check.share * len(cells))
    if count == len(cells):
        return sorted(cells)

    def draw(cell: Cell) -> bytes:
        return hashlib.sha256(f"{check.seed} {cell[0]} {cell[1]}".encode()).digest()

    return sorted(sorted(cells, key=draw)[:count])
