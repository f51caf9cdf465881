"""The recipe: which views may be drawn. Every number of it is a field; nothing is implied by a name.

Sources: DeiT arXiv 2012.12877 table 9 and facebookresearch/deit main.py (2024-03-15); DeiT III arXiv
2204.07118 and augment.py of the same repository; timm 1.0.31 auto_augment.py, random_erasing.py, mixup.py.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self, get_type_hints

from deit_pipe.pipeline.errors import RecipeError
from deit_pipe.pipeline.recipe_fields import FIRST_FIELDS, parse_fields
from deit_pipe.pipeline.recipe_ranges import check_ranges

# Raised whenever the same seed and images would give other pixels, labels or cells: covers plan, draw,
# render, compose.
VIEWS_VERSION = 1

# The mix group of a recipe file that names its mixing only; DeiT has 256 views on a GPU.
MIX_GROUPS: Mapping[str, int] = MappingProxyType({"pair": 2, "batch": 256, "none": 1})

SEE = "see: deit-pipe show-recipe deit"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The distribution of views. Probabilities are 0..1; "of the side": fractions of the view's side."""

    crop: Literal["random", "centre", "whole", "padded"] = "random"
    """random: RandomResizedCrop; centre: resize the short side, then cut; whole: squeeze into a square; padded: resize
    the short side to the view's, pad, cut anywhere (RandomCrop).
    """
    crop_area: tuple[float, float] = (0.08, 1.0)
    """Area of a random crop as a share of the image."""
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Width / height of a random crop, log-uniform."""
    crop_tries: int = 10
    """Tries before the central crop is taken."""
    crop_ratio: float = 0.875
    """centre: the view's side / the resized short side."""
    resample: Literal["bicubic", "bilinear"] = "bicubic"
    """Filter of every resize and of the geometric ops."""
    fill: tuple[int, int, int] = (124, 116, 104)
    """Colour that warps bring in from outside: round(255 * ImageNet mean), as timm does."""
    flip_prob: float = 0.5
    """Left-right flip."""

    affine_shift: float = 0.0
    """Largest shift in x and in y, of the side, uniform. The affine fields make one warp; all zero: none."""
    affine_degrees: float = 0.0
    """Largest rotation to either side, uniform."""
    affine_scale: tuple[float, float] = (1.0, 1.0)
    """Zoom, log-uniform."""

    rand_layers: int = 0
    """RandAugment: ops chosen per view, with replacement, from timm's 15 increasing ops; 0 turns it off."""
    rand_prob: float = 0.5
    """Probability that a chosen op is applied."""
    rand_magnitude: float = 9.0
    """Mean magnitude."""
    rand_magnitude_std: float = 0.5
    """Standard deviation of the magnitude."""
    rand_magnitude_max: float = 10.0
    """Magnitudes are clipped to 0..this."""
    rand_translate: float = 0.45
    """Largest translation at magnitude 10, of the side."""

    three_augment: bool = False
    """DeiT III: exactly one of grayscale, solarize and Gaussian blur."""
    solarize_threshold: int = 128
    blur_radius: tuple[float, float] = (0.1, 2.0)
    """Standard deviation of the blur in pixels, uniform."""
    jitter: float = 0.0
    """Brightness, contrast, saturation factors are uniform in 1 -+ this, in random order; 0: off."""

    erase_prob: float = 0.0
    erase_area: tuple[float, float] = (0.02, 1 / 3)
    """Area of the erased box as a share of the view."""
    erase_aspect: tuple[float, float] = (0.3, 1 / 0.3)
    """Height / width of the erased box, log-uniform."""
    erase_tries: int = 10
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Mean of the erasing noise in 0..1: DeiT erases after normalisation, with standard normal noise."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Standard deviation of the erasing noise."""

    mix_group: int = 1
    """Consecutive slots that are mixed with each other, partner = reversed position; 1: no mixing."""
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    mix_prob: float = 1.0
    """Probability that a group is mixed."""
    switch_prob: float = 0.5
    """Probability of CutMix where both are on."""

    repeats: int = 1
    """Repeated augmentation: views of one sample in an epoch (Hoffer et al., arXiv 1901.09335)."""
    window: int = 1024
    """Slots within which the repeats of a sample stay; rounded down to whole samples and groups. In DeiT they
    meet in one optimiser step. A small window gives that for every batch size, and lets them share one
    decode: at 256 views a batch, 0.36 decodes a view with 48 and 0.79 with 1,024.
    """
    crop_pad: int = 4
    """padded: pixels added on every side after the resize."""
    crop_border: Literal["reflect", "black"] = "reflect"
    """padded: what is in them. reflect: DeiT III's Simple Random Crop (--src); black: DeiT up to 32 px."""

    repeat_step: int = 0
    """Views of the optimiser step in which the repeats of a sample meet, a multiple of mix_group: DeiT's global batch
    of 1,024. Training with that batch, or a multiple, tears only the sample at the border of two steps apart. 0: the
    window alone counts.
    """

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def mixing(self) -> str:
        """Who shares a lambda and a box, as timm's `mode` says it: "pair", "batch" (a group of more), or "none"."""
        if not self.mixes:
            return "none"
        return "pair" if self.mix_group == 2 else "batch"

    @property
    def mixes(self) -> bool:
        """Whether any view can be mixed with another."""
        return self.mix_group > 1 and self.mix_prob > 0 and (self.mixup_alpha > 0 or self.cutmix_alpha > 0)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def numbers(self) -> dict[str, Any]:
        """Return all fields as plain JSON values (tuples become lists)."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    def to_json(self) -> dict[str, Any]:
        """Return what is recorded: `numbers`, without fields that came later and have their default.

        So a recipe that does not use a later field has the JSON, the digest and the caches that it always had.
        """
        unused = self.later_defaults()
        return {name: value for name, value in self.numbers().items() if name not in unused or unused[name] != value}

    @classmethod
    def later_defaults(cls) -> dict[str, Any]:
        """Return the fields that a recorded recipe may lack, with what their absence means, as JSON values."""
        return {
            field.name: _plain(field.default) for field in fields(cls) if field.name not in FIRST_FIELDS[VIEWS_VERSION]
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Make a recipe from `to_json`'s result; fields that came later keep their default.

        Raises:
            RecipeError: unknown field, absent field of the first hour, or a value of the wrong type or range.
        """
        known = {field.name for field in fields(cls)}
        unknown, absent = values.keys() - known, FIRST_FIELDS[VIEWS_VERSION] - values.keys()
        if unknown or absent:
            what = f"has fields that this program does not know: {', '.join(sorted(unknown))}"
            if not unknown:
                what = f"lacks {', '.join(sorted(absent))}"
            raise RecipeError(
                f"a recorded recipe {what}",
                expected=f"the fields of views version {VIEWS_VERSION}, see: deit-pipe show-recipe deit",
                got=", ".join(values),
                cure="use the deit-pipe that recorded it",
            )
        return cls(**parse_fields(get_type_hints(cls), values))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


