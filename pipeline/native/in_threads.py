"""Batches of views made by threads of this process: for the native engine, which works without Python's lock.

Nothing is copied or pickled on the way: a batch's rows are written where they are used. A batch is cut into parts of
whole samples which all threads share, so that few batches need be in memory however many threads there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.cells import BegunCells, RenderedCells
from deit_pipe.pipeline.native.engine import chosen_engine
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.pipeline.samples import SampleTable

PART_VIEWS = 16  # about 15 ms of work: small beside a batch, large beside what handing it over costs
AHEAD = 2  # batches, at least
# The draws of a view hold Python's lock for 60 us of the 500 to 1,200 that it takes: more threads would wait for each
# other, and the step for them.
MOST_THREADS = 8

# Memory for a batch of B views: uint8 [B, S, S, 3], contiguous.
Memory = Callable[[int], NDArray[np.uint8]]
_Rendering = tuple[BegunCells, list[Future[int]]]


def works_in_threads(workers: int) -> bool:
    """Whether so many workers are threads: where the native engine renders, and not too many for Python's lock."""
    return chosen_engine().instructions is not None and workers <= MOST_THREADS


def render_in_threads(
    table: SampleTable,
    recipe: Recipe,
    plan: ViewPlan,
    cells: Iterable[Cells],
    image_size: int,
    threads: int,
    memory: Memory | None = None,
) -> Generator[RenderedCells, None, None]:
    """Yield one batch for each of `cells`, in their order, made by `threads` threads.

    They end when the iterator is exhausted or closed. Two batches are ahead of the caller, or as many small ones as
    keep all threads busy, but never more than two per thread. No memory is used twice while the caller has a batch.

    Args:
        table: images and labels; its `read` is called by all threads.
        recipe: what may be drawn.
        plan: of the same recipe.
        cells: whole mix groups; read only as far as needed.
        image_size: S.
        threads: 1 or more.
        memory: where the batches are written; asked by the calling thread. None: new memory each.

    Raises:
        BadImage, PlanError: in the place of the batch that they spoil; nothing comes after.
    """
    order = Lock()  # an epoch's order is sorted by one thread, while the others make views

    def begin(asked: Cells, pixels: NDArray[np.uint8] | None) -> _Rendering:
        with order:
            samples = plan.sample_at(asked.epoch)[asked.slots]
        begun = BegunCells(table, recipe, plan, asked, image_size, samples, pixels)
        return begun, [pool.submit(begun.render, part) for part in begun.parts(PART_VIEWS)]

    pool = ThreadPoolExecutor(threads, thread_name_prefix="views")
    pending: deque[tuple[int, Future[_Rendering]]] = deque()
    source = iter(cells)

    def keep_busy() -> None:
        while len(pending) < AHEAD or (
            len(pending) < AHEAD * threads and sum(views for views, _ in pending) < AHEAD * threads * PART_VIEWS
        ):
            asked = next(source, None)
            if asked is None:
                return
            views = len(asked.slots)
            pending.append((views, pool.submit(begin, asked, memory(views) if memory else None)))

    try:
        keep_busy()
        while pending:
            begun, parts = pending.popleft()[1].result()
            left_to_pillow = [part.result() for part in parts]
            keep_busy()
            yield begun.finished(left_to_pillow)
    finally:
        pool.shutdown(cancel_futures=True)
