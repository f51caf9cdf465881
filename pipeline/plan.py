"""The plan: which sample sits in which slot of an epoch, and the random stream of every cell.

A cell (epoch, slot) is an address. Its random numbers are a pure function of (seed, purpose, epoch, slot): no
state is carried from view to view, so workers, batch sizes, resume points and world sizes cannot change a
view.

NumPy promises the raw words of `Philox` across versions, not the distributions of `Generator`; only words are
used here.
Philox: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

Shapes: N slots in an epoch (as many as samples).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.errors import PlanError
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.pipeline.repeats import share_together, spread_in_steps, spread_repeats
from deit_pipe.pipeline.streams import Stream, random_words

MAX_SEED = (1 << 63) - 1


class Purpose(IntEnum):
    """What a random stream is for. Each has its own key, so no two purposes ever share a word."""

    ORDER = 1
    VIEW = 2
    MIX = 3
    NOISE = 4
    RUN = 5
    SUBSET = 6


class Cells(NamedTuple):
    """Some slots of one epoch."""

    epoch: int
    slots: NDArray[np.int64]


class ViewPlan:
    """Which sample each slot shows, in which groups and batches, from one seed.

    >>> plan = ViewPlan(8, seed=0, repeats=2, mix_group=2)
    >>> sorted(np.bincount(plan.sample_at(epoch=0), minlength=8).tolist())  # half of the images, each twice
    [0, 0, 0, 0, 2, 2, 2, 2]
    """

    def __init__(
        self,
        num_samples: int,
        *,
        seed: int,
        repeats: int = 1,
        mix_group: int = 2,
        window: int = 1024,
        repeat_step: int = 0,
    ) -> None:
        """Make the plan; nothing is computed before an epoch is asked for.

        Args:
            num_samples: N, at least 1.
            seed: 0..2**63-1.
            repeats: views of one sample in an epoch; ceil(N / repeats) samples take part in each epoch.
            mix_group: consecutive slots that are mixed with each other.
            window: slots within which the repeats of a sample stay, rounded down to whole samples and groups.
            repeat_step: views of the optimiser step in which they meet, a multiple of mix_group; 0: only the window
                counts.
        """
        if num_samples < 1:
            raise PlanError("a plan needs at least one sample", cure="give a folder with images")
        if not 0 <= seed <= MAX_SEED:
            raise PlanError(f"seed {seed} is out of range", expected=f"0..{MAX_SEED}", cure="choose another --seed")
        if repeats < 1 or mix_group < 1 or window < 1:
            raise PlanError("repeats, mix_group and window must be 1 or more", cure="change the recipe")
        self.num_slots = num_samples
        self.seed = seed
        self.repeats = repeats
        self.mix_group = mix_group
        # Whole samples and whole groups only, with a group for every repeat of a sample.
        unit = repeats * mix_group
        self.window = max(window // unit, 1) * unit
        if repeat_step % mix_group:
            raise PlanError(
                f"repeat_step {repeat_step} is not a multiple of the mix group {mix_group}", cure="change the recipe"
            )
        self.repeat_step = repeat_step
        if repeat_step // self.window == 1 or 0 < repeat_step < self.window:
            self.window = repeat_step  # the last window of a step takes what is left
        self._epochs: OrderedDict[int, NDArray[np.int64]] = OrderedDict()

    @classmethod
    def for_recipe(cls, num_samples: int, recipe: Recipe, seed: int) -> Self:
        """Make the plan of a recipe."""
        return cls(
            num_samples,
            seed=seed,
            repeats=recipe.repeats,
            mix_group=recipe.mix_group,
            window=recipe.window,
            repeat_step=recipe.repeat_step,
        )

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_epochs": OrderedDict()}

    def stream(self, epoch: int, slot: int, purpose: Purpose) -> Stream:
        """Return the random stream of a cell for one purpose, from its beginning."""
        return Stream(self.seed, int(purpose), epoch, slot)

    def sample_at(self, epoch: int) -> NDArray[np.int64]:
        """Return the sample of every slot, int64 [N], read only; the last two epochs asked for are kept."""
        if epoch < 0:
            raise PlanError(f"epoch {epoch} does not exist", details=["epochs start at 0"])
        order = self._epochs.get(epoch)
        if order is None:
            order = self._make_order(epoch)
            order.flags.writeable = False
            self._epochs[epoch] = order
            if len(self._epochs) > 2:
                self._epochs.popitem(last=False)
        return order

    def group_slots(self, slot: int) -> NDArray[np.int64]:
        """Return all slots of the mix group that `slot` is in."""
        start = slot // self.mix_group * self.mix_group
        return np.arange(start, min(start + self.mix_group, self.num_slots), dtype=np.int64)

    def batch_count(self, global_batch: int, drop_last: bool = True) -> int:
        """Return the number of global batches in an epoch; a ragged one counts when it is kept."""
        whole, rest = divmod(self.num_slots, global_batch)
        return whole + (1 if rest and (not drop_last or whole == 0) else 0)

    def repeats_together(
        self, global_batch: int, *, order_seed: int | None = None, block_slots: int | None = None
    ) -> float:
        """Return the share of epoch 0's repeated samples whose views all meet in one global batch, 0..1."""
        trained = [
            cells.slots for cells in self.batches(0, global_batch, order_seed=order_seed, block_slots=block_slots)
        ]
        return share_together(self.sample_at(0)[np.concatenate(trained)], global_batch)

    def check_batch(self, global_batch: int, world: int = 1) -> None:
        """Refuse a global batch that cannot be cut into whole groups for every rank.

        Raises:
            PlanError: names the nearest sizes that can.
        """
        unit = world * self.mix_group
        if global_batch < 1 or global_batch % unit:
            below = global_batch // unit * unit
            near = f"{below} or {below + unit}" if below else f"{unit}"
            raise PlanError(
                f"global batch {global_batch} is not a multiple of {unit} "
                f"(processes x mix group = {world} x {self.mix_group})",
                cure=f"choose a global batch of {near}",
            )

    def batches(
        self,
        epoch: int,
        global_batch: int,
        *,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
        drop_last: bool = True,
        order_seed: int | None = None,
        order_pass: int = 0,
        block_slots: int | None = None,
    ) -> Iterator[Cells]:
        """Yield this rank's slice of every global batch of an epoch.

        The global batches are the same for every world size; a rank takes a contiguous slice. A ragged last
        batch is dropped, unless it is the only one or `drop_last` is off; it is cut between groups, and a
        rank may get nothing.

        Args:
            epoch: 0 or more.
            global_batch: slots per step over all ranks, a multiple of world x mix_group.
            rank: 0..world-1.
            world: number of processes.
            start: global batches to skip, to go on after that many steps.
            drop_last: see above.
            order_seed: None: plan order, best for reading. Else blocks, and groups within a block, are
                shuffled.
            order_pass: how often this epoch was trained on before; each pass has its own shuffle.
            block_slots: slots of a block (a multiple of mix_group); default: the whole epoch is one block.
        """
        self.check_batch(global_batch, world)
        if not 0 <= rank < world:
            raise PlanError(f"rank {rank} does not exist among {world} processes", cure="start with torchrun")
        order = None
        if order_seed is not None:
            order = self._run_order(order_seed, epoch, order_pass, block_slots or self.num_slots)
        for step in range(start, self.batch_count(global_batch, drop_last)):
            first = step * global_batch
            size = min(global_batch, self.num_slots - first)
            low, high = self._rank_slice(size, rank, world)
            if order is None:
                yield Cells(epoch, np.arange(first + low, first + high, dtype=np.int64))
            else:
                yield Cells(epoch, order[first + low : first + high])

    def _rank_slice(self, size: int, rank: int, world: int) -> tuple[int, int]:
        """Cut `size` slots into `world` contiguous runs of whole groups, as even as possible."""
        groups = -(-size // self.mix_group)
        low, high = (groups * edge // world * self.mix_group for edge in (rank, rank + 1))
        return min(low, size), min(high, size)

    def _make_order(self, epoch: int) -> NDArray[np.int64]:
        words = random_words(self.seed, Purpose.ORDER, epoch, 0, self.num_slots)
        samples = np.argsort(words, kind="stable").astype(np.int64, copy=False)
        if self.repeats == 1:
            return samples
        places = random_words(self.seed, Purpose.ORDER, epoch, 1, self.num_slots)
        if not self.repeat_step:
            return spread_repeats(samples, places, self.repeats, self.mix_group, self.window)
        seats = random_words(self.seed, Purpose.ORDER, epoch, 2, self.num_slots)
        return spread_in_steps(samples, places, seats, self.repeats, self.mix_group, self.window, self.repeat_step)

    def _run_order(self, seed: int, epoch: int, order_pass: int, block_slots: int) -> NDArray[np.int64]:
        if block_slots % self.mix_group and block_slots < self.num_slots:
            raise PlanError(
                f"block of {block_slots} slots is not a multiple of the mix group {self.mix_group}",
                cure="choose another block",
            )
        if not 0 <= seed <= MAX_SEED:
            raise PlanError(f"order seed {seed} is out of range", expected=f"0..{MAX_SEED}")
        group = self.mix_group
        slots = np.arange(self.num_slots, dtype=np.int64)
        starts = slots[::group]
        blocks = starts // block_slots
        block_words = random_words(seed, Purpose.RUN, epoch, 2 * order_pass, int(blocks[-1]) + 1)
        group_words = random_words(seed, Purpose.RUN, epoch, 2 * order_pass + 1, len(starts))
        # What is ragged stays last: a short block, and a short group within the last block.
        if self.num_slots % block_slots:
            block_words[-1] = np.iinfo(np.uint64).max
        if self.num_slots % group:
            block_words[-1] = group_words[-1] = np.iinfo(np.uint64).max
        chosen = np.lexsort((group_words, blocks, block_words[blocks]))
        cells = starts[chosen][:, None] + np.arange(group, dtype=np.int64)
        return cells.reshape(-1)[: self.num_slots]
