"""The native engine gives Pillow's bytes, for drawn views of every preset and for any view at all."""

import threading
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from native_cases import INSTRUCTIONS, SIDES, any_view, compare, natively, picture
from PIL import Image
from view_images import encoded, photo, sixteen_bit

from deit_pipe.pipeline import cells as cells_module
from deit_pipe.pipeline import render as render_module
from deit_pipe.pipeline.cells import render_cells
from deit_pipe.pipeline.decode import decode, pixels_of
from deit_pipe.pipeline.native import engine, packed
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.recipe import PRESETS, Recipe
from deit_pipe.pipeline.render import render_decoded, render_views
from deit_pipe.pipeline.samples import ArraySamples
from deit_pipe.pipeline.views import Box, Op, View

pytestmark = pytest.mark.skipif(not INSTRUCTIONS, reason="the native engine is not built: pip install -e .")

SHAPES = [
    (500, 375),
    (375, 500),
    (64, 64),
    (33, 57),
    (1, 1),
    (1, 90),
    (90, 1),
    (3, 2),
    (2, 700),
    (1300, 5),
    (640, 480),
]
IMAGES = [picture(3 if i % 3 else 4, i, width, height) for i, (width, height) in enumerate(SHAPES)]
CUSTOM = {
    "every field": Recipe(
        rand_layers=4,
        rand_prob=0.9,
        rand_magnitude_std=3.0,
        rand_translate=0.9,
        affine_shift=0.2,
        affine_degrees=60,
        affine_scale=(0.5, 2.0),
        three_augment=True,
        blur_radius=(0.1, 9.0),
        jitter=0.9,
        resample="bilinear",
    ),
    "wide bicubic": Recipe(
        affine_shift=0.4,
        affine_degrees=180,
        affine_scale=(0.2, 5.0),
        three_augment=True,
        fill=(3, 250, 77),
        crop="whole",
    ),
}


def plain(size: int, *ops: Op, **changes: object) -> View:
    view = View(size, Box(0, 0, size, size), (size, size), (0, 0), False, ops, "bicubic", (124, 116, 104), None, 0)
    return view._replace(**changes)


@pytest.mark.parametrize("name", [*PRESETS, *CUSTOM])
def test_drawn_views_of_images_of_many_sizes_are_pillows(name: str) -> None:
    recipe = PRESETS[name] if name in PRESETS else CUSTOM[name]
    # a mirror image may need more than a window of less than 9 px holds
    count = compare(recipe, IMAGES, range(1100), SIDES if recipe.crop != "padded" else (224, 48, 33, 17, 9, 96))
    assert count["views"] == 1100 * len(INSTRUCTIONS)
    assert count["left to Pillow"] == 0


