"""Options of `deit-pipe show-recipe`."""

from dataclasses import dataclass

from deit_pipe.stages.options.fields import CheckedOptions, argument


@dataclass(frozen=True, kw_only=True)
class ShowRecipeOptions(CheckedOptions):
    """Print every number of a view recipe, as TOML that --recipe takes again, and its digest.

    A file of your own holds a base and what differs: base = "deit", then for instance repeats = 1.
    mixing = "batch" in it mixes groups of 256 views, "pair" pairs. What each field means stands in pipeline/recipe.py,
    what each preset is taken from in pipeline/RECIPES.md. The real window and the mixing are said on top.

    Presets: deit (pairs, any batch size), deit-batch (as it was run: batch mode, 256 views on each of 4 GPUs), deit-32
    (images up to 32 px), deit3, deit3-batch, deit3-src (Simple Random Crop), deit3-finetune, basic, small, eval.

    Examples:
      deit-pipe show-recipe deit
      deit-pipe show-recipe mine.toml --json
    """

    recipe: str = argument("deit", "A preset, or a .toml or .json file.", metavar="[RECIPE]")
