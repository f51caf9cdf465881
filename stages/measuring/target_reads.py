"""A scratch cache of random answers, in the format of the real one: what writing and reading targets cost here."""

import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.pipeline.selected_samples import SelectedSamples
from deit_pipe.stages.measuring.views import ViewSource
from deit_pipe.stages.opened.same_samples import manifest_for
from deit_pipe.store.formats import TargetFormat, Targets
from deit_pipe.store.manifest import SampleIndex, TeacherIdentity, create_cache
from deit_pipe.store.proof.witness import SUMS, BlockWitness
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.writer import TargetWriter

MOST_VIEWS, MOST_EPOCHS, BATCH = 4096, 8, 128


@dataclass(frozen=True)
class ScratchTargets:
    """A complete cache that is there for a while.

    Attributes:
        place: of the cache.
        samples: N of it.
        epochs: of it.
        write_seconds: of a core, to write one view's targets.
    """

    place: str
    samples: int
    epochs: int
    write_seconds: float

    def stream(self, batch: int, *, endless: bool = False) -> Generator[Targets, None, None]:
        """Targets of batches of at most so many views, read ahead as training does; `endless`: epoch after epoch.

        Every block is read again each time it comes, as where a cache is larger than what is kept of it in memory.
        """
        starts = range(0, self.samples, batch)
        slots = [np.arange(start, min(start + batch, self.samples)) for start in starts]

        def cells() -> Iterator[tuple[int, np.ndarray]]:
            while True:
                yield from ((epoch, some) for epoch in range(self.epochs) for some in slots)
                if not endless:
                    return

        reader = TargetReader(self.place, memory_bytes=1)
        yield from reader.stream(cells())

    def read_seconds(self) -> float:
        """Seconds to read one view's targets; every byte is checked on the way."""
        stream = self.stream(BATCH)
        next(stream)  # threads start, nothing is ahead yet
        started = time.perf_counter()
        read = sum(len(targets.teacher_label) for targets in stream)
        return (time.perf_counter() - started) / read


@contextmanager
def scratch_targets(source: ViewSource, targets: TargetFormat, block_slots: int) -> Iterator[ScratchTargets]:
    """Write a cache of at most 4,096 images and 8 epochs; it is gone at the end."""
    table: SampleTable = source.table
    if len(table) > MOST_VIEWS:
        table = SelectedSamples(table, positions=np.arange(MOST_VIEWS))
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
        seconds = fill_at_random(place, identity, epochs)
        yield ScratchTargets(place, len(table), epochs, seconds)


def fill_at_random(place: str, identity: TeacherIdentity, epochs: int) -> float:
    """Write every block, and return the seconds of a core that one view's targets took."""
    random = np.random.Generator(np.random.Philox(0))
    used, views = 0.0, 0
    with TargetWriter.open(place, identity, epochs=epochs) as writer:
        for block in writer.claims():
            logits = random.standard_normal((block.slots, identity.num_classes)).astype(np.float32)
            nothing = np.zeros(block.slots, np.int64)
            # of this thread: while it waits for the disk, a teacher computes
            started = time.thread_time()
            prints = nothing.astype(np.uint32)
            writer.write(block, logits, prints, nothing, nothing, witness_of_nothing(block.start))
            used, views = used + time.thread_time() - started, views + block.slots
    return used / views


def witness_of_nothing(slot: int) -> BlockWitness:
    """A witness that a block can be written with; nobody compares it."""
    return BlockWitness(slots=(slot,), sums=((0.0,) * SUMS,), labels=((0, 0),), lam=(1.0,))
