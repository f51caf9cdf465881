"""The padded crop: DeiT III's Simple Random Crop and DeiT's path for small images, against torchvision's own."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from deit_pipe.pipeline.plan import Purpose, ViewPlan
from deit_pipe.pipeline.recipe import PRESETS, Recipe
from deit_pipe.pipeline.render import render_decoded
from deit_pipe.pipeline.views import View, draw_view

PLAN = ViewPlan(100_000, seed=2)
SRC, SMALL = PRESETS["deit3-src"], PRESETS["deit-32"]


def plain(recipe: Recipe) -> Recipe:
    """The crop alone."""
    return Recipe(crop=recipe.crop, crop_pad=recipe.crop_pad, crop_border=recipe.crop_border, flip_prob=0.0)


def drawn(recipe: Recipe, slot: int, image_size: tuple[int, int], size: int) -> View:
    return draw_view(recipe, PLAN.stream(0, slot, Purpose.VIEW), image_size, size)


def photo(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(5).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(90, 70), (61, 120), (64, 64), (40, 50)])
@pytest.mark.parametrize(("recipe", "mode"), [(SRC, "reflect"), (SMALL, "constant")])
def test_pixels_are_those_of_torchvisions_resize_pad_and_crop(recipe: Recipe, mode: str, size: tuple[int, int]) -> None:
    image, side = photo(*size), 64
    resized = v2.Resize(side, interpolation=v2.InterpolationMode.BICUBIC)(image)
    padded = F.pad(resized, [4, 4, 4, 4], padding_mode=mode)
    outside = 0
    for slot in range(40):
        view = drawn(plain(recipe), slot, size, side)
        left, top = view.cut
        assert view.resized == resized.size
        expected = np.asarray(F.crop(padded, top + 4, left + 4, side, side))
        found = render_decoded(image, view)
        # two passes here, whose order Pillow 13 chooses by itself: at most a level apart
        assert np.abs(expected.astype(int) - found).max() <= 1
        outside += left < 0 or top < 0
    assert outside > 5


@pytest.mark.parametrize("recipe", [SRC, SMALL])
def test_every_place_is_as_likely_as_torchvisions(recipe: Recipe) -> None:
    size, side, draws = (36, 32), 32, 6000
    ours = np.array([drawn(recipe, slot, size, side).cut for slot in range(draws)]) + 4
    torch.manual_seed(0)
    crop = v2.RandomCrop(side, padding=4)
    canvas = [torch.zeros(3, size[1] + 8, size[0] + 8)]
    theirs = [v2.RandomCrop(side).make_params(canvas) for _ in range(draws)]
    assert crop.padding == [4, 4, 4, 4]
    for column, name, places in ((0, "left", 13), (1, "top", 9)):
        own = np.bincount(ours[:, column], minlength=places)
        other = np.bincount([one[name] for one in theirs], minlength=places)
        assert len(own) == len(other) == places
        for counts in (own, other):
            assert np.abs(counts / draws - 1 / places).max() < 0.012


def test_the_presets_are_the_published_ones() -> None:
    assert (SRC.crop, SRC.crop_pad, SRC.crop_border) == ("padded", 4, "reflect")
    assert (SRC.three_augment, SRC.jitter, SRC.mixup_alpha, SRC.cutmix_alpha, SRC.repeats) == (True, 0.3, 0.0, 1.0, 1)
    small = {n: v for n, v in SMALL.numbers().items() if PRESETS["deit"].numbers()[n] != v}
    assert small == {"crop": "padded", "crop_border": "black"}
    tuned = PRESETS["deit3-finetune"]
    assert (tuned.rand_layers, tuned.rand_magnitude, tuned.rand_magnitude_std) == (2, 9.0, 0.5)
    assert (tuned.erase_prob, tuned.repeats, tuned.mixup_alpha, tuned.cutmix_alpha) == (0.0, 1, 0.8, 1.0)


def test_words_of_a_view_say_where_it_was_cut() -> None:
    view = drawn(plain(SRC), 3, (90, 70), 64)
    assert f"resize 82x64, cut at {view.cut[0]},{view.cut[1]}" in str(view)
    assert "cut" not in str(drawn(PRESETS["basic"], 3, (90, 70), 64))
