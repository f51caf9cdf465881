"""Weights taken over by another student: positions resized, heads of other classes made new; all of it is said."""

import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.networks.starting_weights import StartingWeights, find_start, head_rows
from deit_pipe.stages.networks.student import StudentFacts
from deit_pipe.stages.networks.two_heads import head_names
from deit_pipe.stages.networks.weights import digest, load_into

DEIT3_SCALE = re.compile(r"\.gamma_([12])$")  # facebookresearch/deit models_v2.py


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What became of the weights that a student starts from.

    Attributes:
        lines: for a person: what was taken, resized, made new.
        new_heads: names of heads that were made new.
    """

    lines: tuple[str, ...]
    new_heads: tuple[str, ...]


def start_from(model: nn.Module, facts: StudentFacts, start: StartingWeights | str | Path) -> Taken:
    """Load other weights into a new student.

    Args:
        model: the new student, changed in place.
        facts: of the new student.
        start: the weights, or the name of a run, export, file, folder or tag.

    Raises:
        Missing: they are not there. Mismatch: they are another network's.
    """
    if not isinstance(start, StartingWeights):
        start = find_start(str(start), facts.model)
    raw = start.read()
    state, own = dict(in_timms_names(raw, model)), model.state_dict()
    resized = [line for name in own if name in state and (line := _resize(name, state, own[name], model))]
    known = start.knows(facts.class_names)
    heads = head_names(model)
    new = tuple(head for head in heads if not known or not any(_below(name, head) for name in state))
    for head in new:
        for name in [name for name in state if _below(name, head)]:
            del state[name]
        state |= {name: value for name, value in own.items() if _below(name, head)}
    taken = sum(name in state and not any(_below(name, head) for head in new) for name in own)
    load_into(model, state, start.source, cure=f"start from the same architecture: --student {start.model}")
    lines = [f"weights of {start.source} ({start.tag}, sha256 {digest(raw)[:12]}): {taken} tensors taken", *resized]
    if new:
        lines.append(
            f"new heads: {start.num_classes or head_rows(raw)} classes -> {facts.num_classes} other classes"
            if not known
            else f"new {', '.join(new)}: the weights have none"
        )
    elif start.class_names is None:
        lines.append(
            f"heads taken: as many classes, {facts.num_classes:,}; the weights do not name them, so their order is "
            "taken to be the data's"
        )
    return Taken(lines=tuple(lines), new_heads=new)


def in_timms_names(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Weights of other code under the names of this model, where they are others.

    DeiT III's own layer scales are called otherwise; other families have timm's own translation.
    """
    own = model.state_dict()
    if state.keys() == own.keys():
        return state
    if isinstance(model, VisionTransformer):
        return {DEIT3_SCALE.sub(r".ls\1.gamma", name): value for name, value in state.items()}
    translate = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if translate is None or len(state.keys() & own.keys()) > len(own) // 2:
        return state
    try:
        translated: dict[str, Tensor] = dict(translate(dict(state), model))
    except (KeyError, RuntimeError, AttributeError, TypeError) as error:
        raise Mismatch(
            f"these weights are not of {type(model).__name__}",
            details=[f"timm cannot translate them: {type(error).__name__}: {error}"],
            cure="name the student they were made for with --student",
        ) from error
    return translated


def _below(name: str, module: str) -> bool:
    return name.startswith(f"{module}.")


def _resize(name: str, state: dict[str, Tensor], own: Tensor, model: nn.Module) -> str | None:
    """Resample a position embedding to this student's grid, in place; the line about it, None where there is none."""
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