PRESETS: Mapping[str, Recipe] = MappingProxyType(
    {
        # --aa rand-m9-mstd0.5-inc1 --reprob .25 --mixup .8 --cutmix 1 --repeated-aug. Colour jitter stays
        # off: its 0.3 is a no-op in DeiT, since timm drops it when RandAugment is on.
        "deit": Recipe(
            rand_layers=2,
            erase_prob=0.25,
            mix_group=2,
            mixup_alpha=0.8,
            cutmix_alpha=1.0,
            repeats=3,
            window=48,
        ),
        # --ThreeAugment --color-jitter .3 --reprob 0
        "deit3": Recipe(
            three_augment=True,
            jitter=0.3,
            mix_group=2,
            mixup_alpha=0.8,
            cutmix_alpha=1.0,
            repeats=3,
            window=48,
        ),
        # The same as DeiT was run: --mixup-mode batch at 256 views on each of 4 GPUs, copies in one step on 3 of them.
        "deit-batch": Recipe(
            rand_layers=2,
            erase_prob=0.25,
            mix_group=256,
            mixup_alpha=0.8,
            cutmix_alpha=1.0,
            repeats=3,
            repeat_step=1024,
        ),
        # DeiT with images of at most 32 px: RandomCrop(32, padding=4) in the place of RandomResizedCrop (datasets.py).
        "deit-32": Recipe(
            crop="padded",
            crop_border="black",
            rand_layers=2,
            erase_prob=0.25,
            mix_group=2,
            mixup_alpha=0.8,
            cutmix_alpha=1.0,
            repeats=3,
            window=48,
        ),
        # 8 GPUs of 256
        "deit3-batch": Recipe(
            three_augment=True,
            jitter=0.3,
            mix_group=256,
            mixup_alpha=0.8,
            cutmix_alpha=1.0,
            repeats=3,
            repeat_step=2048,
        ),
        # --ThreeAugment --src --mixup 0 --cutmix 1 --no-repeated-aug: DeiT III on ImageNet-21k
        "deit3-src": Recipe(crop="padded", three_augment=True, jitter=0.3, mix_group=2, cutmix_alpha=1.0),
        # --aa rand-m9-mstd0.5-inc1 --reprob 0 --no-repeated-aug
        "deit3-finetune": Recipe(rand_layers=2, mix_group=2, mixup_alpha=0.8, cutmix_alpha=1.0),
        "basic": Recipe(),
        # For images of 8 to 32 pixels, where a crop of 8 % is nothing and digits must not be mirrored.
        "small": Recipe(
            crop="whole",
            flip_prob=0.0,
            affine_shift=0.0625,
            affine_degrees=7.0,
            affine_scale=(0.9, 1.1),
            resample="bilinear",
            fill=(0, 0, 0),
        ),
        "eval": Recipe(crop="centre", flip_prob=0.0),
    }
)


