"""Which numbers a recipe may have: the range of every field."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from deit_pipe.pipeline.errors import RecipeError


def check_ranges(recipe: Any) -> None:
    """Refuse numbers that cannot be drawn from.

    Args:
        recipe: a dataclass with the fields of `Recipe`.

    Raises:
        RecipeError: names the first field, what is expected of it, and what it is.
    """

    def demand(name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise RecipeError(
                f"recipe field {name} is out of range",
                expected=expected,
                got=repr(getattr(recipe, name)),
                cure="see: deit-pipe show-recipe deit",
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
    demand("crop_pad", 0 <= recipe.crop_pad <= 64, "0..64")
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
    whole = 0 <= recipe.repeat_step <= 1 << 20 and recipe.repeat_step % recipe.mix_group == 0
    demand("repeat_step", whole, f"0 or a multiple of mix_group {recipe.mix_group}")
