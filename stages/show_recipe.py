"""`deit-pipe show-recipe`: a recipe with every number spelt out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.pipeline.recipe import VIEWS_VERSION, Recipe, load_recipe, preset_name
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.options.show_recipe import ShowRecipeOptions


@dataclass(frozen=True)
class RecipeFacts(Facts):
    """A recipe.

    Attributes:
        name, digest, views_version: of the preset, or `custom`; SHA-256; of the program that draws it.
        mixing: pair, batch or none.
        real_window: slots that the views of a sample stay within; None without repeats.
        recipe: every number, by the name of its field.
    """

    name: str
    digest: str
    views_version: int
    mixing: str
    real_window: int | None
    recipe: Mapping[str, Any]


def run(options: ShowRecipeOptions) -> CommandResult[RecipeFacts]:
    """Resolve the recipe and print it as TOML."""
    recipe = load_recipe(options.recipe)
    values, name = recipe.numbers(), preset_name(recipe)
    window = ViewPlan.for_recipe(1, recipe, 0).window if recipe.repeats > 1 else None
    head = [f"# recipe {name}, views version {VIEWS_VERSION}", f"# digest {recipe.digest}", *_in_words(recipe, window)]
    text = "\n".join([*head, *(f"{field} = {_toml(value)}" for field, value in values.items())])
    return CommandResult(text, RecipeFacts(name, recipe.digest, VIEWS_VERSION, recipe.mixing, window, values))


def _in_words(recipe: Recipe, window: int | None) -> list[str]:
    """What the numbers of mixing and of repeats come to, as TOML comments."""
    shared = {"pair": "each pair", "batch": f"each {recipe.mix_group:,} views", "none": "none"}[recipe.mixing]
    lines = [f"# mixing {recipe.mixing}" + ("" if shared == "none" else f": one lambda and box for {shared}")]
    if window is not None:
        step = f", inside a step of {recipe.repeat_step:,}" if recipe.repeat_step else ""
        lines.append(f"# real window: the {recipe.repeats} views of a sample stay within {window:,} slots{step}")
    return lines


def _toml(value: Any) -> str:
    """A TOML value: numbers, strings, booleans and lists are spelt as in JSON."""
    return json.dumps(value)
