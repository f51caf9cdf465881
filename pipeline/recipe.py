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

# Raised whenever the same seed and images would give other pixels, labels or cells: covers plan, draw,
# render, compose.
VIEWS_VERSION = 1

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The distribution of views. Probabilities are 0..1; "of the side": fractions of the view's side."""

    crop: Literal["random", "centre", "whole"] = "random"
    """random: RandomResizedCrop; centre: resize the short side, then cut; whole: squeeze into a square."""
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

    def __post_init__(self) -> None:
        _check_ranges(self)

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
                f"a recorded recipe {what}\n"
                f"  expected  the fields of views version {VIEWS_VERSION}, see: deit-pipe show-recipe deit\n"
                f"  got       {', '.join(values)}\n"
                "  use the deit-pipe that recorded it"
            )
        return cls(**parse_fields(get_type_hints(cls), values))


def _check_ranges(recipe: Recipe) -> None:
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
        raise RecipeError(f"no recipe {name_or_path!r}\n  {hint}choose {', '.join(PRESETS)} or give a .toml file")
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise RecipeError(f"cannot read the recipe {path}: {error}\n  see: deit-pipe show-recipe deit") from error
    if not isinstance(values, dict):
        raise RecipeError(f"recipe {path} holds no fields\n  see: deit-pipe show-recipe deit")
    base = values.pop("base", None)
    if base is not None and base not in PRESETS:
        raise RecipeError(f"recipe {path}: no base {base!r}\n  choose {', '.join(PRESETS)}")
    return replace(PRESETS[base] if base else Recipe(), **parse_fields(get_type_hints(Recipe), values))


def preset_name(recipe: Recipe) -> str:
    """Return the name of the preset with exactly these numbers, or "custom"."""
    return next((name for name, preset in PRESETS.items() if preset == recipe), "custom")
