"""What the student is trained on, as tensors; read from caches, or made by a teacher in the loop."""

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from deit_pipe.pipeline.loader import ViewBatch
from deit_pipe.stages.opened.proof import StudentInput
from deit_pipe.store.formats import Targets, TargetsOf

TensorTargets = TargetsOf[Tensor]


def on_device(targets: Targets, device: torch.device) -> TensorTargets:
    """What a loss needs of these targets, as tensors on a device; fingerprints stay behind, compared already."""
    return replace(targets, fingerprint=None).each(lambda values: torch.as_tensor(values).to(device, non_blocking=True))


def log_probabilities(targets: TensorTargets, tau: float) -> Tensor:
    """Teacher's log p_tau of the stored classes, float32 [B, K]."""
    assert targets.topk_logp is not None
    assert targets.lse_tau is not None
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
