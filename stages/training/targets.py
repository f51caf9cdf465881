"""What the student is trained on, as tensors; read from caches, or made by a teacher in the loop."""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from deit_pipe.pipeline.loader import ViewBatch
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.opened.proof import StudentInput
from deit_pipe.stages.options.fields import checked_as
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.store.formats import Targets, TargetsOf

TensorTargets = TargetsOf[Tensor]


@dataclass(frozen=True)
class Answers:
    """What one teacher answered to the B views of a batch.

    Attributes:
        targets: as they are stored.
    """

    targets: TensorTargets

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def label(self) -> Tensor:
        """The teacher's label of each view, int64 [B]."""
        return self.targets.teacher_label

    @property
    def classes(self) -> Tensor | None:
        """Which K classes a top-k cache keeps of each view, int64 [B, K], most probable first; None: all are there."""
        return self.targets.topk_class

    def log_probabilities(self, tau: float = 1.0) -> Tensor:
        """The teacher's log-probabilities at a temperature, float32 [B, C]; [B, K] of `classes` in a top-k cache.

        Raises:
            UsageProblem: no temperature. Mismatch: the cache does not serve this one.
        """
        temperature: float = checked_as(TrainStudentOptions, "tau", tau)
        if self.targets.logits is not None:
            return torch.log_softmax(self.targets.logits.float() / temperature, dim=-1)
        return log_probabilities(self.targets, temperature)


def on_device(targets: Targets, device: torch.device) -> TensorTargets:
    """What a loss needs of these targets, as tensors on a device; fingerprints stay behind, compared already."""
    return replace(targets, fingerprint=None).each(lambda values: _moved(torch.as_tensor(values), device))


def _moved(values: Tensor, device: torch.device) -> Tensor:
    """On the device; page-locked on the way to a GPU: a copy of other memory waits until all before it is done."""
    return (values.pin_memory() if device.type == "cuda" else values).to(device, non_blocking=True)


def log_probabilities(targets: TensorTargets, tau: float) -> Tensor:
    """Teacher's log p_tau of the stored classes, float32 [B, K].

    Raises:
        Mismatch: they are not stored for this temperature.
    """
    if targets.topk_logp is None or targets.lse_tau is None or tau not in targets.taus:
        served = ", ".join(f"{one:g}" for one in targets.taus) if targets.kind == "topk" else "none: labels only"
        raise Mismatch(
            f"these targets cannot serve temperature {tau:g}",
            details=[f"temperatures they serve: {served}"],
            cure="use the label (loss hard), or make a cache with --logits dense8 or dense (they serve all)",
        )
    return targets.topk_logp / tau - targets.lse_tau[:, targets.taus.index(tau), None]


class TargetSource(Protocol):
    """Gives the targets of batches, one TensorTargets per teacher."""

    def next(self, views: ViewBatch, mixed: Tensor) -> list[TensorTargets]:
        """Targets of the next batch.

        Args:
            views: the batch; its fingerprints are checked against the cache's.
            mixed: float32 [B, 3, S, S], the composed pixels, not normalised.
        """
        ...

    def watch(self, views: ViewBatch, given: StudentInput) -> None:
        """Take what proves that the student is given what the teacher saw; never makes the device wait."""
        ...

    def confirm(self) -> None:
        """Compare what was taken in this step; raises Mismatch."""
        ...