def load_recipe(name_or_path: str) -> Recipe:
    """Return a preset by name, or read a .toml or .json file.

    A file gives fields of `Recipe`, over the preset it names with `base` (default: the field defaults).

    >>> deit = load_recipe("deit")
    >>> deit.repeats, deit.mixup_alpha, deit.cutmix_alpha, deit.erase_prob
    (3, 0.8, 1.0, 0.25)

    Raises:
        RecipeError: no such preset or file, or a field that is wrong.
    """
    if name_or_path in PRESETS:
        return PRESETS[name_or_path]
    path = Path(name_or_path)
    if path.suffix not in (".toml", ".json"):
        near = get_close_matches(name_or_path, PRESETS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise RecipeError(f"no recipe {name_or_path!r}", cure=f"{hint}choose {', '.join(PRESETS)} or give a .toml file")
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise RecipeError(f"cannot read the recipe {path}: {error}", cure=SEE) from error
    if not isinstance(values, dict):
        raise RecipeError(f"recipe {path} holds no fields", cure=SEE)
    base, mixing = values.pop("base", None), values.pop("mixing", None)
    if base is not None and base not in PRESETS:
        raise RecipeError(f"recipe {path}: no base {base!r}", cure=f"choose {', '.join(PRESETS)}")
    recipe = replace(PRESETS[base] if base else Recipe(), **parse_fields(get_type_hints(Recipe), values))
    return recipe if mixing is None else _with_mixing(recipe, mixing, "mix_group" in values)


def _with_mixing(recipe: Recipe, mixing: Any, group_given: bool) -> Recipe:
    """The recipe with the mixing that a file names; where the file gives no group, with that mixing's own."""
    if not group_given and mixing in list(MIX_GROUPS) and recipe.mixing != mixing:
        recipe = replace(recipe, mix_group=MIX_GROUPS[mixing])
    if recipe.mixing == mixing:
        return recipe
    numbers = ", ".join(f"{name} {getattr(recipe, name):g}" for name in ("mix_group", "mixup_alpha", "cutmix_alpha"))
    raise RecipeError(
        f"recipe field mixing is {mixing!r}, which its numbers are not",
        expected=f"{' or '.join(MIX_GROUPS)}: pair has mix_group 2, batch more, none 1",
        got=numbers,
        cure='leave mix_group out, or begin with base = "deit"',
    )


def preset_name(recipe: Recipe) -> str:
    """Return the name of the preset with exactly these numbers, or "custom"."""
    return next((name for name, preset in PRESETS.items() if preset == recipe), "custom")
