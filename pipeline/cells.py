"""Make the views of some cells: read, decode, draw, render, fingerprint; without torch.

Shapes: B cells, S the side of a view.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.decode import Decoded, decode, size_of
from deit_pipe.pipeline.errors import BadImage, PlanError
from deit_pipe.pipeline.plan import Cells, Purpose, ViewPlan
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.pipeline.render import fingerprint, render_views
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.pipeline.views import Mix, View, draw_mix, draw_view


@dataclass
class RenderedCells:
    """The views of B cells of one epoch, in the order of `slots`.

    Attributes:
        epoch: of all cells.
        slots: int64 [B].
        samples: int64 [B].
        labels: int64 [B].
        pixels: uint8 [B, S, S, 3].
        fingerprints: uint32 [B].
        erase: int32 [B, 4], top, left, height, width; zeros: not erased.
        noise_seed: int64 [B].
        partner: int64 [B], position in the batch; itself when not mixed.
        lam: float32 [B], weight of the own image.
        mix_box: int32 [B, 4], top, left, height, width of the CutMix box; zeros for Mixup or none.
        views: the draws.
        left_to_pillow: how many of them the native engine does not handle; 0 where Pillow is the engine.
    """

    epoch: int
    slots: NDArray[np.int64]
    samples: NDArray[np.int64]
    labels: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    fingerprints: NDArray[np.uint32]
    erase: NDArray[np.int32]
    noise_seed: NDArray[np.int64]
    partner: NDArray[np.int64]
    lam: NDArray[np.float32]
    mix_box: NDArray[np.int32]
    views: list[View]
    left_to_pillow: int = 0


def render_cells(
    table: SampleTable,
    recipe: Recipe,
    plan: ViewPlan,
    cells: Cells,
    image_size: int,
    samples: NDArray[np.int64] | None = None,
) -> RenderedCells:
    """Make the views of `cells`, which must hold whole mix groups when the recipe mixes.

    Repeats of a sample within the cells share one decode and are rendered in one go.

    Args:
        table: where images and labels come from.
        recipe: what may be drawn.
        plan: of the same recipe.
        cells: which views.
        image_size: S.
        samples: the plan's samples of these slots, when the caller has them.

    Raises:
        BadImage: names the sample and its key.
        PlanError: a torn group, or a slot beyond the epoch.
    """
    begun = BegunCells(table, recipe, plan, cells, image_size, samples)
    return begun.finished([begun.render(part) for part in begun.parts(len(cells.slots))])


# Some samples of a batch, each with its positions there.
Part = list[tuple[int, list[int]]]


class BegunCells:
    """Cells whose views are being made, part by part, in any order and by several threads at once.

    A part holds whole samples, so that one decode serves all repeats of an image, and writes only its own rows.
    """

    def __init__(
        self,
        table: SampleTable,
        recipe: Recipe,
        plan: ViewPlan,
        cells: Cells,
        image_size: int,
        samples: NDArray[np.int64] | None = None,
        pixels: NDArray[np.uint8] | None = None,
    ) -> None:
        """Draw what is mixed with what; arguments as of `render_cells`.

        Args:
            table: where images and labels come from.
            recipe: what may be drawn.
            plan: of the same recipe.
            cells: which views.
            image_size: S.
            samples: the plan's samples of these slots, when the caller has them.
            pixels: uint8 [B, S, S, 3], contiguous: where the views are to be written; None: new memory.

        Raises:
            PlanError: a torn group, or a slot beyond the epoch.
        """
        slots = np.asarray(cells.slots, dtype=np.int64)
        if len(slots) and not 0 <= slots.min() <= slots.max() < plan.num_slots:
            raise PlanError(f"slots {slots.min()}..{slots.max()} are not all in 0..{plan.num_slots - 1}")
        count = len(slots)
        self.table, self.recipe, self.plan, self.image_size = table, recipe, plan, image_size
        self.epoch, self.slots = cells.epoch, slots
        self.samples = plan.sample_at(cells.epoch)[slots] if samples is None else samples
        self.pixels = np.empty((count, image_size, image_size, 3), np.uint8) if pixels is None else pixels
        self.partner, self.mixes = pair_up(recipe, plan, cells.epoch, slots, image_size)
        self.views: list[View] = [None] * count  # type: ignore[list-item]  # filled by parts, in another order
        self.prints = np.empty(count, dtype=np.uint32)

    def parts(self, most_views: int) -> Iterator[Part]:
        """Cut the samples into parts of at most `most_views` views, or of one sample with more; none is empty."""
        part: Part = []
        views = 0
        for sample, positions in _by_sample(self.samples):
            if part and views + len(positions) > most_views:
                yield part
                part, views = [], 0
            part.append((sample, positions))
            views += len(positions)
        if part:
            yield part

    def render(self, part: Part) -> int:
        """Make the views of a part, and return how many of them the native engine left to Pillow.

        Raises:
            BadImage: names the sample and its key.
        """
        left_to_pillow, slots, size = 0, self.slots, self.image_size
        for sample, positions in part:
            image = decode_sample(self.table, sample)
            drawn = [
                draw_view(self.recipe, self.plan.stream(self.epoch, int(slots[i]), Purpose.VIEW), size_of(image), size)
                for i in positions
            ]
            left_to_pillow += render_views(image, drawn, positions, self.pixels)
            for i, view in zip(positions, drawn, strict=True):
                offset = int(slots[self.partner[i]]) - int(slots[i])
                self.prints[i] = fingerprint(self.pixels[i], view, self.mixes[i], offset)
                self.views[i] = view
        return left_to_pillow

    def finished(self, left_to_pillow: Iterable[int]) -> RenderedCells:
        """Return the whole batch; `left_to_pillow` is what `render` returned of every part."""
        return RenderedCells(
            epoch=self.epoch,
            slots=self.slots,
            samples=self.samples,
            labels=self.table.labels[self.samples],
            pixels=self.pixels,
            fingerprints=self.prints,
            erase=_pack_boxes([view.erase for view in self.views]),
            noise_seed=np.asarray([view.noise_seed for view in self.views], dtype=np.int64),
            partner=self.partner,
            lam=np.asarray([mix.lam if mix else 1.0 for mix in self.mixes], dtype=np.float32),
            mix_box=_pack_boxes([mix.box if mix else None for mix in self.mixes]),
            views=self.views,
            left_to_pillow=sum(left_to_pillow),
        )


def _by_sample(samples: NDArray[np.int64]) -> Iterator[tuple[int, list[int]]]:
    """Yield each sample once, with its positions in the batch."""
    order = np.argsort(samples, kind="stable").tolist()
    for sample, positions in groupby(order, key=samples.tolist().__getitem__):
        yield sample, list(positions)


def pair_up(
    recipe: Recipe, plan: ViewPlan, epoch: int, slots: NDArray[np.int64], image_size: int
) -> tuple[NDArray[np.int64], list[Mix | None]]:
    """Return each slot's partner (position in `slots`, int64 [B]; itself when not mixed) and mix.

    Raises:
        PlanError: the slots do not hold whole groups, one after the other.
    """
    count = len(slots)
    partner = np.arange(count, dtype=np.int64)
    mixes: list[Mix | None] = [None] * count
    if not recipe.mixes:
        return partner, mixes
    if plan.mix_group != recipe.mix_group:
        raise PlanError(
            f"plan and recipe have different mix groups: {plan.mix_group} and {recipe.mix_group}",
            cure="make the plan with ViewPlan.for_recipe",
        )
    position = 0
    while position < count:
        group = plan.group_slots(int(slots[position]))
        stop = position + len(group)
        if stop > count or not np.array_equal(slots[position:stop], group):
            raise PlanError(
                f"batch tears the mix group of slots {group[0]}..{group[-1]} in epoch {epoch}",
                expected=f"whole groups of {plan.mix_group} slots, each in order",
                cure=f"choose a batch size that is a multiple of {plan.mix_group}",
            )
        mix = draw_mix(recipe, plan.stream(epoch, int(group[0]), Purpose.MIX), image_size)
        if mix is not None:
            for own in range(position, stop):
                other = position + stop - 1 - own
                # A lone slot, or the middle of an odd group, would be mixed with itself.
                if other != own:
                    partner[own], mixes[own] = other, mix
        position = stop
    return partner, mixes


def decode_sample(table: SampleTable, sample: int) -> Decoded:
    """Read and decode a sample.

    Raises:
        BadImage: names the sample and its key.
    """
    try:
        return decode(table.read(sample))
    except BadImage as error:
        if str(error).startswith("cannot read image"):
            raise
        raise BadImage(
            f"cannot decode image: sample {sample} ({table.keys[sample]}) of {table.name}: {error}",
            cure="repair or remove the image; a view is never made from another one instead\n"
            "to list all such images and leave them away: deit-pipe check-data DATA --deep --write-exclude FILE",
        ) from error


def _pack_boxes(boxes: list[tuple[int, int, int, int] | None]) -> NDArray[np.int32]:
    """Pack (left, top, width, height) boxes as rows top, left, height, width."""
    packed = np.asarray([box or (0, 0, 0, 0) for box in boxes], dtype=np.int32).reshape(-1, 4)
    return np.ascontiguousarray(packed[:, [1, 0, 3, 2]])
