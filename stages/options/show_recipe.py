"""Options of `deit-pipe show-recipe`."""

from dataclasses import dataclass

from deit_pipe.stages.options.fields import CheckedOptions, argument


@dataclass(frozen=True, kw_only=True)
class ShowRecipeOptions(CheckedOptions):
    """Print every number of a view recipe, as TOML that --recipe takes again, and its digest.

    A file of your own holds a base and what differs: base = "deit", then for instance repeats = 1.
    What each field means stands in pipeline/recipe.py.

    Examples:
      deit-pipe show-recipe deit
      deit-pipe show-recipe mine.toml --json
    """

    recipe: str = argument("deit", "deit, deit3, basic, small, eval, or a .toml or .json file.", metavar="[RECIPE]")
