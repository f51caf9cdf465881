"""Options of `deit-pipe show-views`."""

from dataclasses import dataclass

from deit_pipe.stages.options.data import SourceOptions
from deit_pipe.stages.options.fields import argument, option


@dataclass(frozen=True, kw_only=True)
class ShowViewsOptions(SourceOptions):
    """Draw a grid of what is trained on: one row per sample, its views side by side, the numbers drawn under each.

    The pictures are what both networks see, erased and mixed, made as in training.

    Examples:
      deit-pipe show-views
      deit-pipe show-views imagenet/ --recipe deit --out views.png
      deit-pipe show-views imagenet/ --recipe mine.toml --samples 8 --views 6 --seed 3
    """

    data: str = argument("digits", "Images: digits, or a path as for --data.", metavar="[DATA]")
    recipe: str = option(
        "deit", "A preset of show-recipe, such as deit or small, or a .toml or .json file.", metavar="R"
    )
    out: str = option("views.png", "The picture to write.", metavar="FILE")
    samples: int = option(4, "Rows.", minimum=1, maximum=64)
    views: int = option(5, "Columns: the first views of each sample over the epochs.", minimum=1, maximum=32)
    seed: int = option(0, "Seed of the plan.", minimum=0)
    img_size: int | None = option(
        None, "Side of a view in pixels.  [default: 32 for small images, else 224]", minimum=8
    )
    original: bool = option(True, "Begin each row with the whole image, squeezed to a square.")
