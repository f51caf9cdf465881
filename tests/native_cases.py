"""Images, views and the comparison with Pillow for the tests of the native engine."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from view_images import photo

from deit_pipe.pipeline.native import engine
from deit_pipe.pipeline.plan import Purpose, ViewPlan
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.pipeline.render import render_bordered, render_decoded
from deit_pipe.pipeline.views import Box, Op, View, draw_view

INSTRUCTIONS = () if engine._views is None else engine._views.instruction_sets()
SIDES = (224, 48, 33, 17, 5, 2, 1, 96)

Pixels = NDArray[np.uint8]


def picture(kind: int, seed: int, width: int, height: int) -> Pixels:
    """An image: 0 noise, 1 uniform, 2 hard edges, 3 a photograph, 4 mostly uniform with a patch of noise."""
    random = np.random.default_rng(seed)
    if kind == 0:
        return random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == 1:
        return np.full((height, width, 3), random.integers(0, 256, 3), np.uint8)
    if kind == 2:
        return (random.integers(0, 2, (height, width, 3)) * 255).astype(np.uint8)
    if kind == 3:
        return np.array(photo(seed, width, height))
    image = np.full((height, width, 3), 255, np.uint8)
    part = image[: height // 2 + 1, : width // 3 + 1]
    part[:] = random.integers(0, 256, part.shape, dtype=np.uint8)
    return image


def natively(instructions: str, pixels: Pixels, view: View) -> Pixels | None:
    """The view, or None when the engine leaves it to Pillow. Its neighbours in the batch must stay as they are."""
    out = np.full((3, view.size, view.size, 3), 77, np.uint8)
    left = engine.render_native(instructions, pixels, [view], [1], out)
    if left and not render_bordered(instructions, pixels, view, out[1:2]):
        return None
    assert (out[[0, 2]] == 77).all()
    return out[1]


def compare(
    recipe: Recipe, images: list[Pixels], numbers: Iterable[int], sides: tuple[int, ...] = SIDES
) -> Counter[str]:
    """Render drawn views with every instruction set and with Pillow; count views, and those left to Pillow.

    Raises:
        AssertionError: names the first view that differs.
    """
    plan = ViewPlan.for_recipe(1 << 40, recipe, seed=11)
    count: Counter[str] = Counter()
    for number in numbers:
        image = images[number % len(images)]
        size = sides[(number // len(images)) % len(sides)]
        stream = plan.stream(0, number, Purpose.VIEW)
        view = draw_view(recipe, stream, (image.shape[1], image.shape[0]), size)
        expected = render_decoded(image, view)
        for instructions in INSTRUCTIONS:
            found = natively(instructions, image, view)
            count["views"] += 1
            if found is None:
                count["left to Pillow"] += 1
            else:
                assert np.array_equal(found, expected), f"{instructions} {image.shape} to {size}: {view}"
    return count


def _numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.one_of(st.floats(low, high), st.integers(int(low), int(high)).map(float))


OPS = st.one_of(
    st.sampled_from([Op(name) for name in ("AutoContrast", "Equalize", "Invert", "Grayscale")]),
    _numbers(-720, 720).map(lambda v: Op("Rotate", (v,))),
    st.integers(0, 8).map(lambda v: Op("Posterize", (v,))),
    st.integers(0, 256).map(lambda v: Op("Solarize", (v,))),
    st.integers(0, 128).map(lambda v: Op("SolarizeAdd", (v,))),
    st.tuples(st.sampled_from(["Color", "Contrast", "Brightness", "Sharpness"]), _numbers(-2, 3)).map(
        lambda pair: Op(pair[0], (pair[1],))
    ),
    st.tuples(st.sampled_from(["ShearX", "ShearY"]), _numbers(-2, 2)).map(lambda p: Op(p[0], (p[1],))),
    st.tuples(st.sampled_from(["TranslateX", "TranslateY"]), st.floats(-1.3, 1.3)).map(
        lambda pair: Op(pair[0], (pair[1],))
    ),
    # Whole and half pixels of a side of 64 meet the borders between pixels.
    st.tuples(st.sampled_from(["TranslateX", "TranslateY"]), st.integers(-140, 140)).map(
        lambda pair: Op(pair[0], (pair[1] / 128,))
    ),
    st.floats(0, 40).map(lambda v: Op("Blur", (v,))),
    st.tuples(*[_numbers(-3, 3)] * 6).map(lambda m: Op("Affine", (m[0], m[1], m[2] * 20, m[3], m[4], m[5] * 20))),
)


@st.composite
def any_view(draw: st.DrawFn) -> tuple[Pixels, View]:
    """A small image and a view of it with any crop, cut, filter and ops."""
    width, height = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    size = draw(st.one_of(st.integers(1, 70), st.just(64)))
    crop_width, crop_height = draw(st.integers(1, width)), draw(st.integers(1, height))
    crop = Box(
        draw(st.integers(0, width - crop_width)),
        draw(st.integers(0, height - crop_height)),
        crop_width,
        crop_height,
    )
    more = draw(st.integers(0, 20)), draw(st.integers(0, 20))
    cut = draw(st.integers(0, more[0])), draw(st.integers(0, more[1]))
    view = View(
        size,
        crop,
        (size + more[0], size + more[1]),
        cut,
        draw(st.booleans()),
        tuple(draw(st.lists(OPS, max_size=3))),
        draw(st.sampled_from(["bicubic", "bilinear"])),
        draw(st.sampled_from([(124, 116, 104), (0, 0, 0), (255, 1, 128)])),
        None,
        0,
    )
    return picture(draw(st.integers(0, 4)), draw(st.integers(0, 9)), width, height), view
