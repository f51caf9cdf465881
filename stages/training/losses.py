"""DeiT's losses (Touvron et al., arXiv 2012.12877, section 4): logits and targets in, scalars out, all in float32.

With psi the softmax, Z_s the student's and Z_t the teacher's logits, y the label and y_t = argmax Z_t:

    none:  L_CE(psi(Z_class), y)
    hard:  (1 - alpha) L_CE(psi(Z_class), y) + alpha L_CE(psi(Z_dist), y_t)                         eq. 3, alpha = 1/2
    soft:  (1 - alpha) L_CE(psi(Z_class), y) + alpha tau^2 KL(psi(Z_t / tau) || psi(Z_dist / tau))        eq. 2
    mse:   (1 - alpha) L_CE(psi(Z_class), y) + alpha mean (Z_dist - Z_t)^2, rows centred                 logit matching

mse is what soft tends to for a large tau: there tau^2 KL becomes mse / 2 (Hinton et al., arXiv 1503.02531, 2.1).
With `dist_label` the distillation head gets the label term too, so that its own loss is Hinton's:
(1 - alpha) L_CE(psi(Z_dist), y) + alpha (...), and the class head's is as before.

y is the mixed, smoothed label; y_t is never smoothed. A student without a distillation head gets both terms on its
class head. A view counts in the label term by its labelled share: with unlabelled images (label -1) in its mix by less,
with nothing labelled in it not at all, and then only the teacher's term is left. Both terms stay means over all views.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deit_pipe.stages.console.errors import Mismatch, UsageProblem
from deit_pipe.stages.options.fields import checked_as, is_number
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.training.proven_batches import Batch
from deit_pipe.stages.training.targets import TensorTargets, log_probabilities

# Of a loss: which option of train-student each value is.
OPTIONS = {"kind": "loss", "alpha": "alpha", "tau": "tau", "reduction": "kd_reduction", "label": "label_loss"}


@dataclass(frozen=True, kw_only=True)
class LossParts:
    """The terms of one batch: scalars, float32, with gradient."""

    total: Tensor
    label: Tensor
    distillation: Tensor


@dataclass(frozen=True, kw_only=True)
class DistillationLoss:
    """The loss of a run.

    Attributes:
        kind: none, hard, soft or mse.
        alpha: share of the distillation term, 0..1.
        tau: temperature of the soft loss.
        reduction: soft: `batchmean`, or `deit`, which divides by batch x classes (facebookresearch/deit losses.py, the
            legacy mean of torch 1.7), C times smaller.
        label: `ce`, or `bce` (DeiT III, engine.py: binary cross entropy on targets > 0; needs smoothing 0).
        teacher_weights: weight of each teacher's distillation term; they sum to 1.
        dist_label: whether a distillation head of its own gets the label term too; `label` is then the sum of both.
    """

    kind: str
    alpha: float
    tau: float = 1.0
    reduction: str = "batchmean"
    label: str = "ce"
    teacher_weights: tuple[float, ...] = (1.0,)
    dist_label: bool = False

    def __post_init__(self) -> None:
        """Check the values, as the command line does.

        Raises:
            UsageProblem: names the option that cannot be.
        """
        for name, option in OPTIONS.items():
            value = getattr(self, name)
            if value is None:  # an option that a preset decides; here nothing does
                raise UsageProblem(f"{name} cannot be None: a loss of its own has no preset that decides it")
            checked_as(TrainStudentOptions, option, value)
        weights: Any = self.teacher_weights
        if not isinstance(weights, Sequence) or not all(is_number(one) and one >= 0 for one in weights):
            raise UsageProblem(f"teacher_weights cannot be {weights!r}", expected="a number of at least 0 per teacher")
        if self.kind != "none" and not math.isclose(sum(weights), 1.0, rel_tol=1e-6):
            raise UsageProblem(
                f"teacher_weights {weights!r} sum to {sum(weights):g}",
                expected="1",
                cure="divide each by their sum; alpha is the share of the teachers together",
            )

    def __call__(
        self,
        class_logits: Tensor,
        dist_logits: Tensor,
        soft_labels: Tensor,
        targets: list[TensorTargets],
        labelled: Tensor | None = None,
    ) -> LossParts:
        """Loss of one batch.

        Args:
            class_logits: [B, C] of the class head.
            dist_logits: [B, C] of the distillation head (the class head's for a student that has none).
            soft_labels: float32 [B, C], mixed and smoothed true labels; rows sum to the labelled share.
            targets: one per teacher, in the order of `teacher_weights`; may be empty for the kind none.
            labelled: float32 [B], labelled share of each view; None: all of them are labelled.
        """
        label = label_term(class_logits.float(), soft_labels, self.label, labelled)
        if self.dist_label and dist_logits is not class_logits:
            label = label + label_term(dist_logits.float(), soft_labels, self.label, labelled)
        if self.kind == "none":
            return LossParts(total=label, label=label, distillation=torch.zeros_like(label))
        distillation = self._of_teachers(dist_logits, targets, self.teacher_weights)
        total = (1 - self.alpha) * label + self.alpha * distillation
        return LossParts(total=total, label=label, distillation=distillation)

    def of(self, output: Tensor | tuple[Tensor, Tensor], batch: Batch) -> LossParts:
        """Loss of a student's output for a batch.

        Args:
            output: both heads' logits [B, C], or those of the only one, which then gets both terms.
            batch: what the student was given.

        Raises:
            UsageProblem: logits of another shape, smoothed labels for `bce`, other weights than teachers.
        """
        class_logits, dist_logits = both_heads(output, batch)
        if self.label == "bce" and batch.smoothing > 0:
            raise UsageProblem(
                f"labels that are smoothed by {batch.smoothing:g} cannot serve bce, which takes every class above 0",
                cure="give batches(..., smoothing=0.0)",
            )
        weights, teachers = len(self.teacher_weights), len(batch.teachers)
        if self.kind != "none" and weights != teachers:
            raise UsageProblem(
                f"this loss has {weights} teacher weights, the batch answers of {teachers}",
                cure=f"give DistillationLoss(..., teacher_weights={equal_shares(teachers)})",
            )
        return self(class_logits, dist_logits, batch.labels, batch.targets, batch.labelled)

    def distillation(self, dist_logits: Tensor, batch: Batch) -> Tensor:
        """The teachers' term by itself, their mean where there are several: a scalar.

        Args:
            dist_logits: [B, C].
            batch: what the student was given.

        Raises:
            UsageProblem: logits of another shape.
        """
        _, dist_logits = both_heads(dist_logits, batch)
        return self._of_teachers(dist_logits, batch.targets, equal_shares(len(batch.teachers)))

    def _of_teachers(self, dist_logits: Tensor, targets: list[TensorTargets], weights: Sequence[float]) -> Tensor:
        terms = [
            weight * self._distillation(dist_logits.float(), one) for weight, one in zip(weights, targets, strict=True)
        ]
        return torch.stack(terms).sum()

    def _distillation(self, logits: Tensor, targets: TensorTargets) -> Tensor:
        if self.kind == "hard":
            return F.cross_entropy(logits, targets.teacher_label)
        if self.kind == "mse":
            return mse_term(logits, targets)
        return soft_term(logits, targets, self.tau, self.reduction)


def equal_shares(count: int) -> tuple[float, ...]:
    """The weights of so many teachers of which none counts more."""
    return (1 / count,) * count


def both_heads(output: object, batch: object) -> tuple[Tensor, Tensor]:
    """The logits of class and distillation head, checked against the batch: what broadcasts would be a wrong loss.

    Raises:
        UsageProblem: no batch of a cache, no logits, or logits of another shape.
    """
    if not isinstance(batch, Batch):
        raise UsageProblem(
            f"the loss needs a whole batch, not {type(batch).__name__}", cure="give what Cache.batches yields"
        )
    shape = tuple(batch.labels.shape)
    heads = output if isinstance(output, tuple | list) else (output, output)
    got = [tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__ for one in heads]
    if got != [shape, shape]:
        raise UsageProblem(
            "the student's output does not fit the batch",
            expected=f"logits {shape}, or a pair of them: views and classes of the batch",
            got=", ".join(map(str, got if isinstance(output, tuple | list) else got[:1])),
            cure="make the student with num_classes=len(cache.class_names), and give it this batch's images",
        )
    return heads[0], heads[1]


def label_term(logits: Tensor, soft_labels: Tensor, kind: str, labelled: Tensor | None = None) -> Tensor:
    """Cross entropy with soft labels [B, C], or DeiT III's binary one on `soft_labels > 0`; mean over the batch.

    Soft labels that sum to less than 1 weigh their view in the cross entropy by themselves; in the binary one, where
    no target means "not this class", `labelled` [B] does.
    """
    if kind == "bce":
        weight = None if labelled is None else labelled.unsqueeze(1)
        return F.binary_cross_entropy_with_logits(logits, (soft_labels > 0).float(), weight=weight)
    return -(soft_labels * F.log_softmax(logits, dim=-1)).sum(dim=-1).mean()


def soft_term(logits: Tensor, targets: TensorTargets, tau: float, reduction: str) -> Tensor:
    """tau^2 KL(teacher || student) at temperature tau; over K + 1 bins for top-k targets (the last is the tail).

    Lumping the tail gives a lower bound of the full KL (data-processing inequality); what is exact is the tail's mass.
    """
    student = F.log_softmax(logits / tau, dim=-1)
    if targets.logits is not None:
        teacher = F.log_softmax(targets.logits.float() / tau, dim=-1)
    else:
        teacher, student = _lump_tail(student, targets, tau)
    divergence = F.kl_div(student, teacher, reduction="sum", log_target=True) * tau * tau
    batch, classes = logits.shape
    return divergence / (batch * classes if reduction == "deit" else batch)


def mse_term(logits: Tensor, targets: TensorTargets) -> Tensor:
    """Mean over batch and classes of the squared differences of centred logits [B, C].

    Raises:
        Mismatch: not all logits are stored.
    """
    if targets.logits is None:
        raise Mismatch(
            "these targets cannot serve the loss mse, which compares the logits of all classes",
            expected="--logits dense or dense8",
            got=targets.kind,
            cure="use --loss hard, or make a cache with --logits dense8",
        )
    difference = logits - targets.logits
    return (difference - difference.mean(dim=-1, keepdim=True)).square().mean()


def _lump_tail(student: Tensor, targets: TensorTargets, tau: float) -> tuple[Tensor, Tensor]:
    """Teacher and student log-probabilities [B, K + 1]: the K stored classes, then everything else together."""
    kept, classes = log_probabilities(targets, tau), targets.topk_class
    assert classes is not None
    # fp16 rounding can make the kept mass exceed 1 by a little: the tail is then tiny, never negative
    tail = (1 - kept.exp().sum(dim=-1, keepdim=True)).clamp_min(TINY).log()
    others = student.scatter(1, classes, -torch.inf).logsumexp(dim=-1, keepdim=True)
    if classes.shape[1] == student.shape[1]:  # nothing is left over: minus infinity on both sides
        others = others.clamp_min(LOG_TINY)
    return torch.cat([kept, tail], dim=-1), torch.cat([student.gather(1, classes), others], dim=-1)


TINY = 1e-7
LOG_TINY = -16.11809565095832  # log(TINY)
