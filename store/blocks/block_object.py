r"""A block of format 3 <-> the one object that holds it: everything about it lies in it, so that one create commits it.

    "deit-pipe block\n", uint32 bytes of the next part, little endian
    JSON: cache, teacher, epoch, index, start, stop, token, arrays with their SHA-256, statistics, witness
    SHA-256 of all before                                                               (these three: the header)
    the smaller arrays, one zarr shard each, in the order of the JSON
    the largest array as a zarr shard, its offsets counted from the beginning of the object

zarr follows the offsets and never looks at what lies before: the object is a good shard of its array.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.blocks.shard_index import ShardShape, shifted
from deit_pipe.store.layout import Block, array_specs, first_array, object_key
from deit_pipe.store.manifest import Manifest, TeacherIdentity
from deit_pipe.store.record import HEADER, BlockRecord, StoredObject, digest_of, owner_of
from deit_pipe.store.shards import ShardCodec
from deit_pipe.store.strict.json_values import strict_json

MAGIC = b"deit-pipe block\n"
_START = struct.Struct("<16sI")
_DIGEST_BYTES = 32
JSON_MOST = 2**16
HEADER_GUESS = 4096
"""Bytes of an object that hold its header nearly always."""


class ObjectDamaged(Exception):
    """A stored object is not what it must be.

    Attributes:
        array: its name, or `header`.
        key: of the object.
        what: in words, such as `fails its SHA-256`.
        foreign: it is whole, but of another teacher or cache.
    """

    def __init__(self, array: str, key: str, what: str, *, foreign: bool = False) -> None:
        super().__init__(f"{array} ({key}) {what}")
        self.array, self.key, self.what, self.foreign = array, key, what, foreign


class BlockCodec:
    """Makes and opens the blocks of one teacher of a cache. Safe to use from several threads.

    Attributes:
        owner: whose blocks these are.
        specs: the arrays in the order in which they lie in a block, the largest last.
    """

    def __init__(self, manifest: Manifest, teacher: TeacherIdentity) -> None:
        self._teacher = teacher
        self._first = first_array(teacher.format)
        self._slots = manifest.num_samples
        self.owner = owner_of(manifest, teacher)
        self.specs = [*(spec for spec in array_specs(teacher.format) if spec.name != self._first.name), self._first]
        self._codecs = {spec.name: ShardCodec(spec, teacher.block_slots) for spec in self.specs}

    def key(self, epoch: int, index: int) -> str:
        """Key of a block's object."""
        return object_key(self._teacher.name, self._first, epoch, index)

    def encode(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, bytes]:
        """The shards of a block's arrays [slots, *row], by name."""
        return {spec.name: self._codecs[spec.name].encode(arrays[spec.name]) for spec in self.specs}

    def pack(self, record: BlockRecord, shards: Mapping[str, bytes]) -> tuple[bytes, BlockRecord]:
        """Make the object of a block.

        Args:
            record: what is known of it; its objects and owner are filled in.
            shards: what `encode` gave.

        Returns:
            the object's bytes, and the record as anybody will read it from there.
        """
        first = self._first.name
        parts = {spec.name: StoredObject(len(shards[spec.name]), digest_of(shards[spec.name])) for spec in self.specs}
        record = replace(record, objects=parts, cache=self.owner.cache, teacher=self.owner.teacher)
        # the shard's digest depends on its offsets, they on the length of the header, which no digest changes
        gap = len(_header(record)) + sum(parts[spec.name].bytes for spec in self.specs[:-1])
        moved = shifted(shards[first], ShardShape.of(self._first, self._teacher.block_slots), gap)
        parts[first] = StoredObject(len(moved), digest_of(moved))
        header = _header(record)
        packed = b"".join([header, *(shards[spec.name] for spec in self.specs[:-1]), moved])
        return packed, _with_header(record, header)

    def read_header(self, data: bytes, block: Block, size: int | None = None) -> BlockRecord:
        """Read the header of the block that must lie here, from the first bytes of its object.

        Args:
            data: the object, or so much of its beginning.
            block: whose object it must be.
            size: of the whole object, where it is known.

        Raises:
            ObjectDamaged: it is none, torn, of another block, or of another teacher or cache.
        """
        key = self.key(block.epoch, block.index)
        length = header_length(data)
        if length is None or length > len(data):
            raise ObjectDamaged(HEADER, key, "is no block, or cut off")
        body, stated = data[: length - _DIGEST_BYTES], data[length - _DIGEST_BYTES : length]
        if hashlib.sha256(body).digest() != stated:
            raise ObjectDamaged(HEADER, key, "fails its SHA-256")
        try:
            record = BlockRecord.from_json(strict_json(body[_START.size :], JSON_MOST))
            sizes = [stored.bytes for stored in record.objects.values()]
            fits = all(type(number) is int and number > 0 for number in sizes)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            raise ObjectDamaged(HEADER, key, "cannot be read") from None
        if record.owner != self.owner:
            what = f"belongs to another teacher or cache ({record.owner})"
            raise ObjectDamaged(HEADER, key, what, foreign=True)
        if record.block != block:
            raise ObjectDamaged(HEADER, key, f"is the block of {record.block}")
        if not fits or list(record.objects) != [spec.name for spec in self.specs]:
            raise ObjectDamaged(HEADER, key, "names other arrays than the teacher's")
        record = _with_header(record, data[:length])
        if size is not None and size != record.stored_bytes:
            what = f"has {size:,} bytes, its header says {record.stored_bytes:,}"
            raise ObjectDamaged(self._first.name, key, what)
        return record

    def open(self, data: bytes, block: Block) -> BlockRecord:
        """Read the header of a whole object and compare everything with it; returns it.

        Raises:
            ObjectDamaged: names the first array that is damaged.
        """
        record = self.read_header(data, block, len(data))
        for spec in self.specs:
            self.check(spec.name, part(data, record, spec.name), record)
        return record

    def check(self, name: str, data: bytes, record: BlockRecord) -> None:
        """Compare the bytes of one array with its record; raises ObjectDamaged."""
        if digest_of(data) != record.objects[name].sha256:
            raise ObjectDamaged(name, self.key(record.epoch, record.index), "fails its SHA-256")

    def decode(self, name: str, data: bytes, record: BlockRecord) -> NDArray[Any]:
        """Decode an array [slots, *row]: the whole object for the largest array, `part` of it for the others.

        Raises:
            ObjectDamaged: it does not decode.
        """
        try:
            return np.asarray(self._codecs[name].decode(data, record.stop - record.start))
        except (ValueError, RuntimeError) as error:
            key = self.key(record.epoch, record.index)
            raise ObjectDamaged(name, key, f"does not decode: {error}") from error

    def arrays(self, data: bytes, record: BlockRecord) -> dict[str, NDArray[Any]]:
        """All arrays of a whole object that `open` has taken; raises ObjectDamaged."""
        return {
            spec.name: self.decode(
                spec.name, data if self.is_first(spec.name) else part(data, record, spec.name), record
            )
            for spec in self.specs
        }

    def is_first(self, name: str) -> bool:
        """Whether an array is the largest, which lies at the end and has its offsets counted from the beginning."""
        return name == self._first.name


def part(data: bytes, record: BlockRecord, name: str) -> bytes:
    """The bytes of one array in a whole object."""
    start = record.offset(name)
    return data[start : start + record.objects[name].bytes]


def header_length(data: bytes) -> int | None:
    """Bytes of the header that begins here; None if none does, or a longer one than any block has."""
    if len(data) < _START.size:
        return None
    magic, length = _START.unpack_from(data)
    if magic != MAGIC or length > JSON_MOST:
        return None
    return _START.size + int(length) + _DIGEST_BYTES


def _header(record: BlockRecord) -> bytes:
    text = json.dumps(record.to_json(), allow_nan=False, separators=(",", ":")).encode()
    body = _START.pack(MAGIC, len(text)) + text
    return body + hashlib.sha256(body).digest()


def _with_header(record: BlockRecord, header: bytes) -> BlockRecord:
    parts = {HEADER: StoredObject(len(header), digest_of(header)), **record.objects}
    return replace(record, objects=parts)
