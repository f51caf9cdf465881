"""Students with a class head and a distillation head, whichever of timm's families they are of.

Such a model has `set_distilled_training`. Set and in training it answers with both heads' logits; otherwise with their
mean. Some families have the method without the head.

Shapes: B images, S their side, C classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

SECOND_HEAD = {"head_dist", "heads_dist"}  # as timm calls it, in every family


def has_two_heads(model: nn.Module) -> bool:
    """Whether timm trains it with a distillation head beside its class head, and that head is there."""
    if not hasattr(model, "set_distilled_training"):
        return False
    return any(not SECOND_HEAD.isdisjoint(name.split(".")) for name, _ in model.named_parameters())


def heads(model: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
    """Logits [B, C] of the class head and of the distillation head (None if it has none), in any mode.

    Args:
        model: as it was built, neither compiled nor distributed.
        pixels: float32 [B, 3, S, S], normalised.
    """
    if not has_two_heads(model):
        logits: Tensor = model(pixels)
        return logits, None
    network: Any = model
    features = network.forward_features(pixels)
    with _answering_apart(model):
        class_logits, dist_logits = network.forward_head(features)
    return class_logits, dist_logits


@contextmanager
def _answering_apart(model: nn.Module) -> Iterator[None]:
    """While open, the module that decides believes to be in training; none below it does, so nothing is dropped."""
    deciding: list[Any] = [module for module in model.modules() if hasattr(module, "distilled_training")]
    before = [(module.training, module.distilled_training) for module in deciding]
    for module in deciding:
        module.training = module.distilled_training = True
    try:
        yield
    finally:
        for module, (training, distilled) in zip(deciding, before, strict=True):
            module.training, module.distilled_training = training, distilled


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Dotted names of the modules that make the logits, such as `head` and `head_dist`."""
    network: Any = model
    found = network.get_classifier()
    parts = found if isinstance(found, tuple) else (found,)
    return tuple(name for name, module in model.named_modules() if any(module is part for part in parts))
