"""What recipe files may say: types of the fields, and which fields came later."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

from deit_pipe.pipeline.errors import RecipeError

# Per views version: the fields that every recipe of it writes down, frozen. A field that is not among them came
# later. Its default means "as before", so that it may be absent: a recipe that does not use it keeps its JSON and its
# digest, and every cache made before stays the same cache. Only a new views version may take fields in.
FIRST_FIELDS: Mapping[int, frozenset[str]] = MappingProxyType(
    {
        1: frozenset(
            {
                "crop",
                "crop_area",
                "crop_aspect",
                "crop_tries",
                "crop_ratio",
                "resample",
                "fill",
                "flip_prob",
                "affine_shift",
                "affine_degrees",
                "affine_scale",
                "rand_layers",
                "rand_prob",
                "rand_magnitude",
                "rand_magnitude_std",
                "rand_magnitude_max",
                "rand_translate",
                "three_augment",
                "solarize_threshold",
                "blur_radius",
                "jitter",
                "erase_prob",
                "erase_area",
                "erase_aspect",
                "erase_tries",
                "mean",
                "std",
                "mix_group",
                "mixup_alpha",
                "cutmix_alpha",
                "mix_prob",
                "switch_prob",
                "repeats",
                "window",
            }
        )
    }
)


def parse_fields(kinds: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn JSON or TOML values into field values, refusing unknown names and wrong types.

    Args:
        kinds: type of every field.
        values: what was read.
    """
    parsed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in kinds:
            near = get_close_matches(name, kinds, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise RecipeError(f"unknown recipe field {name!r}", cure=f"{hint}see: deit-pipe show-recipe deit")
        try:
            parsed[name] = _convert(kinds[name], value)
        except (TypeError, ValueError) as error:
            raise RecipeError(
                f"recipe field {name} has a wrong value",
                expected=_kind_name(kinds[name]),
                got=f"{value!r}",
                cure="see: deit-pipe show-recipe deit",
            ) from error
    return parsed


def _convert(kind: Any, value: Any) -> Any:
    if get_origin(kind) is tuple:
        members = get_args(kind)
        if not isinstance(value, list | tuple) or len(value) != len(members):
            raise ValueError(value)
        return tuple(_convert(member, entry) for member, entry in zip(members, value, strict=True))
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(value)
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and number:
        return float(value)
    if kind is int and number and int(value) == value:
        return int(value)
    if kind is bool and isinstance(value, bool):
        return value
    raise TypeError(value)


def _kind_name(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return f"[{', '.join(member.__name__ for member in get_args(kind))}]"
    return " | ".join(get_args(kind)) if get_origin(kind) is Literal else str(kind.__name__)
