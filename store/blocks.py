"""Fetch one array of a committed block: get, compare the SHA-256, decode. Readers, checks and repair all come here."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.layout import object_key
from deit_pipe.store.places.location import Location, ObjectMissing
from deit_pipe.store.record import BlockRecord, digest_of
from deit_pipe.store.shards import ShardCodec


class ObjectDamaged(Exception):
    """A stored object is not what its record says.

    Attributes:
        array: its name.
        key: of the object.
        what: in words, such as `fails its SHA-256`.
    """

    def __init__(self, array: str, key: str, what: str) -> None:
        super().__init__(f"{array} ({key}) {what}")
        self.array, self.key, self.what = array, key, what


def fetch_bytes(place: Location, array: str, key: str, record: BlockRecord) -> bytes:
    """Return the bytes of one object of a block, proven to be the recorded ones.

    Raises:
        ObjectDamaged: not in the record, missing, or other bytes.
    """
    stored = record.objects.get(array)
    if stored is None:
        raise ObjectDamaged(array, key, "is not in the block's record")
    try:
        data = place.get(key)
    except ObjectMissing:
        raise ObjectDamaged(array, key, "is missing") from None
    if digest_of(data) != stored.sha256:
        raise ObjectDamaged(array, key, "fails its SHA-256")
    return data


def fetch_rows(place: Location, teacher: str, codec: ShardCodec, record: BlockRecord) -> NDArray[Any]:
    """Return one array of a block, [slots, *row], as stored.

    Raises:
        ObjectDamaged: as `fetch_bytes`, or the bytes do not decode.
    """
    key = object_key(teacher, codec.spec, record.epoch, record.index)
    data = fetch_bytes(place, codec.spec.name, key, record)
    return decode_rows(codec, key, data, record)


def decode_rows(codec: ShardCodec, key: str, data: bytes, record: BlockRecord) -> NDArray[Any]:
    """Decode the bytes of one object.

    Raises:
        ObjectDamaged: they do not decode.
    """
    try:
        return np.asarray(codec.decode(data, record.stop - record.start))
    except (ValueError, RuntimeError) as error:
        raise ObjectDamaged(codec.spec.name, key, f"does not decode: {error}") from error
