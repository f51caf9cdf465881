"""What reading a step's targets costs here: of a scratch cache of random answers, in the format of the real one."""

import tempfile
import time
from pathlib import Path

import numpy as np

from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.pipeline.selected_samples import SelectedSamples
from deit_pipe.stages.measuring.views import ViewSource
from deit_pipe.stages.opened.same_samples import manifest_for
from deit_pipe.store.formats import TargetFormat
from deit_pipe.store.manifest import SampleIndex, TeacherIdentity, create_cache
from deit_pipe.store.proof.witness import SUMS, BlockWitness
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.writer import TargetWriter

MOST_VIEWS, MOST_EPOCHS, BATCH = 4096, 8, 128


def target_read_seconds(source: ViewSource, targets: TargetFormat, block_slots: int) -> float:
    """Seconds for one view, reading ahead as training does; every byte is checked on the way."""
    table: SampleTable = source.table
    if len(table) > MOST_VIEWS:
        table = SelectedSamples(table, positions=np.arange(MOST_VIEWS))
    random = np.random.Generator(np.random.Philox(0))
    identity = TeacherIdentity(
        name="scratch",
        model="scratch",
        weights_sha256="0" * 64,
        head="random",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        image_size=source.image_size,
        precision="fp32",
        num_classes=len(table.class_names),
        batch_size=1,
        targets=targets.text,
        taus=targets.taus,
        block_slots=min(block_slots, MOST_VIEWS),
    )
    with tempfile.TemporaryDirectory() as scratch:
        place = str(Path(scratch) / "cache")
        manifest = manifest_for(table, source.recipe, source.plan.seed, source.image_size)
        nothing = np.zeros(len(table), np.int64)
        create_cache(place, manifest, SampleIndex(list(table.keys), table.labels, nothing, table.class_names), {})
        epochs = min(MOST_EPOCHS, -(-MOST_VIEWS // len(table)))
        with TargetWriter.open(place, identity, epochs=epochs) as writer:
            for block in writer.mine:
                logits = random.standard_normal((block.slots, identity.num_classes)).astype(np.float32)
                prints = np.zeros(block.slots, np.uint32)
                own = nothing[: block.slots]
                writer.write(block, logits, prints, own, own, witness_of_nothing(block.start))
        reader = TargetReader(place, identity.name)
        starts = range(0, len(table), BATCH)
        slots = [np.arange(start, min(start + BATCH, len(table))) for start in starts]
        stream = reader.stream((epoch, some) for epoch in range(epochs) for some in slots)
        next(stream)  # threads start, nothing is ahead yet
        started = time.perf_counter()
        read = sum(len(targets.teacher_label) for targets in stream)
        return (time.perf_counter() - started) / read


def witness_of_nothing(slot: int) -> BlockWitness:
    """A witness that a block can be written with; nobody compares it."""
    return BlockWitness(slots=(slot,), sums=((0.0,) * SUMS,), labels=((0, 0),), lam=(1.0,))
