"""Render random views of random and of damaged images with every engine for some minutes, and compare.

    python tests/faults/fuzz_views.py --minutes 10 --seed 1

Most useful with the extension built under the sanitizers (pipeline/native/README.md): a read or write out of bounds
ends the program. Prints what was done; exit code 1 when a view differs from Pillow's.
"""

import argparse
import random
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from native_cases import INSTRUCTIONS, natively, picture
from PIL import Image
from view_images import encoded

from deit_pipe.pipeline.decode import decode, pixels_of
from deit_pipe.pipeline.errors import BadImage
from deit_pipe.pipeline.plan import Purpose, ViewPlan
from deit_pipe.pipeline.recipe import PRESETS, Recipe
from deit_pipe.pipeline.render import render_decoded
from deit_pipe.pipeline.views import draw_view


def some_recipe(dice: random.Random) -> Recipe:
    """A preset, or one with more of everything."""
    recipe = PRESETS[dice.choice(list(PRESETS))]
    if dice.random() < 0.5:
        return recipe
    return replace(
        recipe,
        rand_layers=dice.randrange(5),
        rand_magnitude_std=dice.uniform(0, 5),
        three_augment=dice.random() < 0.5,
        jitter=dice.random(),
        affine_shift=dice.random() / 2,
        affine_degrees=dice.uniform(0, 180),
        affine_scale=(0.3, 3.0),
        blur_radius=(0.05, dice.uniform(0.1, 20)),
        resample=dice.choice(["bicubic", "bilinear"]),
    )


def some_image(dice: random.Random, count: Counter[str]) -> np.ndarray | None:
    """The pixels of a JPEG, often with some bytes changed or cut off; None when it is refused."""
    sides = [int(2 ** dice.uniform(0, 9.5)) for _ in range(2)]
    image = Image.fromarray(picture(dice.randrange(5), dice.randrange(1 << 30), *sides))
    image = image.convert(dice.choice(["RGB", "RGB", "L", "CMYK"]))
    data = bytearray(encoded(image, quality=dice.randrange(1, 96)))
    if dice.random() < 0.7:
        count["damaged"] += 1
        for _ in range(dice.randrange(1, 8)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        if dice.random() < 0.2:
            del data[dice.randrange(len(data)) :]
    try:
        return pixels_of(decode(bytes(data)))
    except BadImage:
        count["refused"] += 1
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dice, count = random.Random(options.seed), Counter[str]()
    stop = time.monotonic() + 60 * options.minutes
    while time.monotonic() < stop:
        count["images"] += 1
        image = some_image(dice, count)
        if image is None:
            continue
        recipe, seed = some_recipe(dice), dice.randrange(1 << 40)
        for slot in range(4):
            stream = ViewPlan.for_recipe(4, recipe, seed).stream(0, slot, Purpose.VIEW)
            view = draw_view(recipe, stream, (image.shape[1], image.shape[0]), int(2 ** dice.uniform(0, 8)))
            expected = render_decoded(image, view)
            for instructions in INSTRUCTIONS:
                found = natively(instructions, image, view)
                count["views"] += 1
                count["left to Pillow"] += found is None
                if found is not None and not np.array_equal(found, expected):
                    count["different"] += 1
                    print(f"differs: {instructions} {image.shape} {view!r}")
    print(f"seed {options.seed}, {', '.join(INSTRUCTIONS)}: {dict(count)}")
    return 1 if count["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