@settings(max_examples=700, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(any_view())
@example((picture(0, 1, 224, 224), plain(224, Op("Rotate", (27.0,)))))
@example((picture(4, 1, 224, 224), plain(224, Op("Rotate", (-3.0,)))))
@example((picture(4, 1, 224, 224), plain(224, Op("ShearX", (0.27,)), Op("ShearY", (-0.3,)))))
@example((picture(2, 1, 64, 64), plain(64, Op("TranslateX", (-(2.0**-58),)))))
@example((picture(2, 1, 64, 64), plain(64, Op("Affine", (1.0, 1e9, 0.0, 0.0, 1.0, 0.0)))))
@example((picture(2, 1, 64, 64), plain(64, Op("Affine", (1e9, -1e9, 1e9, 1e9, 1e9, -1e9)))))
@example((picture(0, 1, 9, 9), plain(9, Op("Affine", (1.0, 0.0, -1e-17, 0.0, 1.0, -1e-17)))))
@example((picture(0, 1, 9, 9), plain(9, Op("Affine", (1.0, 0.1, -0.05, 0.0, 1.0, 1e-17)))))
def test_any_view_is_pillows_or_left_to_it(case: tuple[np.ndarray, View]) -> None:
    image, view = case
    expected = render_decoded(image, view)
    for instructions in INSTRUCTIONS:
        found = natively(instructions, image, view)
        right_angle = any(op.name == "Rotate" and op.values[0] % 360 in (90, 180, 270) for op in view.ops)
        assert (found is None) == right_angle
        if found is not None:
            np.testing.assert_array_equal(found, expected, f"{instructions}: {view}")


def test_rows_in_which_a_rounding_crosses_a_pixel_border() -> None:
    """Slope and shift cancel in one row: some of its pixels are read just below an integer, some at or above it."""
    image = picture(0, 1, 64, 64)
    for number in range(71, 121):
        slope = number / 1000
        view = plain(64, Op("Affine", (1.0, slope, -(slope * (number % 13 + 0.5)), 0.0, 1.0, 0.0)))
        for instructions in INSTRUCTIONS:
            found = natively(instructions, image, view)
            np.testing.assert_array_equal(found, render_decoded(image, view), str(view))


@pytest.mark.parametrize("shape", [(2600, 1900), (1, 6000), (6000, 1), (5000, 40)])
def test_large_images(shape: tuple[int, int]) -> None:
    image = picture(3, 5, *shape)
    for name in PRESETS:
        assert compare(PRESETS[name], [image], range(2), sides=(64, 31))["left to Pillow"] == 0


def test_images_of_all_modes() -> None:
    rgb = photo(0, 41, 33)
    files = [
        encoded(rgb.convert(mode), kind)
        for mode, kind in [
            ("RGB", "JPEG"),
            ("L", "JPEG"),
            ("CMYK", "JPEG"),
            ("RGBA", "PNG"),
            ("LA", "PNG"),
            ("1", "PNG"),
            ("P", "GIF"),
        ]
    ] + [encoded(sixteen_bit(4, 20, 20), "PNG")]
    images = [pixels_of(decode(data)) for data in files]
    assert compare(PRESETS["deit"], images, range(80), sides=(32, 31))["left to Pillow"] == 0


def test_layouts_of_arrays() -> None:
    """Whatever the strides: upside down, every other row, other orders, grey, read only."""
    whole = picture(3, 2, 40, 30)
    locked = whole.copy()
    locked.setflags(write=False)
    grey = whole[:, :, 0].copy()
    images = [
        whole[::-1],
        whole[::2],
        whole[:, ::-1],
        whole[:, ::2],
        np.asfortranarray(whole),
        whole[..., ::-1],
        locked,
        whole[:1, :1],
        whole[:, 7:8],
        np.frombuffer(whole.tobytes(), np.uint8).reshape(whole.shape),
        decode(grey),
        decode(grey[::-1]),
        decode(grey[:, ::2]),
        decode(np.asfortranarray(grey)),
        decode(grey[:, 3:4]),
    ]
    for image in images:
        view = plain(17, Op("Color", (1.7,)), crop=Box(0, 0, image.shape[1], image.shape[0]))
        expected = render_decoded(np.ascontiguousarray(image), view)
        for instructions in INSTRUCTIONS:
            np.testing.assert_array_equal(natively(instructions, image, view), expected)
    np.testing.assert_array_equal(decode(grey), np.asarray(Image.fromarray(grey).convert("RGB")))


LEFT = [
    plain(16, Op("Rotate", (90.0,))),
    plain(16, Op("Rotate", (-90.0,))),
    plain(16, Op("Rotate", (180.0,))),
    plain(16, Op("Color", (1e30,))),
    plain(16, Op("TranslateX", (1e9,))),
    plain(16, *[Op("Invert")] * 17),
    plain(16, crop=Box(-2, 0, 16, 16)),
    plain(16, cut=(-1, 0))._replace(resized=(15, 16)),
]


@pytest.mark.parametrize("number", range(len(LEFT)))
def test_what_the_engine_does_not_handle_is_left_to_pillow_for_that_view_only(number: int) -> None:
    image, views = picture(3, 1, 16, 16), [plain(16, Op("Invert")), LEFT[number], plain(16)]
    if number in (6, 7):
        image = Image.fromarray(image)  # of which Pillow crops beyond the border
    out = np.zeros((4, 16, 16, 3), np.uint8)
    assert render_views(image, views, [3, 0, 2], out) == 1
    for row, view in zip([3, 0, 2], views, strict=True):
        np.testing.assert_array_equal(out[row], render_decoded(image, view))
    assert not out[1].any()


def batch(monkeypatch: pytest.MonkeyPatch, choice: str, name: str, **changes: object) -> cells_module.RenderedCells:
    monkeypatch.setenv(engine.VARIABLE, choice)
    recipe = replace(PRESETS[name], **changes)
    table = ArraySamples("noise", np.stack([picture(3, i, 50, 40) for i in range(12)]), np.arange(12) % 3, list("abc"))
    return render_cells(table, recipe, ViewPlan.for_recipe(12, recipe, seed=2), Cells(1, np.arange(12)), 32)


@pytest.mark.parametrize("name", PRESETS)
def test_a_batch_is_the_same_with_the_engine_on_and_off(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    off = batch(monkeypatch, "pillow", name)
    for choice in ("auto", "native", *INSTRUCTIONS):
        on = batch(monkeypatch, choice, name)
        assert on.views == off.views
        for field in vars(off).keys() - {"views"}:
            np.testing.assert_array_equal(getattr(on, field), getattr(off, field), field)


def test_views_left_to_pillow_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = batch(monkeypatch, "pillow", "deit")
    assert batch(monkeypatch, "native", "deit").left_to_pillow == 0
    monkeypatch.setattr(packed, "MOST_SIDE", 31)
    found = batch(monkeypatch, "native", "deit")
    assert found.left_to_pillow == 12
    np.testing.assert_array_equal(found.fingerprints, expected.fingerprints)
    assert batch(monkeypatch, "pillow", "deit").left_to_pillow == 0


def test_repeats_in_a_batch_share_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(name: str, pixels: np.ndarray, views: list[View], rows: list[int], out: np.ndarray) -> list[int]:
        calls.append(len(views))
        return engine.render_native(name, pixels, views, rows, out)

    monkeypatch.setattr(render_module, "render_native", counted)
    batch(monkeypatch, "native", "deit", repeats=3)
    assert Counter(calls) == {3: 4}
    calls.clear()
    batch(monkeypatch, "pillow", "deit", repeats=3)
    assert calls == []


def test_threads_render_at_once_and_do_not_share_scratch() -> None:
    image = picture(3, 3, 500, 375)
    views = [plain(size, Op("Rotate", (20.0,)), crop=Box(5, 5, 300, 300)) for size in (224, 100, 33, 160)]
    expected = [render_decoded(image, view) for view in views]
    wrong: list[View] = []

    def work(view: View, result: np.ndarray) -> None:
        for _ in range(40):
            found = natively(INSTRUCTIONS[-1], image, view)
            if not np.array_equal(found, result):
                wrong.append(view)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(views, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_interpreter_goes_on_while_views_are_rendered() -> None:
    image = picture(0, 3, 1200, 1200)
    view = plain(224, *[Op("Blur", (2.0,))] * 8, crop=Box(0, 0, 1200, 1200))
    out = np.zeros((1, 224, 224, 3), np.uint8)
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    start = time.perf_counter()
    engine.render_native(INSTRUCTIONS[0], image, [view] * 40, [0] * 40, out)
    end = time.perf_counter()
    stop.set()
    thread.join()
    assert end - start > 0.05
    assert sum(start < at < end for at in ticks) >= 3


# 200 images of up to 6,000 pixels a side, in all modes Pillow decodes from.
@pytest.mark.slow
@pytest.mark.parametrize("name", [*PRESETS, *CUSTOM])
def test_5000_views_of_200_images(name: str) -> None:
    random = np.random.default_rng(8)
    modes = ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK"]
    images = []
    for i in range(200):
        limit = 6000 if i % 40 == 0 else 800
        width, height = (int(max(1, limit ** random.uniform())) for _ in range(2))
        source = Image.fromarray(picture(i % 5, i, width, height)).convert(modes[i % len(modes)])
        images.append(pixels_of(decode(encoded(source, "TIFF"))))
    recipe = PRESETS[name] if name in PRESETS else CUSTOM[name]
    # 200 images and 8 sides: another combination for each number, 1,600 of them.
    assert compare(recipe, images, range(5000))["left to Pillow"] == 0


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(any_view())
def test_20000_of_any_views(case: tuple[np.ndarray, View]) -> None:
    image, view = case
    expected = render_decoded(image, view)
    for instructions in INSTRUCTIONS:
        found = natively(instructions, image, view)
        assert found is None or np.array_equal(found, expected), f"{instructions}: {view}"
