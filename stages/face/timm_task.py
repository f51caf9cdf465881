"""A training task of timm whose teacher is a cache: in the protocol of timm's own distillation tasks."""

import math
from typing import Any

import timm
import torch
from timm.loss import SoftTargetCrossEntropy
from timm.utils import unwrap_model
from torch import Tensor, nn

from deit_pipe.stages.console.errors import Missing, UsageProblem
from deit_pipe.stages.networks.two_heads import has_two_heads
from deit_pipe.stages.options.fields import is_number
from deit_pipe.stages.training.losses import DistillationLoss, both_heads
from deit_pipe.stages.training.proven_batches import Batch

try:
    from timm.task import TrainingTask
except ImportError as error:
    raise Missing(
        f"timm {timm.__version__} has no training tasks",
        expected="a timm that has timm.task, such as 1.0.31",
        cure="install it with: pip install -U timm",
    ) from error


class CachedDistillationTask(TrainingTask):  # type: ignore[misc]  # timm ships no types
    """What `timm.task.TokenDistillationTask` does, with answers that were cached instead of a teacher in memory.

    The class head learns the labels by `criterion`, the distillation head the teacher's answers. A student with one
    head gets both terms on it, as in `timm.task.LogitDistillationTask`. Arguments that timm's tasks have mean the same
    here, the weights of the terms too; with several cached teachers the distillation term is their mean.
    """

    def __init__(
        self,
        student_model: nn.Module,
        criterion: nn.Module | None = None,
        distill_type: str = "soft",
        distill_loss_weight: float | None = None,
        task_loss_weight: float | None = None,
        temperature: float = 1.0,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        verbose: bool = True,
    ) -> None:
        """Take a student.

        Args:
            student_model: any timm model; one with two heads is set to give both in training.
            criterion: of the labels, which are mixed and smoothed rows; None: timm's cross entropy of such rows.
            distill_type: soft or hard.
            distill_loss_weight: weight of the teacher's term; None: what `task_loss_weight` leaves of 1, else 1.
            task_loss_weight: weight of the labels' term; None: 1.
            temperature: of soft.
            device: as timm's tasks take it; `dtype` and `verbose` likewise.
            dtype: see above.
            verbose: see above.

        Raises:
            UsageProblem: a type, weight or temperature that cannot be.
        """
        super().__init__(device=device, dtype=dtype, verbose=verbose)
        if distill_type not in ("soft", "hard"):
            raise UsageProblem(f"distill_type cannot be {distill_type!r}: expected one of soft, hard")
        bare = unwrap_model(student_model)
        if has_two_heads(bare):
            bare.set_distilled_training(True)
        self.trainable_module = student_model
        self.criterion = SoftTargetCrossEntropy() if criterion is None else criterion
        self.distill_type, self.temperature = distill_type, temperature
        given: dict[str, Any] = {"distill_loss_weight": distill_loss_weight, "task_loss_weight": task_loss_weight}
        for name, weight in given.items():
            if weight is not None and not (is_number(weight) and 0 <= weight < math.inf):
                raise UsageProblem(f"{name} cannot be {weight!r}: expected a number of at least 0")
        if distill_loss_weight is None and task_loss_weight is not None and task_loss_weight > 1:
            raise UsageProblem(
                f"task_loss_weight {task_loss_weight:g} leaves a negative weight to the teacher",
                cure="give distill_loss_weight too",
            )
        self._loss = DistillationLoss(kind=distill_type, alpha=1.0, tau=temperature)
        self.task_loss_weight = 1.0 if task_loss_weight is None else task_loss_weight
        if distill_loss_weight is None:
            distill_loss_weight = 1.0 if task_loss_weight is None else 1.0 - task_loss_weight
        self.distill_loss_weight = distill_loss_weight

    def prepare_distributed(self, device_ids: list[int] | None = None, **ddp_kwargs: Any) -> "CachedDistillationTask":
        """Wrap the student in DistributedDataParallel; every process iterates its own rank's batches."""
        self.trainable_module = nn.parallel.DistributedDataParallel(
            self.trainable_module, device_ids=device_ids, **ddp_kwargs
        )
        return self

    def compile(self, backend: str = "inductor", mode: str | None = None, **compile_kwargs: Any) -> Any:
        """Compile the student."""
        compiled: Any = torch.compile(self.trainable_module, backend=backend, mode=mode, **compile_kwargs)
        self.trainable_module = self.eval_model = compiled
        return compiled

    def forward(self, input: Tensor, target: Batch) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            input: float32 [B, 3, S, S], the batch's images.
            target: the batch, as `Cache.batches` gives it.

        Returns:
            `loss`, `output` (logits of the class head), `task_loss` and `distill_loss`, as timm's task.

        Raises:
            UsageProblem: no batch, or a student of other classes.
        """
        main, taught = both_heads(self.trainable_module(input), target)
        task_loss = self.criterion(main, target.labels)
        distill_loss = self._loss.distillation(taught, target)
        return {
            "loss": self.task_loss_weight * task_loss + self.distill_loss_weight * distill_loss,
            "output": main,
            "task_loss": task_loss,
            "distill_loss": distill_loss,
        }
