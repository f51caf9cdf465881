"""Records of an ImageNet-sized teacher without their blocks, for benchmarks of what reads or weighs only the ledger."""

import os
from pathlib import Path

import numpy as np
from store_fakes import make_manifest, make_samples, make_teacher

from deit_pipe.store.index import MERGE_FILES, _merge, _write
from deit_pipe.store.layout import Block, array_specs, blocks_of, blocks_per_epoch
from deit_pipe.store.ledger import want_epochs
from deit_pipe.store.manifest import Manifest, TeacherIdentity, create_cache, write_teacher
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.proof.witness import BlockWitness
from deit_pipe.store.record import HEADER, BlockRecord, StoredObject
from deit_pipe.store.sealed import to_columns
from deit_pipe.store.statistics import BlockStatistics

IMAGENET = 1_281_167
RECORDS_EPOCHS, RECORDS_PER_EPOCH = 300, 157


def made_records(
    manifest: Manifest, teacher: TeacherIdentity, epoch: int, random: np.random.Generator
) -> list[BlockRecord]:
    """The records of an epoch, with numbers of the size that real ones have."""
    records = []
    for unit in blocks_of(epoch, manifest.num_samples, teacher.block_slots):
        top1, entropy = random.random(2).tolist()
        statistics = BlockStatistics(
            agree=int(random.integers(unit.slots)),
            agree_either=int(random.integers(unit.slots)),
            ties=3,
            top1=top1,
            entropy=entropy,
            topk_mass=top1 if teacher.format.kind == "topk" else None,
            confidence=tuple(random.integers(0, 900, 20).tolist()),
        )
        names = [HEADER, *(spec.name for spec in array_specs(teacher.format))]
        objects = {name: StoredObject(int(random.integers(10**6)), random.bytes(32).hex()) for name in names}
        records.append(
            BlockRecord(
                epoch=epoch,
                index=unit.index,
                start=unit.start,
                stop=unit.stop,
                rank=unit.index % 8,
                run="0123456789ab",
                written=1.7e9 + epoch * 1e3 + unit.index + top1,
                objects=objects,
                statistics=statistics,
                cache=manifest.digest,
                teacher=teacher.digest,
                witness=_witness(unit, manifest.num_classes, random),
                token=random.bytes(16).hex(),
            )
        )
    return records


def _witness(unit: Block, classes: int, random: np.random.Generator) -> BlockWitness:
    slots = np.sort(random.choice(np.arange(unit.start, unit.stop), 2, replace=False))
    sums = random.standard_normal((2, 4)).astype(np.float32)
    labels = random.integers(0, classes, (2, 2))
    lam = random.random(2).astype(np.float32)
    return BlockWitness(
        slots=tuple(slots.tolist()),
        sums=tuple(tuple(row) for row in sums.tolist()),
        labels=tuple(tuple(row) for row in labels.tolist()),
        lam=tuple(lam.tolist()),
    )


def make_ledger(path: Path) -> None:
    """Records without objects: enough for everything that reads only the ledger."""
    os.fsync = lambda _: None
    block = 8192
    assert blocks_per_epoch(IMAGENET, block) == RECORDS_PER_EPOCH
    teacher, manifest = make_teacher("dense", 1000, block_slots=block), make_manifest(IMAGENET, 1000)
    create_cache(path, manifest, make_samples(IMAGENET, 1000), {})
    place = open_location(path)
    write_teacher(place, teacher)
    random = np.random.default_rng(0)
    for epoch in range(RECORDS_EPOCHS):
        counts = {epoch: random.integers(900, 1400, 1000)}
        _write(place, f"ledger/{teacher.name}", to_columns(made_records(manifest, teacher, epoch, random)), counts)
        if epoch % (MERGE_FILES - 1) == MERGE_FILES - 2 or epoch == RECORDS_EPOCHS - 1:
            want_epochs(place, teacher.name, epoch + 1)
            _merge(place, manifest, teacher)
