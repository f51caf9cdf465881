"""`deit-pipe show-recipe`: a recipe with every number spelt out."""

import json
from typing import Any

from deit_pipe.pipeline.recipe import VIEWS_VERSION, load_recipe, preset_name
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.options.show_recipe import ShowRecipeOptions


def run(options: ShowRecipeOptions) -> CommandResult:
    """Resolve the recipe and print it as TOML."""
    recipe = load_recipe(options.recipe)
    values, name = recipe.numbers(), preset_name(recipe)
    head = [f"# recipe {name}, views version {VIEWS_VERSION}", f"# digest {recipe.digest}"]
    text = "\n".join([*head, *(f"{field} = {_toml(value)}" for field, value in values.items())])
    data = {"name": name, "digest": recipe.digest, "views_version": VIEWS_VERSION, "recipe": values}
    return CommandResult(text, data)


def _toml(value: Any) -> str:
    """A TOML value: numbers, strings, booleans and lists are spelt as in JSON."""
    return json.dumps(value)
