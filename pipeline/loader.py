"""Load views: cells in, batches of views out, in order, from threads or worker processes.

Where the native engine renders, threads do the work (native/in_threads.py). Else torch's own DataLoader does: the cells
are its batch sampler, and the data set answers a whole batch at once (`__getitems__`). Workers send uint8; a float
batch would cost 33 times as much to collate.

Shapes: B views in a batch, S the side of a view.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from deit_pipe.pipeline.cells import RenderedCells, render_cells
from deit_pipe.pipeline.errors import PipelineError, WorkerDied
from deit_pipe.pipeline.native.in_threads import render_in_threads, works_in_threads
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.pipeline.samples import SampleTable


@dataclass
class ViewBatch:
    """The views of B cells of one epoch, not yet erased and mixed (see compose).

    Attributes:
        epoch: of all cells.
        slots: int64 numpy [B].
        samples: int64 numpy [B].
        fingerprints: uint32 numpy [B], over pixels, erasing and mixing.
        pixels: uint8 [B, S, S, 3], 0..255.
        labels: int64 [B].
        erase: int32 [B, 4], top, left, height, width; zeros: not erased.
        noise_seed: int64 [B], 0..2**63-1.
        partner: int64 [B], position in the batch of the view it is mixed with; itself when not mixed.
        lam: float32 [B], weight of the own image after the CutMix box was clipped; 1 when not mixed.
        mix_box: int32 [B, 4], top, left, height, width of the CutMix box; zeros for Mixup or none.
        erased_pixels: area of all erase boxes, known on the host so that compose need not ask the device.
        mixed: whether any view has a partner.
        left_to_pillow: how many of the views the native engine does not handle.
    """

    epoch: int
    slots: NDArray[np.int64]
    samples: NDArray[np.int64]
    fingerprints: NDArray[np.uint32]
    pixels: torch.Tensor
    labels: torch.Tensor
    erase: torch.Tensor
    noise_seed: torch.Tensor
    partner: torch.Tensor
    lam: torch.Tensor
    mix_box: torch.Tensor
    erased_pixels: int
    mixed: bool
    left_to_pillow: int = 0

    def __len__(self) -> int:
        return len(self.slots)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ViewBatch:
        """Return the batch with all tensors on `device`; the numpy arrays stay on the host."""
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=non_blocking)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), torch.Tensor)
        }
        return replace(self, **moved)

    def pin_memory(self) -> ViewBatch:
        """Return the batch with the pixels in page-locked memory; called by torch's DataLoader."""
        return replace(self, pixels=self.pixels.pin_memory())


def load_views(
    table: SampleTable,
    recipe: Recipe,
    plan: ViewPlan,
    cells: Iterable[Cells],
    *,
    image_size: int,
    workers: int = 0,
    pin_memory: bool = False,
    threads: bool | None = None,
) -> Iterator[ViewBatch]:
    """Yield one batch for each of `cells`, in their order.

    Workers end when the iterator is exhausted, closed or dropped. At most two batches per worker are ahead of
    the caller. The memory of a batch is its own for as long as the caller keeps it.

    Args:
        table: images and labels.
        recipe: what may be drawn.
        plan: of the same recipe.
        cells: what each batch holds: whole mix groups; read only as far as needed.
        image_size: S.
        workers: threads or processes; 0 makes the views in this one.
        pin_memory: put the pixels into page-locked memory, for CUDA.
        threads: whether the workers are threads; None: see `works_in_threads`.

    Raises:
        BadImage: names the sample; no view after it is made.
        WorkerDied: a worker was killed, most often for memory.
    """
    pin_memory = pin_memory and torch.cuda.is_available()
    if workers and (works_in_threads(workers) if threads is None else threads):
        memory = partial(_pinned_memory, image_size) if pin_memory else None
        with closing(render_in_threads(table, recipe, plan, cells, image_size, workers, memory)) as rendered:
            for batch in rendered:
                yield to_batch(batch)
        return
    with named_worker_death():
        with warnings.catch_warnings():
            # How many workers is the caller's choice, and torch counts cores, not what waits for a disk.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            loader: DataLoader[Any] = DataLoader(
                _CellDataset(table, recipe, plan, image_size),
                batch_sampler=_Tasks(plan, cells),  # type: ignore[arg-type]  # torch expects lists of indices
                num_workers=workers,
                collate_fn=_as_it_is,
                pin_memory=pin_memory,
                worker_init_fn=_leave_signals if workers else None,
                # Without its own, each loader would draw from torch's global generator and so change the run.
                generator=torch.Generator(),
            )
            with _interrupts_held():
                batches = iter(loader)
        try:
            for answer in batches:
                if isinstance(answer, PipelineError):
                    raise answer
                yield answer
        except (ConnectionError, EOFError) as error:  # it died while handing over a batch
            raise _worker_died(error) from error
        finally:
            # Dropping the last reference would do it too, but a traceback in flight can hold one, and a dead
            # worker that torch still watches is reported again at any later moment.
            if workers:
                batches._shutdown_workers()  # type: ignore[attr-defined]


