"""Blocks of formats 1 and 2: one object for each array, found by the block's record. Read, never written."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.blocks.block_object import ObjectDamaged
from deit_pipe.store.blocks.objects import Arrays, SizeProblem, StoredBlocks, size_words
from deit_pipe.store.layout import ArraySpec, array_specs, object_key, teacher_root
from deit_pipe.store.manifest import TeacherIdentity
from deit_pipe.store.places.location import Location, ObjectMissing
from deit_pipe.store.record import BlockRecord, digest_of
from deit_pipe.store.shards import ShardCodec


class ArrayObjects(StoredBlocks):
    """The blocks of one teacher of a cache of format 1 or 2."""

    def __init__(self, place: Location, teacher: TeacherIdentity) -> None:
        self._place, self._teacher = place, teacher
        self._codecs = {spec.name: ShardCodec(spec, teacher.block_slots) for spec in array_specs(teacher.format)}

    def arrays(self, record: BlockRecord) -> Arrays:
        """See `StoredBlocks`."""
        return {name: self.rows(record, name) for name in self._codecs}

    def rows(self, record: BlockRecord, name: str) -> NDArray[Any]:
        """See `StoredBlocks`."""
        return self._decode(record, self._codecs[name], self._fetch(record, self._codecs[name].spec))

    def damage(self, record: BlockRecord, *, decode: bool) -> tuple[list[ObjectDamaged], Arrays]:
        """See `StoredBlocks`."""
        found: list[ObjectDamaged] = []
        arrays: Arrays = {}
        for name, codec in self._codecs.items():
            try:
                data = self._fetch(record, codec.spec)
                if decode:
                    arrays[name] = self._decode(record, codec, data)
            except ObjectDamaged as damaged:
                found.append(damaged)
        return found, {} if found else arrays

    def size_problems(self, columns: Mapping[str, NDArray[Any]]) -> list[SizeProblem]:
        """See `StoredBlocks`."""
        sizes = self._place.sizes(teacher_root(self._teacher.name))
        epochs, indices = columns["epoch"].tolist(), columns["index"].tolist()
        found = []
        for name, codec in self._codecs.items():
            recorded = columns.get(f"bytes.{name}", np.full(len(epochs), -1)).tolist()
            for row, (epoch, index, size) in enumerate(zip(epochs, indices, recorded, strict=True)):
                key = object_key(self._teacher.name, codec.spec, epoch, index)
                if sizes.get(key) != size:
                    found.append(SizeProblem(name, row, size_words(sizes, key, size), key))
        return found

    def shards(self, record: BlockRecord) -> dict[str, bytes]:
        """The arrays as they are stored, every byte compared; raises ObjectDamaged."""
        return {name: self._fetch(record, codec.spec) for name, codec in self._codecs.items()}

    def _fetch(self, record: BlockRecord, spec: ArraySpec) -> bytes:
        key = object_key(self._teacher.name, spec, record.epoch, record.index)
        stored = record.objects.get(spec.name)
        if stored is None:
            raise ObjectDamaged(spec.name, key, "is not in the block's record")
        try:
            data = self._place.get(key)
        except ObjectMissing:
            raise ObjectDamaged(spec.name, key, "is missing") from None
        if len(data) != stored.bytes:
            raise ObjectDamaged(spec.name, key, size_words({key: len(data)}, key, stored.bytes))
        if digest_of(data) != stored.sha256:
            raise ObjectDamaged(spec.name, key, "fails its SHA-256")
        return data

    def _decode(self, record: BlockRecord, codec: ShardCodec, data: bytes) -> NDArray[Any]:
        try:
            return np.asarray(codec.decode(data, record.stop - record.start))
        except (ValueError, RuntimeError) as error:
            key = object_key(self._teacher.name, codec.spec, record.epoch, record.index)
            raise ObjectDamaged(codec.spec.name, key, f"does not decode: {error}") from error
