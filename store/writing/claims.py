"""Which block a job makes next, beside others that do the same.

The lowest incomplete epoch first, at most two of them at a time, each from this job's own place on. Where another job's
hint is met, it goes on somewhere else. What others have committed is found by looking, and left alone.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from deit_pipe.store.blocks.block_object import BlockCodec, ObjectDamaged
from deit_pipe.store.blocks.objects import BlockObjects
from deit_pipe.store.layout import Block
from deit_pipe.store.ledger import list_blocks
from deit_pipe.store.manifest import Manifest, TeacherIdentity, refuse_removed
from deit_pipe.store.places.location import Location
from deit_pipe.store.writing.hints import Hints

OPEN_EPOCHS = 2
POLL_SECONDS = 1.0


class Job(NamedTuple):
    """Which job this is: its own name, and its place among processes that were started together."""

    run: str
    rank: int
    world: int


class Claims:
    """The blocks that are left to do, as far as this job knows, and those that it makes now.

    Attributes:
        left: not known to be committed. Blocks leave it and never come back.
        damaged: of these, the ones whose objects were seen to be bad.
        shared: whether there are signs of another job.
        found_bytes: of blocks that others have committed since.
        hints: of this job.
    """

    def __init__(
        self,
        place: Location,
        manifest: Manifest,
        teacher: TeacherIdentity,
        job: Job,
        left: set[Block],
        damaged: set[Block],
    ) -> None:
        self._place, self._manifest, self._teacher, self._job = place, manifest, teacher, job
        self._codec = BlockCodec(manifest, teacher)
        self._blocks = BlockObjects(place, self._codec)
        self._making: set[Block] = set()
        self._taken: deque[Block] = deque()
        self._next: dict[int, int] = {}
        self._jumps = 0
        self.left, self.damaged = left, damaged
        self.shared = False
        self.found_bytes = 0
        self.hints = Hints(place, teacher.name, job.run)

    def __iter__(self) -> Iterator[Block]:
        """Blocks to make, one after the other; ends when others make all that is left."""
        while (block := self._taken.popleft() if self._taken else self._take()) is not None:
            yield block

    def wait(self, sleep: Callable[[float], object]) -> bool:
        """Wait until there is a block to make (True), or all are committed (False)."""
        while True:
            self.refresh()
            if not self.left:
                return False
            if (block := self._take()) is not None:
                self._taken.append(block)
                return True
            sleep(POLL_SECONDS)

    def done(self, block: Block, seconds: float) -> None:
        """A block is committed; making it took so long."""
        self.left.discard(block)
        self._making.discard(block)
        self.hints.slowest = max(self.hints.slowest, seconds)
        self.hints.drop(block)

    def refresh(self) -> None:
        """List again what is left, and drop what others have committed."""
        epochs = sorted({block.epoch for block in list(self.left)})
        sizes = list_blocks(self._place, self._codec, self._manifest, self._teacher, epochs)
        for block in [block for block in sizes if block in self.left]:
            self._look(block, sizes[block])

    def _take(self) -> Block | None:
        refuse_removed(self._place, self._teacher.name)
        left = sorted(block for block in list(self.left) if block not in self._making)
        for epoch in sorted({block.epoch for block in left})[:OPEN_EPOCHS]:
            order = deque(block for block in left if block.epoch == epoch)
            order.rotate(-self._start(order))
            while order:
                block = order.popleft()
                if not self.hints.take(block):
                    self.shared = True
                    self._jumps += 1
                    order.rotate(-jump(self._job.run, self._jumps, max(1, len(order))))
                    continue
                size = self._place.size(self._codec.key(block.epoch, block.index))
                if size is not None and self._look(block, size):
                    self.shared = True
                    self.hints.drop(block)
                    continue
                self._making.add(block)
                self._next[epoch] = block.index + 1
                return block
        return None

    def _start(self, order: deque[Block]) -> int:
        """Where to begin in the blocks of an epoch: behind the last one taken there, at first at this rank's stripe."""
        epoch = order[0].epoch
        if epoch not in self._next:
            total = -(-self._manifest.num_samples // self._teacher.block_slots)
            self._next[epoch] = self._job.rank * total // self._job.world
        return next((place for place, block in enumerate(order) if block.index >= self._next[epoch]), 0)

    def _look(self, block: Block, size: int) -> bool:
        """Whether a block that is there is whole, so that it is not left; one that was bad is read to the end."""
        try:
            if block in self.damaged:
                self._blocks.fetch(block)
            else:
                self._blocks.header(block, size)
        except ObjectDamaged:
            self.damaged.add(block)
            return False
        if block in self.left:
            self.left.discard(block)
            self.found_bytes += size
        return True


def jump(run: str, number: int, blocks: int) -> int:
    """A place among so many blocks, by the name of a job: two jobs that met do not walk side by side."""
    digest = hashlib.sha256(f"{run} {number}".encode()).digest()
    return int.from_bytes(digest[:8], "little") % blocks
