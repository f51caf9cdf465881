"""Optimiser and learning-rate schedule: DeiT's numbers in timm's factories."""

from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import nn
from torch.optim import Optimizer

from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.training.published import TrainingSettings


def make_optimizer(model: nn.Module, settings: TrainingSettings, layer_decay: float | None = None) -> Optimizer:
    """Timm's optimiser; biases, norms, position embeddings and all tokens are not decayed.

    The official DeiT code decays `dist_token` (it is missing from its skip set); timm does not, and neither do we.

    Raises:
        UsageProblem: timm knows no such optimiser.
    """
    try:
        optimizer: Optimizer = create_optimizer_v2(
            model,
            opt=settings.optimizer,
            lr=settings.scaled_lr,
            weight_decay=settings.weight_decay,
            layer_decay=layer_decay,
        )
    except (ValueError, KeyError, AssertionError) as error:
        raise UsageProblem(
            f"timm has no optimiser {settings.optimizer!r}", details=[str(error)], cure="use adamw, lamb or sgd"
        ) from error
    return optimizer


def make_schedule(optimizer: Optimizer, settings: TrainingSettings) -> CosineLRScheduler:
    """Half a cosine from the scaled rate to `min_lr`, warmup inside its length; `step(epoch)` before each epoch.

    As timm's train.py: epoch e runs at lr(e). The official DeiT loop steps after the epoch, so its epochs 0 and 1 share
    one rate and all others lag by one. Warmup and minimum are absolute, only the peak scales with the batch.
    """
    return CosineLRScheduler(
        optimizer,
        t_initial=max(2, settings.epochs),  # timm warns of a single epoch, whose rate is the peak all the same
        lr_min=min(settings.min_lr, settings.scaled_lr),
        warmup_t=min(settings.warmup_epochs, max(0, settings.epochs - 1)),
        warmup_lr_init=min(settings.warmup_lr, settings.scaled_lr),
        warmup_prefix=False,
    )


def learning_rate(optimizer: Optimizer) -> float:
    """The largest rate of any parameter group, with its layer-decay factor taken out."""
    return max(float(group["lr"]) / float(group.get("lr_scale", 1.0)) for group in optimizer.param_groups)
