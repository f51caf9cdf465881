"""A small made-up cache for the store's tests: every logit is a function of (seed, epoch, slot)."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from deit_pipe.store.blocks.block_object import BlockCodec
from deit_pipe.store.formats import Targets, decode, encode
from deit_pipe.store.identity import canonical_digest
from deit_pipe.store.layout import Block
from deit_pipe.store.ledger import read_ledger
from deit_pipe.store.manifest import (
    Manifest,
    SampleIndex,
    TeacherIdentity,
    create_cache,
    read_manifest,
    read_teacher,
)
from deit_pipe.store.places.location import Location
from deit_pipe.store.proof.witness import BlockWitness
from deit_pipe.store.writer import TargetWriter

FORMATS = ("dense", "dense8", "topk:3", "none")


def make_manifest(num_samples: int = 100, num_classes: int = 10, **changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "samples_digest": "5a" * 32,
        "num_samples": num_samples,
        "num_classes": num_classes,
        "recipe": {"name": "small", "mix_prob": 0.5, "mix": {"alpha": 0.8}},
        "seed": 3,
        "image_size": 32,
        "views_version": 1,
    }
    fields |= changes
    return Manifest(**{"recipe_digest": canonical_digest(fields["recipe"]), **fields})


def make_samples(num_samples: int = 100, num_classes: int = 10) -> SampleIndex:
    return SampleIndex(
        [f"image-{i}.png" for i in range(num_samples)],
        np.arange(num_samples) % num_classes,
        np.full(num_samples, 100, np.int64),
        tuple(f"class {c}" for c in range(num_classes)),
    )


def make_teacher(targets: str = "dense", num_classes: int = 10, **changes: Any) -> TeacherIdentity:
    fields: dict[str, Any] = {
        "name": targets.replace(":", "-"),
        "model": "resnet18.a1_in1k",
        "weights_sha256": "c0" * 32,
        "head": "trained",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
        "image_size": 32,
        "precision": "fp32",
        "num_classes": num_classes,
        "batch_size": 16,
        "targets": targets,
        "taus": (1.0, 3.0),
        "block_slots": 16,
    }
    return TeacherIdentity(**{**fields, **changes})


def answers(block: Block, num_classes: int = 10, seed: int = 0) -> tuple[Any, ...]:
    """logits, fingerprints, labels, partner labels and the witness of a block."""
    key = np.array([seed, block.epoch], np.uint64)
    random = np.random.Generator(np.random.Philox(key=key))
    logits = (random.standard_normal((block.stop, num_classes)) * 3).astype(np.float32)
    prints = np.random.Generator(np.random.Philox(key=key + 1000)).integers(0, 2**32, block.stop, np.uint32)
    labels = np.arange(block.stop) % num_classes
    own = labels[block.start :]
    return logits[block.start :], prints[block.start :], own, own[::-1], made_witness(block, num_classes, seed)


def made_witness(block: Block, num_classes: int = 10, seed: int = 0) -> BlockWitness:
    """The first two slots of a block, with numbers that no other block has."""
    slots = tuple(range(block.start, min(block.start + 2, block.stop)))
    key = np.array([seed + 2000, block.epoch], np.uint64)
    values = np.random.Generator(np.random.Philox(key=key)).standard_normal((block.stop, 4)).astype(np.float32)
    return BlockWitness(
        slots=slots,
        sums=tuple(tuple(values[slot].tolist()) for slot in slots),
        labels=tuple((slot % num_classes, (slot + 1) % num_classes) for slot in slots),
        lam=tuple([0.25, 0.75][: len(slots)]),
    )


def create(location: str | Path | Location, num_samples: int = 100, num_classes: int = 10) -> Manifest:
    manifest = make_manifest(num_samples, num_classes)
    create_cache(location, manifest, make_samples(num_samples, num_classes), {"numpy": np.__version__})
    return manifest


def fill(
    location: str | Path | Location, teacher: TeacherIdentity, epochs: int = 2, seed: int = 0, **options: Any
) -> list[Block]:
    """Write whatever is missing; returns it."""
    with TargetWriter.open(location, teacher, epochs=epochs, **options) as writer:
        write_blocks(writer, writer.mine, teacher.num_classes, seed)
        return writer.mine


def write_blocks(writer: TargetWriter, blocks: Iterable[Block], num_classes: int = 10, seed: int = 0) -> None:
    for block in blocks:
        writer.write(block, *answers(block, num_classes, seed))


def expected(teacher: TeacherIdentity, epoch: int, slots: np.ndarray, num_samples: int = 100, seed: int = 0) -> Targets:
    """What a reader must give: the same encode and decode, without a store."""
    logits, prints, *_ = answers(Block(epoch, 0, 0, num_samples), teacher.num_classes, seed)
    arrays = encode(logits[slots], teacher.format)
    return decode({**arrays, "fingerprint": prints[slots]}, teacher.format)


def assert_same(got: Targets, wanted: Targets) -> None:
    for name in (field.name for field in dataclasses.fields(wanted)):
        one, other = getattr(got, name), getattr(wanted, name)
        if isinstance(other, np.ndarray):
            assert one.dtype == other.dtype, name
            np.testing.assert_array_equal(one, other, err_msg=name)
        else:
            assert one == other, name


def flip_bit(cache: str | Path, teacher: str, array: str, epoch: int, index: int, bit: int = 43) -> Path:
    """Flip one bit of one array (or of the `header`) of a committed block; returns the block's file."""
    record = read_ledger(cache, teacher, tolerant=True).record(epoch, index)
    manifest, identity = read_manifest(cache), read_teacher(cache, teacher)
    path = Path(cache) / BlockCodec(manifest, identity).key(epoch, index)
    data = bytearray(path.read_bytes())
    start, size = record.offset(array), record.objects[array].bytes
    data[start + bit // 8 % size] ^= 1 << bit % 8
    path.write_bytes(bytes(data))
    return path
