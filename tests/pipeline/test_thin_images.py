"""Thin images: the part of a resize that a view shows, byte for byte Pillow's, in little memory."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from deit_pipe.pipeline import render as renderer
from deit_pipe.pipeline.plan import Purpose, ViewPlan
from deit_pipe.pipeline.recipe import PRESETS
from deit_pipe.pipeline.render import FILTERS, render_decoded
from deit_pipe.pipeline.resampling import thin_images
from deit_pipe.pipeline.resampling.borders import shown
from deit_pipe.pipeline.resampling.thin_images import is_huge, resized_part
from deit_pipe.pipeline.views import View, draw_view


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def drawn(recipe: str, width: int, height: int, size: int, slot: int = 0) -> View:
    return draw_view(PRESETS[recipe], ViewPlan(99, seed=1).stream(0, slot, Purpose.VIEW), (width, height), size)


@pytest.mark.parametrize("resample", FILTERS)
@pytest.mark.parametrize("block", [1, 50, 1 << 20])
def test_a_part_is_the_part_of_pillows_resize(resample: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thin_images, "BLOCK", block)
    dice = np.random.default_rng(block)
    for seed in range(60):
        height, width = dice.integers(1, 60, 2).tolist()
        across, down = dice.integers(1, 150, 2).tolist()
        image = noise(height, width, seed)
        whole = Image.fromarray(image).resize((across, height), FILTERS[resample])
        expected = np.asarray(whole.resize((across, down), FILTERS[resample]))
        rows, columns = dice.integers(0, down, 7), dice.integers(0, across, 9)
        part = resized_part(image, (across, down), rows, columns, resample)
        np.testing.assert_array_equal(part, expected[rows][:, columns])


@pytest.mark.parametrize("recipe", ["eval", "small", "deit3-src", "deit-32"])
@pytest.mark.parametrize(("width", "height"), [(1, 90), (90, 1), (3, 61)])
def test_a_view_is_the_same_by_either_way(
    recipe: str, width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = noise(height, width)
    for slot in range(6):
        view = drawn(recipe, width, height, 24, slot)
        usual = render_decoded(image, view)
        with monkeypatch.context() as patch:
            patch.setattr(renderer, "is_huge", lambda *_: True)
            np.testing.assert_array_equal(render_decoded(image, view), usual)


@pytest.mark.parametrize(("width", "height"), [(1, 2000), (2000, 1), (2, 60_000)])
def test_a_thin_image_is_evaluated_in_little_memory(width: int, height: int) -> None:
    """The whole of it, resized, has 400 MB and more."""
    view = drawn("eval", width, height, 224)
    assert view.resized[0] * view.resized[1] * 3 > 390e6
    tracemalloc.start()
    pixels = render_decoded(noise(height, width), view)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 40e6
    assert pixels.std() > 10


def test_usual_images_are_resized_by_pillow() -> None:
    for width, height in ((500, 375), (6000, 4000), (100, 10_000)):
        view = drawn("eval", width, height, 224)
        assert not is_huge(view.crop.height, view.resized, 224)
    assert is_huge(2000, (256, 512_000), 224)
    assert is_huge(1, (512_000, 256), 224)
    assert is_huge(10_000_000, (224, 224), 224)  # the first pass has 224 x 10,000,000


def test_what_a_window_shows_beyond_the_edges() -> None:
    at, nothing = shown(-3, 9, 4, "reflect")
    assert at.tolist() == np.pad(np.arange(4), (3, 2), mode="reflect").tolist()
    assert not nothing.any()
    assert shown(-2, 4, 1, "reflect")[0].tolist() == [0, 0, 0, 0]
    at, nothing = shown(-1, 4, 2, "black")
    assert nothing.tolist() == [True, False, False, True]
