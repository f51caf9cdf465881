"""Read a teacher's targets back: any cells in any order, and ahead of the step.

The unit is the block: fetched whole, its SHA-256 checked, decoded, kept within a memory budget. With labels
or top-k a whole epoch fits the budget; dense targets pass through it block after block. Use one reader per
process, in the process that trains, never in data workers. A reader survives a fork, and pickles as its
address.
"""

import os
import queue
import shlex
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.blocks.block_object import ObjectDamaged
from deit_pipe.store.blocks.checks import repair_option
from deit_pipe.store.blocks.choice import blocks_in
from deit_pipe.store.errors import CacheCorrupt, CacheIncomplete, CacheMissing, FormatInvalid
from deit_pipe.store.formats import Targets, decode
from deit_pipe.store.layout import array_specs, blocks_of
from deit_pipe.store.ledger import ledger_of
from deit_pipe.store.manifest import Manifest, TeacherIdentity, list_teachers, read_manifest, read_teacher
from deit_pipe.store.places.location import Location
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.proof.witness import Witnesses
from deit_pipe.store.sealed import Cell
from deit_pipe.store.verify import check_sizes

MEMORY_BYTES = 512 * 2**20
BATCHES_AHEAD = 8
CELLS_AHEAD = 256
BLOCKS_AHEAD = 3  # being fetched while the step runs
_END = object()

DecodedBlock = dict[str, NDArray[Any]]


