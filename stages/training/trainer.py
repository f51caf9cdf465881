"""The training loop: views and targets in, a better student out; resumable after any step, bit for bit."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

from deit_pipe.pipeline.loader import ViewBatch
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.stages.console.errors import TrainingDiverged
from deit_pipe.stages.machine.arriving import Arriving
from deit_pipe.stages.machine.distributed import Processes
from deit_pipe.stages.networks.student import StudentFacts
from deit_pipe.stages.training.losses import DistillationLoss, LossParts
from deit_pipe.stages.training.proven_batches import Batch, InputForm, ProvenBatches
from deit_pipe.stages.training.targets import TargetSource

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
SUMS = ("views", "loss", "label_loss", "distillation_loss", "agreement")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Which cells each step of each epoch trains on.

    Attributes:
        plan: of the cache.
        epochs: passes to train.
        cached_epochs: E; pass p shows cached epoch p mod E.
        batch_size: views a step over all ranks.
        accumulate: parts a rank's share is split into.
        order_seed: None: plan order on the first pass over an epoch, shuffled afterwards.
        block_slots: of the cache, the unit of shuffling.
    """

    plan: ViewPlan
    epochs: int
    cached_epochs: int
    batch_size: int
    accumulate: int
    order_seed: int | None
    block_slots: int

    @property
    def steps(self) -> int:
        """Optimiser steps in an epoch."""
        return self.plan.batch_count(self.batch_size)

    def cells(self, group: Processes, epoch: int, step: int) -> Iterator[Cells]:
        """Every part of every step from (epoch, step) to the end of training, in order."""
        for current in range(epoch, self.epochs):
            cached, order_pass = current % self.cached_epochs, current // self.cached_epochs
            seed = self.order_seed if self.order_seed is not None else (0 if order_pass else None)
            for whole in self.plan.batches(
                cached,
                self.batch_size,
                rank=group.rank,
                world=group.world,
                start=step if current == epoch else 0,
                order_seed=seed,
                order_pass=order_pass,
                block_slots=self.block_slots,
            ):
                yield from self._parts(whole)

    def part_sizes(self, group: Processes) -> list[int]:
        """Views in each part of this rank's share of a step; the same for every step of a run."""
        first = next(self.plan.batches(0, self.batch_size, rank=group.rank, world=group.world, order_seed=None))
        return [len(part.slots) for part in self._parts(first)]

    def _parts(self, whole: Cells) -> Iterator[Cells]:
        groups = -(-len(whole.slots) // self.plan.mix_group)
        parts = min(self.accumulate, max(1, groups))
        edges = [groups * part // parts * self.plan.mix_group for part in range(parts + 1)]
        for low, high in pairwise(edges):
            yield Cells(whole.epoch, whole.slots[low:high])


@dataclass
class Position:
    """Where a run is: `step` optimiser steps of `epoch` are done, `total` since the beginning."""

    epoch: int = 0
    step: int = 0
    total: int = 0


@dataclass
class StepTimes:
    """Seconds spent waiting for views, waiting for targets, and computing."""

    data: float = 0.0
    targets: float = 0.0
    compute: float = 0.0

    def add(self, other: "StepTimes") -> None:
        """Add another step's times."""
        self.data += other.data
        self.targets += other.targets
        self.compute += other.compute


class Verdict(NamedTuple):
    """Whether the losses of a step were finite, not read yet."""

    finite: Arriving
    """1 or 0 for each part here, then whether they all were, in all processes."""
    seen: list[Cells]
    epoch: int


@dataclass
class Trainer:
    """State and one step of training.

    A step asks its device one thing: whether its losses are finite. On a GPU the answer is read one step late, so that
    the device always has work; a run that diverges then stops a step later, at the latest before anything is kept.

    Attributes:
        student: the bare network (checkpoints, evaluation); `network` is what runs: compiled, DDP.
        loss: of the run.
        precision: fp32, bf16 or fp16.
        clip_grad: largest gradient norm, 0 for none.
        smoothing: of the true labels.
        taught: whether targets are there to agree with; without, agreement is not recorded.
        sums: float64 [len(SUMS)] since the epoch began, on the device.
        late: whether a step's verdict is read when the next one has been asked for.
    """

    student: nn.Module
    network: nn.Module
    facts: StudentFacts
    loss: DistillationLoss
    optimizer: Optimizer
    ema: ModelEmaV3 | None
    recipe: Recipe
    group: Processes
    precision: str
    clip_grad: float
    smoothing: float
    channels_last: bool = False
    taught: bool = True
    sums: Tensor = field(init=False)
    late: bool = field(init=False)
    unread: Verdict | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.sums = torch.zeros(len(SUMS), dtype=torch.float64, device=self.group.device)
        self.late = self.group.device.type == "cuda"
        # fp16 needs loss scaling, which waits for the device in every step; for the others the scaler is a no-op
        self.scaler = torch.amp.GradScaler(self.group.device.type, enabled=self.precision == "fp16")

    def batches(self, views: Iterator[ViewBatch], targets: TargetSource) -> ProvenBatches:
        """Views and targets of the same cells as this student's steps take them."""
        form = InputForm(
            mean=tuple(self.facts.mean),
            std=tuple(self.facts.std),
            num_classes=self.facts.num_classes,
            smoothing=self.smoothing,
            channels_last=self.channels_last,
        )
        return ProvenBatches(views, targets, self.recipe, form, self.group.device)

    def step(self, batches: ProvenBatches, parts: list[int], epoch: int) -> StepTimes:
        """One optimiser step over one batch per part, of those sizes.

        Raises:
            TrainingDiverged: the loss of this step is not finite, and nothing was changed by it; or, read late, that
                of the step before.
            Mismatch: the student was given something else than the teacher.
        """
        times = StepTimes()
        totals: list[Tensor] = []
        seen: list[Cells] = []
        self.optimizer.zero_grad(set_to_none=True)
        for part in range(len(parts)):
            started = time.perf_counter()
            batch = batches.take()
            last = part == len(parts) - 1
            if isinstance(self.network, nn.parallel.DistributedDataParallel):
                self.network.require_backward_grad_sync = last
            with torch.autocast(
                self.group.device.type,
                dtype=AMP_DTYPES.get(self.precision, torch.bfloat16),
                enabled=self.precision in AMP_DTYPES,
            ):
                out = self.network(batch.images)
            terms = self.loss.of(out, batch)
            totals.append(terms.total.detach())
            seen.append(Cells(batch.epoch, batch.slots))
            self.scaler.scale(terms.total * (len(batch) / sum(parts))).backward()  # type: ignore[no-untyped-call]
            self._count(terms, out[1] if isinstance(out, tuple) else out, batch)
            waited = batches.view_seconds + batches.target_seconds
            times.add(
                StepTimes(
                    data=batches.view_seconds,
                    targets=batches.target_seconds,
                    compute=time.perf_counter() - started - waited,
                )
            )
        started = time.perf_counter()
        verdict = self._verdict(totals, seen, epoch)
        if not self.late:
            batches.confirm()
            self._read(verdict)
        if self.clip_grad:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.student.parameters(), self.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.late:
            earlier, self.unread = self.unread, verdict
            batches.confirm()  # what is compared left the device before the passes that were asked for since
            self._read(earlier)
        times.compute += time.perf_counter() - started
        return times

    def _verdict(self, totals: list[Tensor], seen: list[Cells], epoch: int) -> Verdict:
        """All processes must agree, or the others would wait for ever: they tell each other on the device."""
        finite = torch.isfinite(torch.stack(totals)).double()
        everywhere = finite.min()[None]
        if self.group.world > 1:
            torch.distributed.all_reduce(everywhere, torch.distributed.ReduceOp.MIN)
        return Verdict(Arriving(torch.cat([finite, everywhere])), seen, epoch)

    def _read(self, verdict: Verdict | None) -> None:
        """Raises TrainingDiverged where a loss was not finite, in any process."""
        if verdict is None:
            return
        *finite, everywhere = verdict.finite.read()
        if not everywhere:
            first = verdict.seen[finite.index(0.0) if 0.0 in finite else 0]
            raise TrainingDiverged(diverged(first, verdict.epoch, self.precision))

    def settled_sums(self) -> list[float]:
        """This process's sums, after the last verdict.

        Raises:
            TrainingDiverged: it is that a loss was not finite.
        """
        verdict, self.unread = self.unread, None
        self._read(verdict)
        return Arriving(self.sums).read()

    @torch.no_grad()
    def _count(self, terms: LossParts, dist_logits: Tensor, batch: Batch) -> None:
        """Add a part of a step to the sums; all of it stays on the device."""
        same = self.sums.new_zeros(1)
        if self.taught:
            same = (dist_logits.argmax(dim=-1) == batch.teacher.label).sum().double()[None]
        parts_of = torch.stack([terms.total, terms.label, terms.distillation]).double() * len(batch)
        # filled on the device: a number of the host would be copied there
        self.sums += torch.cat([self.sums.new_full((1,), len(batch)), parts_of, same])

    def update_ema(self, global_step: int) -> None:
        """Average the weights in; timm's warm-up keeps the untrained start from dominating a short run.

        Without warm-up every step has the full decay, the first too, as in DeiT: timm takes that where no step is said.
        """
        if self.ema is not None:
            self.ema.update(self.student, step=global_step if self.ema.use_warmup else None)

    def means(self) -> dict[str, float]:
        """Mean loss terms and agreement with the teacher, if there is one, since the epoch began, over all ranks."""
        views, *totals = self.group.sum(self.settled_sums())
        means = {name: total / max(1.0, views) for name, total in zip(SUMS[1:], totals, strict=True)}
        if not self.taught:
            del means["agreement"]
        return means


def diverged(views: Cells, epoch: int, precision: str) -> str:
    """The message when the loss of these views is not finite."""
    cure = "use --set precision=bf16 or fp32" if precision == "fp16" else "lower --lr, or --set clip-grad=1"
    return (
        f"the loss is not finite in epoch {epoch}: cells of cached epoch {views.epoch}, "
        f"slots {views.slots.min()}..{views.slots.max()}\n"
        f"  the last good checkpoint is kept\n{cure}; then run again with a new --out"
    )
