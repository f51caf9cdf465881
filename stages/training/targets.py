"""What the student is trained on, as tensors; read from caches, or made by a teacher in the loop."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from deit_pipe.pipeline.loader import ViewBatch
from deit_pipe.stages.training.proof import StudentInput
from deit_pipe.store.formats import Targets


@dataclass(frozen=True)
class TensorTargets:
    """One teacher's targets for a batch, on the device.

    Attributes:
        teacher_label: int64 [B], argmax of the teacher's float32 logits.
        logits: float32 [B, C] (dense) or None.
        topk_class: int64 [B, K], most probable first (topk) or None.
        topk_logp: float32 [B, K], log-probabilities at temperature 1, or None.
        lse_tau: float32 [B, T], logsumexp(log p / tau) for each of `taus` (0 for tau 1), or None.
        taus: temperatures that top-k targets serve.
    """

    teacher_label: Tensor
    logits: Tensor | None = None
    topk_class: Tensor | None = None
    topk_logp: Tensor | None = None
    lse_tau: Tensor | None = None
    taus: tuple[float, ...] = ()

    @classmethod
    def from_store(cls, targets: Targets, device: torch.device) -> "TensorTargets":
        """The same targets on a device."""

        def move(array: object) -> Tensor | None:
            return None if array is None else torch.as_tensor(array).to(device, non_blocking=True)

        label = move(targets.teacher_label)
        assert label is not None
        return cls(
            teacher_label=label,
            logits=move(targets.logits),
            topk_class=move(targets.topk_class),
            topk_logp=move(targets.topk_logp),
            lse_tau=move(targets.lse_tau),
            taus=tuple(targets.taus),
        )

    def log_probabilities(self, tau: float) -> Tensor:
        """Teacher's log p_tau of the stored classes, float32 [B, K]."""
        assert self.topk_logp is not None
        assert self.lse_tau is not None
        return self.topk_logp / tau - self.lse_tau[:, self.taus.index(tau), None]


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
