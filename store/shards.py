"""One block of one array <-> the bytes of one zarr shard, in memory.

zarr encodes into and decodes from a dictionary; reading, writing, fsync and hashing of whole objects is ours
(`places/`). So there is no read-modify-write of an old shard, the SHA-256 is that of the bytes meant to
be written, a block is checked before it is decoded, and local and remote caches run the same code.
"""

import json
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.blocks.shard_index import ShardShape, check_declared
from deit_pipe.store.layout import ArraySpec, chunk_slots

# core zarr v3 only, so that xarray, tensorstore and zarrs read the store
_CODECS: dict[str, dict[str, Any]] = {
    "float": {"name": "blosc", "configuration": {"cname": "zstd", "clevel": 5, "shuffle": "shuffle"}},
    "class": {"name": "blosc", "configuration": {"cname": "zstd", "clevel": 5, "shuffle": "bitshuffle"}},
    # of 8 bits, of which neither bytes nor bits can be shuffled with profit
    "level": {"name": "zstd", "configuration": {"level": 5, "checksum": False}},
    # random numbers do not compress; zstd is here for the padding of a ragged last block
    "raw": {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
}


class ShardCodec:
    """Encode and decode the blocks of one array. Safe to use from several threads."""

    def __init__(self, spec: ArraySpec, block_slots: int) -> None:
        self.spec = spec
        self.block_slots = block_slots
        self.shape = ShardShape.of(spec, block_slots)
        self._scratch: dict[int, tuple[Any, Any]] = {}
        self._lock = threading.Lock()

    def encode(self, rows: NDArray[Any]) -> bytes:
        """Encode rows [n, *row], n <= block_slots, as the bytes of a whole shard."""
        with self._lock:
            store, array = self._array(len(rows))
            key = self._key
            store.pop(key, None)
            array[0] = rows
            data: bytes = store.pop(key).to_bytes()
            return data

    def decode(self, data: bytes, slots: int) -> NDArray[Any]:
        """Decode a shard into rows [slots, *row]; what lies before its first chunk is nothing to it.

        Raises:
            ValueError or RuntimeError: the bytes are damaged (what kind depends on the codec).
        """
        from zarr.buffer.cpu import Buffer

        check_declared(data, self.shape, slots)
        with self._lock:
            store, array = self._array(slots)
            store[self._key] = Buffer.from_bytes(data)
            try:
                return np.asarray(array[0])
            finally:
                store.pop(self._key, None)

    @property
    def _key(self) -> str:
        return "c/0/0" + "/0" * len(self.spec.row)

    def _array(self, slots: int) -> tuple[Any, Any]:
        """Return an in-memory array of one block; only two sizes are ever asked for, full and ragged last."""
        if slots not in self._scratch:
            self._scratch[slots] = _create(self.spec, 1, slots, self.block_slots)
        return self._scratch[slots]


def array_metadata(spec: ArraySpec, epochs: int, num_slots: int, block_slots: int) -> bytes:
    """Make the zarr.json of an array [epochs, num_slots, *row]."""
    store, _ = _create(spec, epochs, num_slots, block_slots)
    data: bytes = store["zarr.json"].to_bytes()
    return data


def group_metadata() -> bytes:
    """Make the zarr.json of a teacher's group."""
    return json.dumps({"attributes": {}, "zarr_format": 3, "node_type": "group"}).encode()


def metadata_agrees(stored: bytes, expected: bytes) -> bool:
    """Whether two zarr.json describe the same array; null and absent are the same."""
    try:
        return bool(_essence(json.loads(stored)) == _essence(json.loads(expected)))
    except (ValueError, TypeError, AttributeError):
        return False


def _essence(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _essence(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in (None, [], {})}
    return [_essence(item) for item in value] if isinstance(value, list) else value


def _create(spec: ArraySpec, epochs: int, num_slots: int, block_slots: int) -> tuple[Any, Any]:
    import zarr
    from zarr.storage import MemoryStore

    codec = _CODECS[spec.codec]
    settings = dict(codec["configuration"])
    if codec["name"] == "blosc":
        settings |= {"typesize": int(spec.dtype.itemsize), "blocksize": 0}
    objects: dict[str, Any] = {}
    array = zarr.create_array(
        MemoryStore(objects),
        shape=(int(epochs), int(num_slots), *spec.row),
        dtype=spec.dtype.name,
        chunks=(1, chunk_slots(spec, block_slots), *spec.row),
        shards=(1, int(block_slots), *spec.row),
        fill_value=spec.fill,
        compressors=[{"name": codec["name"], "configuration": settings}, {"name": "crc32c"}],
        filters=[],
        dimension_names=["epoch", "slot", *spec.row_dims],
        # an all-fill chunk is otherwise not written: a block of zero fingerprints would be no object at all
        config={"write_empty_chunks": True},
    )
    return objects, array
