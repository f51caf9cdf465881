"""The training loop: views and targets in, a better student out; resumable after any step, bit for bit."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

from deit_pipe.pipeline.compose import compose, labelled_share, mixed_labels, normalise
from deit_pipe.pipeline.loader import ViewBatch
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.stages.console.errors import TrainingDiverged
from deit_pipe.stages.machine.distributed import Processes
from deit_pipe.stages.networks.student import StudentFacts
from deit_pipe.stages.opened.proof import StudentInput
from deit_pipe.stages.training.losses import DistillationLoss
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


@dataclass
class Trainer:
    """State and one step of training.

    Attributes:
        student: the bare network (checkpoints, evaluation); `network` is what runs: compiled, DDP.
        loss: of the run.
        precision: fp32, bf16 or fp16.
        clip_grad: largest gradient norm, 0 for none.
        smoothing: of the true labels.
        taught: whether targets are there to agree with; without, agreement is not recorded.
        sums: float64 [len(SUMS)] since the epoch began, on the device.
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

    def __post_init__(self) -> None:
        self.sums = torch.zeros(len(SUMS), dtype=torch.float64, device=self.group.device)
        # fp16 needs loss scaling; for the others the scaler is a no-op
        self.scaler = torch.amp.GradScaler(self.group.device.type, enabled=self.precision == "fp16")

    def step(self, views: Iterator[ViewBatch], targets: TargetSource, parts: list[int], epoch: int) -> StepTimes:
        """One optimiser step over one batch of views per part, of those sizes.

        Raises:
            TrainingDiverged: the loss is not finite; nothing was changed by this step.
            Mismatch: the student was given something else than the teacher; nothing was changed by this step.
        """
        times = StepTimes()
        totals: list[Tensor] = []
        seen: list[ViewBatch] = []
        self.optimizer.zero_grad(set_to_none=True)
        for part in range(len(parts)):
            started = time.perf_counter()
            on_host = next(views)
            arrived = time.perf_counter()
            times.data += arrived - started
            batch = on_host.to(self.group.device, non_blocking=True)
            mixed = compose(batch, self.recipe)
            composed = time.perf_counter()
            answers = targets.next(on_host, mixed)
            answered = time.perf_counter()
            times.targets += answered - composed
            if self.channels_last:
                mixed = mixed.to(memory_format=torch.channels_last)
            inputs = normalise(mixed, self.facts.mean, self.facts.std)
            labels = mixed_labels(batch, self.facts.num_classes, self.smoothing)
            labelled = labelled_share(batch)
            targets.watch(on_host, self._given(inputs, labels, labelled))
            last = part == len(parts) - 1
            if isinstance(self.network, nn.parallel.DistributedDataParallel):
                self.network.require_backward_grad_sync = last
            with torch.autocast(
                self.group.device.type,
                dtype=AMP_DTYPES.get(self.precision, torch.bfloat16),
                enabled=self.precision in AMP_DTYPES,
            ):
                out = self.network(inputs)
            class_logits, dist_logits = out if isinstance(out, tuple) else (out, out)
            terms = self.loss(class_logits, dist_logits, labels, answers, labelled)
            totals.append(terms.total.detach())
            seen.append(on_host)
            self.scaler.scale(terms.total * (len(batch) / sum(parts))).backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                same = self.sums.new_zeros(1)
                if self.taught:
                    same = (dist_logits.argmax(dim=-1) == answers[0].teacher_label).sum().double()[None]
                parts_of = torch.stack([terms.total, terms.label, terms.distillation]).double() * len(batch)
                self.sums += torch.cat([self.sums.new_tensor([len(batch)]), parts_of, same])
            times.compute += time.perf_counter() - answered + composed - arrived
        started = time.perf_counter()
        # one look at the device a step; all processes must agree, or the others would wait for ever
        finite = torch.isfinite(torch.stack(totals)).tolist()
        targets.confirm()  # here, because what is compared has arrived: the line above has waited for the device
        if self.group.any(not all(finite)):
            raise TrainingDiverged(diverged(seen[finite.index(False) if False in finite else 0], epoch, self.precision))
        if self.clip_grad:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.student.parameters(), self.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        times.compute += time.perf_counter() - started
        return times

    def _given(self, inputs: Tensor, labels: Tensor, labelled: Tensor) -> StudentInput:
        """What the network and the loss get, and what is said of it."""
        return StudentInput(
            inputs=inputs,
            mean=tuple(self.facts.mean),
            std=tuple(self.facts.std),
            labels=labels,
            labelled=labelled,
            smoothing=self.smoothing,
        )

    def update_ema(self, global_step: int) -> None:
        """Average the weights in; timm's warm-up keeps the untrained start from dominating a short run.

        Without warm-up every step has the full decay, the first too, as in DeiT: timm takes that where no step is said.
        """
        if self.ema is not None:
            self.ema.update(self.student, step=global_step if self.ema.use_warmup else None)

    def means(self) -> dict[str, float]:
        """Mean loss terms and agreement with the teacher, if there is one, since the epoch began, over all ranks."""
        views, *totals = self.group.sum([float(value) for value in self.sums])
        means = {name: total / max(1.0, views) for name, total in zip(SUMS[1:], totals, strict=True)}
        if not self.taught:
            del means["agreement"]
        return means


def diverged(views: ViewBatch, epoch: int, precision: str) -> str:
    """The message when the loss of these views is not finite."""
    cure = "use --set precision=bf16 or fp32" if precision == "fp16" else "lower --lr, or --set clip-grad=1"
    return (
        f"the loss is not finite in epoch {epoch}: cells of cached epoch {views.epoch}, "
        f"slots {views.slots.min()}..{views.slots.max()}\n"
        f"  the last good checkpoint is kept\n{cure}; then run again with a new --out"
    )
