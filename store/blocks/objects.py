"""The committed blocks of a teacher as they lie in their place: fetched, compared with their SHA-256, decoded.

Readers, checks, repair and copying all come here. Since format 3 a block is one object (`block_object`); before, one
object for each array (`earlier`).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.blocks.block_object import HEADER_GUESS, BlockCodec, ObjectDamaged, header_length
from deit_pipe.store.layout import Block
from deit_pipe.store.places.location import Location, ObjectMissing
from deit_pipe.store.record import BlockRecord

FETCHED_AT_ONCE = 16

Arrays = dict[str, NDArray[Any]]


class SizeProblem(NamedTuple):
    """An object that has not the size it should have."""

    array: str
    row: int
    """Of the columns that were compared."""
    what: str
    key: str


class StoredBlocks(ABC):
    """The blocks of one teacher."""

    @abstractmethod
    def arrays(self, record: BlockRecord) -> Arrays:
        """All arrays of a block [slots, *row], every byte of them compared with its SHA-256.

        Raises:
            ObjectDamaged: missing, or not what was committed.
        """

    @abstractmethod
    def rows(self, record: BlockRecord, name: str) -> NDArray[Any]:
        """One array of a block, without fetching the others where that is possible; raises as `arrays`."""

    @abstractmethod
    def damage(self, record: BlockRecord, *, decode: bool) -> tuple[list[ObjectDamaged], Arrays]:
        """Everything that is wrong with a block; its arrays, where `decode` asked for them and nothing is wrong."""

    @abstractmethod
    def size_problems(self, columns: Mapping[str, NDArray[Any]]) -> list[SizeProblem]:
        """Compare one listing with a ledger's columns; reads no block."""


class BlockObjects(StoredBlocks):
    """Blocks of format 3. The object is the truth; a record of it may be of an earlier writing, before a repair."""

    def __init__(self, place: Location, codec: BlockCodec) -> None:
        self._place, self._codec = place, codec

    def header(self, block: Block, size: int | None = None) -> BlockRecord:
        """Read the header of a block, and no more than that where it is of the usual length.

        Raises:
            ObjectDamaged: missing, or no header of this block.
        """
        key = self._codec.key(block.epoch, block.index)
        data = self._get(key, HEADER_GUESS)
        length = header_length(data)
        if length is not None and length > len(data):
            data = self._get(key, length)
        return self._codec.read_header(data, block, size)

    def headers(self, sizes: Mapping[Block, int]) -> list[BlockRecord | ObjectDamaged]:
        """The headers of many blocks, in order, or what is wrong with them; `sizes` of their objects."""

        def one(block: Block) -> BlockRecord | ObjectDamaged:
            try:
                return self.header(block, sizes[block])
            except ObjectDamaged as damaged:
                return damaged

        if self._place.local or len(sizes) < 2:
            return [one(block) for block in sizes]
        with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
            return list(pool.map(one, sizes))

    def fetch(self, block: Block) -> tuple[bytes, BlockRecord]:
        """A whole object, every byte compared; raises ObjectDamaged."""
        data = self._get(self._codec.key(block.epoch, block.index))
        return data, self._codec.open(data, block)

    def arrays(self, record: BlockRecord) -> Arrays:
        """See `StoredBlocks`."""
        data, found = self.fetch(record.block)
        return self._codec.arrays(data, found)

    def rows(self, record: BlockRecord, name: str) -> NDArray[Any]:
        """See `StoredBlocks`."""
        if self._codec.is_first(name):
            data, found = self.fetch(record.block)
            return self._codec.decode(name, data, found)
        try:
            return self._side(record, name)
        except ObjectDamaged:
            now = self.header(record.block)
            if now.token == record.token:
                raise
            return self._side(now, name)  # repaired since the record was read

    def damage(self, record: BlockRecord, *, decode: bool) -> tuple[list[ObjectDamaged], Arrays]:
        """See `StoredBlocks`. A sound block of which the record says something else is no damage of the block."""
        try:
            data, found = self.fetch(record.block)
            arrays = self._codec.arrays(data, found) if decode else {}
        except ObjectDamaged as damaged:
            return [damaged], {}
        if found != record:
            key = self._codec.key(record.epoch, record.index)
            return [ObjectDamaged("ledger", key, "is another writing of the block than the index says")], arrays
        return [], arrays

    def size_problems(self, columns: Mapping[str, NDArray[Any]]) -> list[SizeProblem]:
        """See `StoredBlocks`."""
        found = []
        root = self._codec.key(0, 0).partition("/c/")[0]
        sizes = self._place.sizes(root)
        stored = [column for name, column in columns.items() if name.startswith("bytes.")]
        expected: list[int] = np.stack(stored).sum(axis=0).tolist() if stored else []
        cells = zip(columns["epoch"].tolist(), columns["index"].tolist(), expected, strict=True)
        for row, (epoch, index, size) in enumerate(cells):
            key = self._codec.key(epoch, index)
            if sizes.get(key) != size and not self._is_newer(columns, row, sizes.get(key)):
                found.append(SizeProblem(self._codec.specs[-1].name, row, size_words(sizes, key, size), key))
        return found

    def _is_newer(self, columns: Mapping[str, NDArray[Any]], row: int, size: int | None) -> bool:
        """Whether a block is whole, as far as its header says, and another writing of it than the columns know."""
        block = Block(*(int(columns[name][row]) for name in ("epoch", "index", "start", "stop")))
        try:
            return size is not None and self.header(block, size).token != columns["token"][row]
        except ObjectDamaged:
            return False

    def _side(self, record: BlockRecord, name: str) -> NDArray[Any]:
        start = record.offset(name)
        key = self._codec.key(record.epoch, record.index)
        data = self._get(key, start + record.objects[name].bytes, start)
        self._codec.check(name, data, record)
        return self._codec.decode(name, data, record)

    def _get(self, key: str, stop: int | None = None, start: int = 0) -> bytes:
        try:
            return self._place.get(key, start, stop)
        except ObjectMissing:
            raise ObjectDamaged(self._codec.specs[-1].name, key, "is missing") from None


def size_words(sizes: Mapping[str, int], key: str, recorded: int) -> str:
    """What is wrong with an object's size."""
    return "is missing" if key not in sizes else f"has {sizes[key]:,} bytes, recorded {recorded:,}"
