"""What recipe files may say: types of the fields, ranges of their values, and which fields came later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from deit_pipe.pipeline.errors import RecipeError

if TYPE_CHECKING:
    from deit_pipe.pipeline.recipe import Recipe

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
            raise RecipeError(f"unknown recipe field {name!r}\n  {hint}see: deit-pipe show-recipe deit")
        try:
            parsed[name] = _convert(kinds[name], value)
        except (TypeError, ValueError) as error:
            raise RecipeError(
                f"recipe field {name} has a wrong value\n"
                f"  expected  {_kind_name(kinds[name])}\n  got       {value!r}\n"
                "  see: deit-pipe show-recipe deit"
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


def check_ranges(recipe: Recipe) -> None:
    """Refuse numbers that cannot be drawn from."""

    def demand(name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise RecipeError(
                f"recipe field {name} is out of range\n"
                f"  expected  {expected}\n  got       {getattr(recipe, name)!r}\n"
                "  see: deit-pipe show-recipe deit"
            )

    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if field.name.endswith("_prob"):
            demand(field.name, 0 <= value <= 1, "0..1")
        elif field.name.endswith(("_area", "_aspect", "_scale")) or field.name == "blur_radius":
            demand(field.name, 0 < value[0] <= value[1] < 100, "two numbers above 0, the smaller first")
        elif field.name == "fill":
            demand(field.name, all(0 <= level <= 255 for level in value), "three levels 0..255")
    demand("crop_area", recipe.crop_area[1] <= 1, "at most 1")
    demand("erase_area", recipe.erase_area[1] <= 1, "at most 1")
    demand("crop_ratio", 0.1 <= recipe.crop_ratio <= 1, "0.1..1")
    demand("affine_shift", 0 <= recipe.affine_shift <= 1, "0..1")
    demand("affine_degrees", 0 <= recipe.affine_degrees <= 180, "0..180")
    demand("rand_layers", 0 <= recipe.rand_layers <= 8, "0..8")
    demand("rand_magnitude", 0 <= recipe.rand_magnitude <= 10, "0..10")
    demand("rand_magnitude_std", 0 <= recipe.rand_magnitude_std <= 100, "0..100")
    demand("rand_magnitude_max", 0 <= recipe.rand_magnitude_max <= 10, "0..10")
    demand("rand_translate", 0 <= recipe.rand_translate <= 1, "0..1")
    demand("solarize_threshold", 0 <= recipe.solarize_threshold <= 256, "0..256")
    demand("jitter", 0 <= recipe.jitter <= 1, "0..1")
    demand("std", all(value > 0 for value in recipe.std), "three numbers above 0")
    for name in ("mixup_alpha", "cutmix_alpha"):
        demand(name, 0 <= getattr(recipe, name) <= 32, "0..32")
    for name in ("crop_tries", "erase_tries", "mix_group", "repeats", "window"):
        demand(name, 1 <= getattr(recipe, name) <= 1 << 20, "1 or more")
