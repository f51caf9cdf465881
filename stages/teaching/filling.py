"""Fills a cache: the views of one block after the other, the teacher, the commit while the next block is computed."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Protocol

import numpy as np

from deit_pipe.pipeline.compose import compose, dominant_labels, partner_labels
from deit_pipe.pipeline.loader import ViewBatch, load_views, named_worker_death
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.proof.recheck import rechecked
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.progress import progress
from deit_pipe.stages.machine.distributed import Processes
from deit_pipe.stages.machine.watched_views import watched
from deit_pipe.stages.networks.teacher import Teacher
from deit_pipe.stages.opened.encoded_files import Notes, noting
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.teaching.block_witness import WitnessTaker
from deit_pipe.store.layout import Block
from deit_pipe.store.writer import TargetWriter


class Views(Protocol):
    """Where views come from."""

    @property
    def table(self) -> SampleTable:
        """The images."""

    @property
    def recipe(self) -> Recipe:
        """Which views may be drawn."""

    @property
    def plan(self) -> ViewPlan:
        """Which image sits in which slot."""

    @property
    def image_size(self) -> int:
        """Side of a view in pixels."""


def cells_of(blocks: Iterable[Block], batch_size: int) -> Iterator[Cells]:
    """Teacher batches: they never cross a block, so that an answer does not depend on where a run resumed."""
    for block in blocks:
        for start in range(block.start, block.stop, batch_size):
            yield Cells(block.epoch, np.arange(start, min(start + batch_size, block.stop)))


def write_blocks(
    writer: TargetWriter,
    teacher: Teacher,
    source: Views,
    workers: int,
    group: Processes,
    options: CacheTeacherOptions,
) -> None:
    """Make the views of one block after the other, looked at again after the hand-over, and fill the blocks.

    Which block comes next is decided when its views are asked for: other jobs may be making the others. Where they make
    all that is left, processes that were started together wait for each other, and a job alone where it was told to.
    """
    batch_size = writer.identity.batch_size
    more = bool(writer.missing)
    while more:
        claimed: deque[Block] = deque()
        with noting(options.cache, writer.identity.name, group.rank, source.table) as (noted, notes):
            loaded = load_views(
                noted,
                source.recipe,
                source.plan,
                cells_of(noted_down(writer.claims(), claimed), batch_size),
                image_size=source.image_size,
                workers=workers,
                pin_memory=group.device.type == "cuda",
            )
            checked = rechecked(loaded, source.plan.seed)
            shared, quiet = group.device.type == "cpu", not group.first
            with closing(watched(checked, "teacher", workers, shares_cores=shared, quiet=quiet)) as views:
                fill(writer, teacher, source.recipe, views, claimed, notes, quiet=not group.first)
        more = (options.wait or group.world > 1) and writer.wait()


def noted_down(blocks: Iterable[Block], claimed: deque[Block]) -> Iterator[Block]:
    """The blocks, each put into `claimed` when it is asked for."""
    for block in blocks:
        claimed.append(block)
        yield block


def fill(
    writer: TargetWriter,
    teacher: Teacher,
    recipe: Recipe,
    views: Iterator[ViewBatch],
    claimed: deque[Block],
    notes: Notes | None = None,
    *,
    quiet: bool = False,
) -> None:
    """Run the teacher over the views, commit block after block; a thread writes one while the next is computed.

    `claimed` has the block of the next views in front when they come.
    """
    total, done = sum(block.slots for block in writer.blocks), writer.report.views_committed
    pending: Future[object] | None = None
    started, waited = time.perf_counter(), 0.0

    def take() -> ViewBatch | None:
        nonlocal waited
        asked = time.perf_counter()
        batch = next(views, None)
        waited += time.perf_counter() - asked
        return batch

    with (
        named_worker_death(),
        ThreadPoolExecutor(1) as background,
        progress(f"caching {teacher.tag}", total, "views", done=done, quiet=quiet) as shown,
    ):
        batch = take()
        while batch is not None:
            block = claimed.popleft()
            parts: list[tuple[np.ndarray, ...]] = []
            witness = WitnessTaker(teacher, block)
            while True:
                assert batch is not None  # a block is never asked for in part
                mixed = compose(batch.to(teacher.device, non_blocking=True), recipe)
                answers = teacher.padded(mixed, writer.identity.batch_size, witness.look_at(batch))
                labels, partners = dominant_labels(batch).numpy(), partner_labels(batch).numpy()
                parts.append((answers.cpu().numpy(), batch.fingerprints, labels, partners))
                shown.advance(len(batch), f"data wait {waited / (time.perf_counter() - started):.0%}")
                if int(batch.slots[-1]) + 1 == block.stop:
                    break
                batch = take()
            if pending is not None:
                pending.result()
            logits, prints, labels, partners = (np.concatenate(column) for column in zip(*parts, strict=True))
            if notes is not None:
                notes.save_if_due()
            pending = background.submit(writer.write, block, logits, prints, labels, partners, witness.finish())
            batch = take()
        if pending is not None:
            pending.result()