def _pinned_memory(image_size: int, views: int) -> NDArray[np.uint8]:
    """Page-locked memory for a batch, from torch's ring of it.

    torch gives a batch's memory out again when nobody holds the batch any more and every copy that was begun from it
    is done; so none is overwritten early, and after the first batches none is allocated.
    """
    pixels: NDArray[np.uint8] = torch.empty(
        (views, image_size, image_size, 3), dtype=torch.uint8, pin_memory=True
    ).numpy()
    return pixels


@contextmanager
def named_worker_death() -> Iterator[None]:
    """Turn torch's report of a dead worker into `WorkerDied`.

    torch reports it from a signal handler, so it can surface anywhere in the main thread: whoever works between two
    batches wraps that work too.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise _worker_died(error) from error


def _worker_died(error: Exception) -> WorkerDied:
    return WorkerDied(
        (f"a loader process died: {(str(error).splitlines()[0] if str(error) else type(error).__name__)}"),
        cure="most often memory ran out; run the same command with fewer --workers or a smaller --batch-size",
    )


def to_batch(cells: RenderedCells) -> ViewBatch:
    """Wrap rendered cells as tensors, without copying the pixels."""
    return ViewBatch(
        epoch=cells.epoch,
        slots=cells.slots,
        samples=cells.samples,
        fingerprints=cells.fingerprints,
        pixels=_as_tensor(cells.pixels),
        labels=torch.from_numpy(cells.labels),
        erase=torch.from_numpy(cells.erase),
        noise_seed=torch.from_numpy(cells.noise_seed),
        partner=torch.from_numpy(cells.partner),
        lam=torch.from_numpy(cells.lam),
        mix_box=torch.from_numpy(cells.mix_box),
        erased_pixels=int((cells.erase[:, 2].astype(np.int64) * cells.erase[:, 3]).sum()),
        mixed=bool((cells.partner != np.arange(len(cells.partner))).any()),
        left_to_pillow=cells.left_to_pillow,
    )


def _as_tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """Return the pixels as a tensor, without a copy: their very own where torch gave their memory."""
    own: Any = pixels.base
    if isinstance(own, torch.Tensor) and own.shape == pixels.shape:
        return own
    return torch.from_numpy(pixels)


class _Task(NamedTuple):
    """What a worker is asked for: the samples come along, so that workers need not sort the epoch."""

    cells: Cells
    samples: NDArray[np.int64]


class _Tasks:
    """The batch sampler: one task per batch."""

    def __init__(self, plan: ViewPlan, cells: Iterable[Cells]) -> None:
        self.plan = plan
        self.cells = cells

    def __iter__(self) -> Iterator[_Task]:
        for cells in self.cells:
            yield _Task(cells, self.plan.sample_at(cells.epoch)[cells.slots])


class _CellDataset(Dataset[Any]):
    """Answers a whole batch at once."""

    def __init__(self, table: SampleTable, recipe: Recipe, plan: ViewPlan, image_size: int) -> None:
        self.table = table
        self.recipe = recipe
        self.plan = plan
        self.image_size = image_size

    def __getitems__(self, task: _Task) -> ViewBatch | PipelineError:
        """Make a batch; errors travel as values, because torch would bury their message in a traceback."""
        try:
            return to_batch(render_cells(self.table, self.recipe, self.plan, task.cells, self.image_size, task.samples))
        except PipelineError as error:
            return error


def _as_it_is(batch: Any) -> Any:
    return batch


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while workers start; they inherit that, so none is hit before it can leave the signal."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_signals(worker: int) -> None:
    """Leave Ctrl-C and the first SIGTERM to the main process, which saves its work and then stops the workers.

    Terminals and schedulers signal the whole process group. A second SIGTERM ends the worker, as torch and
    multiprocessing expect when they give up waiting for it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL) and None)
