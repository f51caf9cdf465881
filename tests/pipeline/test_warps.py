"""The NumPy warps equal Pillow's bicubic transform bit for bit, for any size, slope and shift."""

import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from view_images import photo

from deit_pipe.pipeline.resampling.warps import warp_along_x, warp_along_y

FILL = (124, 116, 104)


def pillow(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BICUBIC, fillcolor=FILL
    )


@settings(max_examples=400, deadline=None)
@given(
    seed=st.integers(0, 50),
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    slope=st.one_of(st.just(0.0), st.floats(-0.6, 0.6), st.integers(-8, 8).map(lambda n: n / 8)),
    shift=st.one_of(st.just(0.0), st.floats(-80, 80), st.integers(-80, 80).map(float)),
)
@example(seed=0, width=224, height=224, slope=0.27, shift=0.0)
@example(seed=0, width=224, height=224, slope=-0.3, shift=0.0)
@example(seed=0, width=224, height=224, slope=0.0, shift=0.45 * 224)
@example(seed=0, width=9, height=9, slope=0.0, shift=-(2.0**-54))
@example(seed=0, width=3, height=2, slope=0.0, shift=1e9)
def test_warps_equal_pillow(seed: int, width: int, height: int, slope: float, shift: float) -> None:
    image = photo(seed, width, height)
    x, y = warp_along_x(image, slope, shift, FILL), warp_along_y(image, slope, shift, FILL)
    np.testing.assert_array_equal(np.asarray(x), np.asarray(pillow(image, (1, slope, shift, 0, 1, 0))))
    np.testing.assert_array_equal(np.asarray(y), np.asarray(pillow(image, (1, 0, 0, slope, 1, shift))))


@pytest.mark.parametrize("level", [0, 255])
def test_overshoot_is_clipped_like_pillows(level: int) -> None:
    """Bicubic rings beside a hard edge, beyond 0 and 255."""
    pixels = np.full((16, 16, 3), 255 - level, np.uint8)
    pixels[:, 8:] = level
    image = Image.fromarray(pixels)
    for shift in (0.25, 0.5, -1.75):
        ours = np.asarray(warp_along_x(image, 0.0, shift, FILL))
        np.testing.assert_array_equal(ours, np.asarray(pillow(image, (1, 0, shift, 0, 1, 0))))


def test_results_do_not_share_memory_and_threads_do_not_share_scratch() -> None:
    image = photo(3, 64, 64)
    expected = np.array(warp_along_x(image, 0.2, 0.0, FILL))
    kept = warp_along_x(image, 0.2, 0.0, FILL)
    wrong: list[int] = []

    def work(number: int) -> None:
        other = photo(number, 64, 64)
        reference = np.asarray(pillow(other, (1, 0.1 * number, 0, 0, 1, 0)))
        for _ in range(50):
            if not np.array_equal(np.asarray(warp_along_x(other, 0.1 * number, 0.0, FILL)), reference):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    np.testing.assert_array_equal(np.asarray(kept), expected)
