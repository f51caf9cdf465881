"""FORMAT.md as code: blocks, arrays, keys, codecs, block size. No zarr here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from deit_pipe.store.formats import TargetFormat
from deit_pipe.store.manifest import ZARR_ROOT

Codec = Literal["float", "class", "level", "raw"]

OBJECT_BYTES = (
    16 * 2**20
)  # of the largest array of a block, before compression: a good size for disks and object stores
ROW_BYTES_MAX = 128 * 2**20  # of a block's float32 logits, which the stage holds while it fills the block
BLOCKS_PER_EPOCH = 8  # at least, so that several ranks share an epoch
BLOCK_FLOOR = 256  # slots; below that the per-file cost wins
CHUNK_BYTES = 2 * 2**20  # of an inner chunk, before compression: what other readers fetch at least


@dataclass(frozen=True, order=True, slots=True)
class Block:
    """Slots start..stop (exclusive) of one epoch; `index` counts blocks inside the epoch."""

    epoch: int
    index: int
    start: int
    stop: int

    def __str__(self) -> str:
        return f"epoch {self.epoch}, slots {self.start}..{self.stop - 1}"

    @property
    def slots(self) -> int:
        """How many slots it has."""
        return self.stop - self.start


@dataclass(frozen=True)
class ArraySpec:
    """One stored array [epochs, slots, *row]."""

    name: str
    dtype: np.dtype[Any]
    fill: int | float
    row: tuple[int, ...]
    row_dims: tuple[str, ...]
    codec: Codec

    @property
    def row_bytes(self) -> int:
        """Bytes of one slot before compression."""
        return int(self.dtype.itemsize * np.prod(self.row, dtype=np.int64))


def array_specs(fmt: TargetFormat) -> list[ArraySpec]:
    """Return the arrays of a format, in the order in which a block writes them.

    Fills are values that no written cell has; a fingerprint may be any number, so its fill says nothing: the
    ledger does.
    """
    classes = fmt.class_dtype
    half = np.dtype(np.float16)
    specs = [
        ArraySpec("teacher_label", classes, -1, (), (), "class"),
        ArraySpec("fingerprint", np.dtype(np.uint32), 0, (), (), "raw"),
    ]
    if fmt.kind == "dense":
        specs.append(ArraySpec("logits", half, float("nan"), (fmt.num_classes,), ("class",), "float"))
    elif fmt.kind == "dense8":
        # every row has a level 160, so that a row of zeros was never written
        specs.append(ArraySpec("logit_level", np.dtype(np.uint8), 0, (fmt.num_classes,), ("class",), "level"))
        specs.append(ArraySpec("logit_step", half, float("nan"), (), (), "float"))
    elif fmt.kind == "topk":
        specs.append(ArraySpec("topk_class", classes, -1, (fmt.k,), ("rank",), "class"))
        specs.append(ArraySpec("topk_logp", half, float("nan"), (fmt.k,), ("rank",), "float"))
        if fmt.other_taus:
            specs.append(ArraySpec("lse_tau", half, float("nan"), (len(fmt.other_taus),), ("tau",), "float"))
    return specs


def blocks_of(epoch: int, num_slots: int, block_slots: int) -> Iterator[Block]:
    """Cut one epoch into blocks; only the last may be shorter."""
    for index, start in enumerate(range(0, num_slots, block_slots)):
        yield Block(epoch, index, start, min(start + block_slots, num_slots))


def blocks_per_epoch(num_slots: int, block_slots: int) -> int:
    """Count the blocks of one epoch."""
    return -(-num_slots // block_slots)


def block_slots_for(
    fmt: TargetFormat, num_classes: int, mix_group: int, num_samples: int, object_bytes: int = OBJECT_BYTES
) -> int:
    """Choose the slots of a block: mix_group times a power of two.

    As many as keep the largest array near `object_bytes` and the float32 logits of a block within 128 MiB,
    at most an eighth of an epoch, at least 256 (or one group).
    """
    row = max(spec.row_bytes for spec in array_specs(fmt))
    limit = min(object_bytes // row, ROW_BYTES_MAX // (4 * num_classes))
    limit = max(BLOCK_FLOOR, min(limit, -(-num_samples // BLOCKS_PER_EPOCH)))
    slots = max(1, mix_group)
    while slots * 2 <= limit:
        slots *= 2
    return slots


def chunk_slots(spec: ArraySpec, block_slots: int) -> int:
    """Slots of an inner chunk: the largest divisor of the block within CHUNK_BYTES."""
    target = max(1, CHUNK_BYTES // spec.row_bytes)
    if block_slots <= target:
        return block_slots
    best = max(n for n in range(1, target + 1) if block_slots % n == 0)
    return best if best * 8 >= target else block_slots


def teacher_root(teacher: str) -> str:
    """Key of a teacher's zarr group."""
    return f"{ZARR_ROOT}/{teacher}"


def metadata_key(teacher: str, array: str) -> str:
    """Key of an array's zarr.json."""
    return f"{ZARR_ROOT}/{teacher}/{array}/zarr.json"


def object_key(teacher: str, spec: ArraySpec, epoch: int, index: int) -> str:
    """Key of the one object that holds a block of an array."""
    return f"{ZARR_ROOT}/{teacher}/{spec.name}/c/{epoch}/{index}" + "/0" * len(spec.row)


def first_array(fmt: TargetFormat) -> ArraySpec:
    """The array whose objects are the blocks of format 3: the largest, but not the fingerprints."""
    return max((spec for spec in array_specs(fmt) if spec.name != "fingerprint"), key=lambda spec: spec.row_bytes)