class TargetReader:
    """The targets of one teacher.

    Attributes:
        identity, manifest: what is read. epochs: how many there are; a longer run uses them in turn.
    """

    def __init__(
        self,
        location: str | Path | Location,
        teacher: str | None = None,
        *,
        allow_partial: bool = False,
        memory_bytes: int = MEMORY_BYTES,
        epochs: int | None = None,
    ) -> None:
        """Open for reading; checks that every block that it may be asked for is committed, on a disk also its size.

        Args:
            location: directory or URL of the cache.
            teacher: a name; None takes the only one.
            allow_partial: open an incomplete teacher; reading an absent block still raises.
            memory_bytes: budget for decoded blocks.
            epochs: only the first so many are asked for, whatever is done to the others; None: all that are wanted.

        Raises:
            CacheMissing, FormatInvalid: no such cache or teacher; several and none named.
            CacheIncomplete: blocks are missing. CacheCorrupt: sizes differ, or headers are damaged.
        """
        self._place = open_location(location)
        self._options = (teacher, allow_partial, memory_bytes, epochs)
        self.manifest: Manifest = read_manifest(self._place)
        self.identity: TeacherIdentity = read_teacher(self._place, teacher or self._only_teacher())
        self._memory = memory_bytes
        self._ledger = ledger_of(self._place, self.manifest, self.identity, epochs=epochs)
        wanted = self._ledger.epochs or 0
        self.epochs: int = wanted if epochs is None else min(epochs, wanted)
        self._check(allow_partial)
        self._blocks: OrderedDict[Cell, DecodedBlock] = OrderedDict()
        self._held = 0
        self._start_process()

    def __getstate__(self) -> dict[str, Any]:
        return {"location": self._place, "options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        teacher, allow_partial, memory, epochs = state["options"]
        self.__init__(  # type: ignore[misc]
            state["location"], teacher, allow_partial=allow_partial, memory_bytes=memory, epochs=epochs
        )

    def _start_process(self) -> None:
        """Make what a fork breaks: locks that another thread held, threads that did not come along."""
        self._process = os.getpid()
        self._guard = threading.RLock()
        self._loading: dict[Cell, Future[DecodedBlock]] = {}
        self._pool = ThreadPoolExecutor(BLOCKS_AHEAD, thread_name_prefix="targets")
        self._stored = blocks_in(self._place, self.manifest, self.identity)

    def _only_teacher(self) -> str:
        names = list_teachers(self._place)
        if len(names) == 1:
            return names[0]
        if not names:
            raise CacheMissing(
                f"no teacher in {self._place.path} yet",
                cure=f"add one with: deit-pipe cache-teacher --cache {shlex.quote(self._place.path)} --teacher NAME",
            )
        raise FormatInvalid(
            f"{self._place.path} has {len(names)} teachers: {', '.join(names)}", cure="say which, with --teacher"
        )

    def _check(self, allow_partial: bool) -> None:
        committed = self._ledger.cells()
        place, identity = self._place, self.identity
        per_epoch = [
            (epoch, sum((epoch, b.index) in committed for b in self._epoch_blocks(epoch)))
            for epoch in range(self.epochs)
        ]
        total = len(list(self._epoch_blocks(0)))
        behind = [(epoch, count) for epoch, count in per_epoch if count < total]
        if (behind or not self.epochs) and not allow_partial:
            have = sum(count for _, count in per_epoch)
            first = f" (epoch {behind[0][0]}: {behind[0][1]} of {total})" if behind else ""
            raise CacheIncomplete(
                f"cache incomplete: {place.path} has {have} of {self.epochs * total} blocks of "
                f"{identity.name!r}{first}",
                cure=(
                    f"continue with: deit-pipe cache-teacher --teacher {identity.model} --cache "
                    f"{shlex.quote(place.path)}"
                ),
            )
        found = check_sizes(place, self.manifest, identity, self._ledger) if place.local else []
        damaged = [finding for finding in found if (finding.epoch or 0) < self.epochs]
        if damaged:
            more = f"\n  and {len(damaged) - 3} more" if len(damaged) > 3 else ""
            raise self._corrupt("\n  ".join(str(finding) for finding in damaged[:3]) + more)

    def _epoch_blocks(self, epoch: int) -> Iterator[Any]:
        return blocks_of(epoch, self.manifest.num_samples, self.identity.block_slots)

    def _corrupt(self, what: str) -> CacheCorrupt:
        path = self._place.path
        option = repair_option(self._ledger.stored_bytes, len(self._ledger))
        return CacheCorrupt(
            f"cache corrupt: {path}",
            details=[what],
            cure=(
                f"repair with: deit-pipe cache-teacher --cache {shlex.quote(path)} --teacher "
                f"{self.identity.model}{option} (only those blocks are made again)"
            ),
        )

    def read(self, epoch: int, slots: NDArray[np.int64]) -> Targets:
        """Return the targets of the cells (epoch, slots[i]), in that order.

        Raises:
            IndexError: a cell outside the cache. CacheIncomplete, CacheCorrupt: a block is absent or damaged.
        """
        slots = np.asarray(slots, dtype=np.int64)
        indices = self._block_indices(epoch, slots)
        block_slots = self.identity.block_slots
        if len(indices) == 1:
            block = self._block((epoch, int(indices[0])))
            local = slots - int(indices[0]) * block_slots
            start, stop = int(local[0]), int(local[-1]) + 1
            rows: Any = local
            if stop - start == len(local) and (np.diff(local) == 1).all():
                rows = slice(start, stop)  # plan order: no copy before the decode
            return decode({name: array[rows] for name, array in block.items()}, self.identity.format)
        owner = slots // block_slots
        arrays: DecodedBlock = {
            spec.name: np.empty((len(slots), *spec.row), spec.dtype) for spec in array_specs(self.identity.format)
        }
        for index in indices.tolist():
            block = self._block((epoch, index))
            at = np.flatnonzero(owner == index)
            for name, array in arrays.items():
                array[at] = block[name][slots[at] - index * block_slots]
        return decode(arrays, self.identity.format)

    def witnesses(self, epoch: int) -> Witnesses:
        """The witnessed views of an epoch; none in format 1."""
        return self._ledger.witnesses(epoch)

    def stream(self, cells: Iterable[tuple[int, NDArray[np.int64]]]) -> Iterator[Targets]:
        """Yield the targets of each (epoch, slots) in order, read ahead by background threads.

        `cells` is consumed in another thread. Closing the iterator, or dropping it, ends the threads' work.
        """
        ready: queue.Queue[Any] = queue.Queue(BATCHES_AHEAD)
        stop = threading.Event()
        thread = threading.Thread(
            target=self._produce, args=(iter(cells), ready, stop), name="targets-ahead", daemon=True
        )
        thread.start()
        try:
            while (item := ready.get()) is not _END:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            while thread.is_alive():  # the producer may be waiting for room
                try:
                    ready.get_nowait()
                except queue.Empty:
                    thread.join(0.01)

    def _produce(self, cells: Iterator[Any], ready: "queue.Queue[Any]", stop: threading.Event) -> None:
        """Serve batches whose blocks are there; meanwhile look ahead in `cells` and fetch what comes next."""
        pending: deque[tuple[int, NDArray[np.int64]]] = deque()
        last: Any = None  # what ends the stream: the end, or an error of the plan, after the batches before it
        try:
            while pending or last is None:
                room = len(pending) < CELLS_AHEAD and len(self._loading) < BLOCKS_AHEAD
                if last is None and (not pending or (room and (ready.full() or not self._loaded(*pending[0])))):
                    try:
                        epoch, slots = next(cells)
                        slots = np.asarray(slots, dtype=np.int64)
                        self._prefetch(int(epoch), slots)
                    except StopIteration:
                        last = _END
                    except BaseException as error:
                        last = error
                    else:
                        pending.append((int(epoch), slots))
                else:
                    ready.put(self.read(*pending.popleft()))
                if stop.is_set():
                    return
            ready.put(last)
        except BaseException as error:
            ready.put(error)

    def _loaded(self, epoch: int, slots: NDArray[np.int64]) -> bool:
        def done(cell: Cell) -> bool:
            loading = self._loading.get(cell)
            return cell in self._blocks or (loading is not None and loading.done())

        return all(done((epoch, index)) for index in self._block_indices(epoch, slots).tolist())

    def _block_indices(self, epoch: int, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        if not len(slots):
            return np.zeros(0, np.int64)
        low, high = int(slots.min()), int(slots.max())
        if not 0 <= epoch < self.epochs or low < 0 or high >= self.manifest.num_samples:
            raise IndexError(
                f"cells epoch {epoch}, slots {low}..{high} are outside the cache "
                f"({self.epochs} epochs of {self.manifest.num_samples} slots)"
            )
        first, last = low // self.identity.block_slots, high // self.identity.block_slots
        if first == last:
            return np.array([first])
        return np.unique(slots // self.identity.block_slots)

    def _prefetch(self, epoch: int, slots: NDArray[np.int64]) -> None:
        for index in self._block_indices(epoch, slots).tolist():
            self._request((epoch, index))

    def _request(self, cell: Cell) -> "Future[DecodedBlock] | DecodedBlock":
        if self._process != os.getpid():
            self._start_process()
        with self._guard:
            if cell in self._blocks:
                self._blocks.move_to_end(cell)
                return self._blocks[cell]
            if cell not in self._loading:
                self._loading[cell] = self._pool.submit(self._load, cell)
            return self._loading[cell]

    def _block(self, cell: Cell) -> DecodedBlock:
        found = self._request(cell)
        if isinstance(found, dict):
            return found
        try:
            block = found.result()
        except BaseException:
            with self._guard:
                self._loading.pop(cell, None)
            raise
        with self._guard:
            if self._loading.pop(cell, None) is not None:
                self._blocks[cell] = block
                self._held += _bytes(block)
                while self._held > self._memory and len(self._blocks) > 1:
                    _, dropped = self._blocks.popitem(last=False)
                    self._held -= _bytes(dropped)
        return block

    def _load(self, cell: Cell) -> DecodedBlock:
        try:
            record = self._ledger.record(*cell)
        except KeyError:
            raise CacheIncomplete(
                f"{self.identity.name!r} at {self._place.path} has no epoch {cell[0]}, block {cell[1]} yet",
                cure=(
                    f"continue with: deit-pipe cache-teacher --cache {shlex.quote(self._place.path)} --teacher "
                    f"{self.identity.model}"
                ),
            ) from None
        try:
            return self._stored.arrays(record)
        except ObjectDamaged as error:
            where = f"{error.array} of {record.block} ({error.key})"
            raise self._corrupt(f"{where} {error.what}") from error


def _bytes(block: DecodedBlock) -> int:
    return sum(array.nbytes for array in block.values())
