"""Every array of a teacher as a plain zarr array in a new folder, for other programs."""

from pathlib import Path

import numpy as np

from deit_pipe.store.blocks.choice import blocks_in
from deit_pipe.store.errors import FormatInvalid
from deit_pipe.store.layout import array_specs, object_key
from deit_pipe.store.manifest import ZARR_ROOT
from deit_pipe.store.places.local import LocalDirectory
from deit_pipe.store.shards import ShardCodec, array_metadata, group_metadata
from deit_pipe.store.stored_cache import StoredCache


def write_zarr(stored: StoredCache, folder: str) -> list[str]:
    """Write a zarr group `folder/NAME` for each teacher: every array [epochs, slots, ...]; fill where no block is.

    Returns:
        the names of the teachers.

    Raises:
        FormatInvalid: the folder is there and not empty. ObjectDamaged: a block is damaged.
    """
    place = LocalDirectory(folder)
    if Path(folder).exists() and (Path(folder).is_file() or any(Path(folder).iterdir())):
        raise FormatInvalid(f"{folder} is there and not empty", cure="give a new folder with --zarr")
    root = ZARR_ROOT

    def put(key: str, data: bytes) -> None:
        place.put(key.removeprefix(f"{root}/"), data)

    place.put("zarr.json", group_metadata())
    for name in stored.teacher_names:
        teacher, ledger = stored.teacher(name).identity, stored.teacher(name).ledger
        blocks = blocks_in(stored.place, stored.manifest, teacher)
        put(f"{root}/{name}/zarr.json", group_metadata())
        epochs = max([ledger.epochs or 0, *(epoch + 1 for epoch, _ in ledger.cells()), 1])
        codecs = [ShardCodec(spec, teacher.block_slots) for spec in array_specs(teacher.format)]
        for codec in codecs:
            metadata = array_metadata(codec.spec, epochs, stored.manifest.num_samples, teacher.block_slots)
            put(f"{root}/{name}/{codec.spec.name}/zarr.json", metadata)
        for record in ledger.records():
            arrays = blocks.arrays(record)
            for codec in codecs:
                rows = np.ascontiguousarray(arrays[codec.spec.name])
                put(object_key(name, codec.spec, record.epoch, record.index), codec.encode(rows))
    return stored.teacher_names
