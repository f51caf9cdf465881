"""What views of these images cost here: by part, by number of workers, and from raw pixels."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.cells import decode_sample, render_cells
from deit_pipe.pipeline.decode import decode, pixels_of, size_of
from deit_pipe.pipeline.loader import load_views
from deit_pipe.pipeline.native.in_threads import works_in_threads
from deit_pipe.pipeline.plan import Cells, Purpose, ViewPlan
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.pipeline.render import fingerprint, render_views
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.pipeline.views import draw_view
from deit_pipe.stages.machine.cost_model import ViewCost
from deit_pipe.stages.measuring.clocks import repeat

BATCH = 128


@dataclass(frozen=True)
class ViewSource:
    """Images with the views that are made of them.

    Attributes:
        table: the images.
        recipe: of the views.
        plan: of the recipe.
        image_size: side of a view.
    """

    table: SampleTable
    recipe: Recipe
    plan: ViewPlan
    image_size: int

    def cells(self, batch: int = BATCH, *, ragged: bool = True) -> Iterator[Cells]:
        """Batches of whole groups, epoch after epoch, without end; a ragged last one only where it is asked for."""
        whole = max(self.recipe.mix_group, batch // self.recipe.mix_group * self.recipe.mix_group)
        return (cells for epoch in count() for cells in self.plan.batches(epoch, whole, drop_last=not ragged))

    def pixel_bytes(self, sample: int) -> int:
        """Of an image, decoded."""
        width, height = size_of(decode_sample(self.table, sample))
        return width * height * 3


class DecodedSamples(SampleTable):
    """Another table's first images, decoded and held in memory, as `pack --raw` would store them."""

    def __init__(self, table: SampleTable, most: int) -> None:
        self.pixels = [pixels_of(decode_sample(table, sample)) for sample in range(min(most, len(table)))]
        here = len(self.pixels)
        super().__init__(table.name, table.keys[:here], table.labels[:here], table.class_names)

    def read(self, sample: int) -> NDArray[np.uint8]:
        """Return the pixels, uint8 [H, W, 3]."""
        return self.pixels[sample]

    def measure_bytes(self) -> NDArray[np.int64]:
        """Return H * W * 3 of every image."""
        return np.asarray([pixels.size for pixels in self.pixels], dtype=np.int64)


def decoded(source: ViewSource, most: int = 256) -> ViewSource:
    """The same views from raw pixels, of at most so many images."""
    table = DecodedSamples(source.table, most)
    plan = ViewPlan.for_recipe(len(table), source.recipe, source.plan.seed)
    return ViewSource(table, source.recipe, plan, source.image_size)


def part_costs(source: ViewSource, most: int = 96) -> dict[str, float]:
    """Seconds of one core for each part of a view: read, decode, draw, render, fingerprint.

    Reading is by the clock, since a disk is waited for. Where repeats share a decode in a batch, each bears its share.
    """
    cells = next(source.cells(most))
    samples = source.plan.sample_at(cells.epoch)[cells.slots]
    views = len(samples)
    costs = dict.fromkeys(("read", "decode", "draw", "render", "fingerprint"), 0.0)
    out = np.empty((1, source.image_size, source.image_size, 3), np.uint8)
    images = {}
    for sample in np.unique(samples).tolist():
        started = time.perf_counter()
        data = source.table.read(sample)
        came = time.perf_counter()
        images[sample] = decode(data)
        costs["read"] += (came - started) / views
        costs["decode"] += (time.perf_counter() - came) / views
    for slot, sample in zip(cells.slots.tolist(), samples.tolist(), strict=True):
        image = images[sample]
        marks = [time.perf_counter()]
        stream = source.plan.stream(cells.epoch, slot, Purpose.VIEW)
        view = draw_view(source.recipe, stream, size_of(image), source.image_size)
        marks.append(time.perf_counter())
        render_views(image, [view], [0], out)
        marks.append(time.perf_counter())
        fingerprint(out[0], view)
        marks.append(time.perf_counter())
        for name, first, last in zip(("draw", "render", "fingerprint"), marks, marks[1:], strict=False):
            costs[name] += (last - first) / views
    return costs


def view_cost(source: ViewSource, workers: int, seconds: float) -> ViewCost:
    """What a view costs one core, and how many so many workers make a second, with nothing else at work."""
    alone = core_seconds(source, seconds)
    rate = 1 / alone if not workers else worker_rate(source, workers, seconds)
    return ViewCost(core_seconds=alone, rate=rate)


def core_seconds(source: ViewSource, seconds: float) -> float:
    """Processor time of a view in this process."""
    cells = source.cells()

    def work() -> int:
        some = next(cells)
        render_cells(source.table, source.recipe, source.plan, some, source.image_size)
        return len(some.slots)

    taken = repeat(work, seconds)
    return taken.core_seconds / taken.units


def worker_rate(source: ViewSource, workers: int, seconds: float) -> float:
    """Views a second that so many workers make for a taker that does nothing."""
    views = load_views(
        source.table, source.recipe, source.plan, source.cells(), image_size=source.image_size, workers=workers
    )
    try:
        # what was made ahead before the clock started
        ahead = 2 if works_in_threads(workers) else 2 * workers
        # several: those that the threads share are finished together
        return repeat(lambda: len(next(views)), seconds, warm_up=1 + ahead, least=6).rate
    finally:
        views.close()  # type: ignore[attr-defined]  # a generator; ends its workers


def rates_by_workers(source: ViewSource, most: int, seconds: float) -> dict[int, float]:
    """Views a second of 1, 2, 4, ... and `most` workers, each for so many seconds."""
    counts = sorted({1 << power for power in range(most.bit_length())} | ({most} if most else set()))
    return {workers: worker_rate(source, workers, seconds) for workers in counts}
