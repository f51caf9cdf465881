"""The one mapping of weights to timm's names: from torchvision's, Hugging Face's, DeiT III's, and timm's own old ones.

And position embeddings for another size of images.
"""

import math
import re
import sys
from collections.abc import Mapping

import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.networks.naming.hugging_face import from_hugging_face, is_hugging_faces
from deit_pipe.stages.networks.naming.torchvision import from_torchvision, is_torchvisions

DEIT3_SCALE = re.compile(r"\.gamma_([12])$")  # facebookresearch/deit models_v2.py


def in_timms_names(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Weights of other code under the names of this model, where they are others.

    Raises:
        Mismatch: they are of another family than the model.
    """
    own = model.state_dict()
    if state.keys() == own.keys():
        return dict(state)
    if is_torchvisions(state):
        return from_torchvision(state, str(getattr(model, "pretrained_cfg", {}).get("architecture", "")))
    if is_hugging_faces(state):
        return from_hugging_face(state, "these weights")
    if isinstance(model, VisionTransformer):
        return {DEIT3_SCALE.sub(r".ls\1.gamma", name): value for name, value in state.items()}
    if len(state.keys() & own.keys()) > len(own) // 2:
        return dict(state)
    return _by_timm(state, model)


def _by_timm(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """What timm's own translation of this family makes of the names; as they are where it has none.

    Raises:
        Mismatch: it cannot.
    """
    translate = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if translate is None:
        return dict(state)
    try:
        translated: dict[str, Tensor] = dict(translate(dict(state), model))
    except (KeyError, RuntimeError, AttributeError, TypeError) as error:
        raise Mismatch(
            f"these weights are not of {type(model).__name__}",
            details=[f"timm cannot translate them: {type(error).__name__}: {error}"],
            cure="name the model they were made for with --student, or --teacher",
        ) from error
    return translated


def fit_positions(state: dict[str, Tensor], model: nn.Module) -> list[str]:
    """Resample position embeddings to this model's grid, in place; a line about each."""
    own = model.state_dict()
    return [line for name in own if name in state and (line := _resize(name, state, own[name], model))]


def _resize(name: str, state: dict[str, Tensor], own: Tensor, model: nn.Module) -> str | None:
    """Resample a position embedding to this model's grid, in place; the line about it, None where there is none."""
    value = state[name]
    if name.rpartition(".")[2] != "pos_embed" or value.shape == own.shape:
        return None
    if value.ndim == own.ndim == 4 and value.shape[:2] == own.shape[:2]:  # PiT's: a map [1, width, rows, columns]
        state[name] = F.interpolate(value.float(), size=own.shape[2:], mode="bicubic", antialias=True)
        return f"position embeddings {_grid(value.shape[2:])} -> {_grid(own.shape[2:])} (bicubic)"
    if value.ndim != 3 or own.ndim != 3 or value.shape[2] != own.shape[2]:
        return None
    # DeiT III adds its embeddings before the class token joins, so they have no entry for it
    prefix = 0 if getattr(model, "no_embed_class", False) else int(getattr(model, "num_prefix_tokens", 1))
    sides = [math.isqrt(tensor.shape[1] - prefix) for tensor in (value, own)]
    if any(side * side != tensor.shape[1] - prefix for side, tensor in zip(sides, (value, own), strict=True)):
        return None
    old, new = ([side, side] for side in sides)
    state[name] = resample_abs_pos_embed(value, new_size=new, old_size=old, num_prefix_tokens=prefix)
    return f"position embeddings {_grid(old)} -> {_grid(new)} (bicubic, {prefix} prefix tokens kept)"


def _grid(sides: "list[int] | tuple[int, ...]") -> str:
    return "x".join(str(side) for side in sides)
