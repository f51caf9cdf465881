"""How fast views are made: against timm, per part, through the loader; and how large the plan of ImageNet is.

    python tests/benchmarks/bench_views.py --photographs FOLDER [--write]

FOLDER holds any large photographs (searched with its subfolders); about 200 tiles of 500 x 375 are cut from
them, halved in size first and saved as JPEG, so that they resemble ImageNet's files. On Debian, for instance:

    apt-get download mate-backgrounds lomiri-wallpapers-16.04 && for d in *.deb; do dpkg -x $d FOLDER; done

Photographs also come with scikit-image (skimage/data) and scikit-learn (sklearn/datasets/images). Without
--photographs, tiles of noise are used: fine to see that the program runs, too hard to compress for honest
figures.

With --golden PYTHON ... the golden views are checked by other interpreters too (scratch environments with
other Pillows).
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from itertools import islice
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data import auto_augment, create_transform
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.results import environment_line, write_section
from view_images import encoded, photo

from deit_pipe.pipeline import decode as decode_module
from deit_pipe.pipeline.cells import render_cells
from deit_pipe.pipeline.compose import compose, normalise
from deit_pipe.pipeline.decode import decode, pixels_of, size_of
from deit_pipe.pipeline.loader import load_views, to_batch
from deit_pipe.pipeline.native import engine
from deit_pipe.pipeline.native.engine import chosen_engine
from deit_pipe.pipeline.plan import Cells, Purpose, ViewPlan
from deit_pipe.pipeline.recipe import PRESETS, Recipe
from deit_pipe.pipeline.render import fingerprint, render_decoded, render_views
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.pipeline.views import draw_view

SIZE = 224
# Every view has its own decode, so that the comparison with timm is one of equals.
DEIT = replace(PRESETS["deit"], repeats=1)


class MemorySamples(SampleTable):
    """Encoded images held in memory."""

    def __init__(self, images: list[bytes]) -> None:
        super().__init__(
            "photographs",
            [str(i) for i in range(len(images))],
            np.arange(len(images)) % 10,
            list("0123456789"),
        )
        self.images = images

    def read(self, sample: int) -> bytes:
        return self.images[sample]

    def measure_bytes(self) -> NDArray[np.int64]:
        return np.asarray([len(image) for image in self.images], dtype=np.int64)


def cut_tiles(folder: Path | None, count: int) -> list[bytes]:
    """About `count` JPEG files of 500 x 375, taken in turn from all photographs."""
    if folder is None:
        return [encoded(photo(i, 500, 375), "JPEG", quality=90) for i in range(count)]
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg"))
    per_photo = []
    for file in files:
        with Image.open(file) as opened:
            large = opened.convert("RGB")
        half = large.resize((large.width // 2, large.height // 2), Image.Resampling.LANCZOS)
        boxes = [(x, y) for y in range(0, half.height - 374, 375) for x in range(0, half.width - 499, 500)]
        tiles = [half.crop((x, y, x + 500, y + 375)) for x, y in boxes[:8]]
        per_photo.append(
            [encoded(tile, "JPEG", quality=92, subsampling=0 if i % 4 == 3 else 2) for i, tile in enumerate(tiles)]
        )
    mixed = [tiles[i] for i in range(8) for tiles in per_photo if i < len(tiles)]
    if not mixed:
        raise SystemExit(f"no photographs of at least 1000 x 750 in {folder}")
    return mixed[:count]


def timm_views(images: list[bytes]) -> Callable[[int], object]:
    """timm's DeiT transform with its three global generators reseeded for each view."""
    # Pillow 13 refuses 0 bits, on which timm 1.0.31 crashes; the benchmark must go on.
    auto_augment.NAME_TO_OP["PosterizeIncreasing"] = lambda image, bits, **_: (
        auto_augment.posterize(image, bits) if bits else Image.new("RGB", image.size)
    )
    transform = create_transform(
        SIZE,
        is_training=True,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="bicubic",
        color_jitter=0.3,
        re_prob=0.25,
        re_mode="pixel",
        re_count=1,
    )

    def make(i: int) -> object:
        random.seed(i)
        np.random.seed(i)  # noqa: NPY002  # timm draws from the global generators
        torch.manual_seed(i)
        return transform(Image.open(BytesIO(images[i % len(images)])).convert("RGB"))

    return make


class RawSamples(MemorySamples):
    """The same images, decoded and held in memory."""

    def __init__(self, images: list[bytes]) -> None:
        super().__init__(images)
        self.raw = [pixels_of(decode(image)) for image in images]

    def read(self, sample: int) -> NDArray[np.uint8]:
        return self.raw[sample]


ENGINES = ("pillow", *(() if engine._views is None else engine._views.instruction_sets()))
BATCH = 240


def our_batches(table: MemorySamples, recipe: Recipe, choice: str, fast: bool = True) -> Callable[[int], object]:
    """Batches of our views, uint8 with fingerprints, by one engine; not `fast`: JPEG by Pillow."""
    plan = ViewPlan.for_recipe(len(table), recipe, seed=0)

    def make(epoch: int) -> object:
        decoder = decode_module.simplejpeg if fast else None
        with (
            mock.patch.dict(os.environ, {engine.VARIABLE: choice}),
            mock.patch.object(decode_module, "simplejpeg", decoder),
        ):
            return render_cells(table, recipe, plan, Cells(epoch, np.arange(BATCH)), SIZE)

    return make


def floors(images: list[bytes]) -> dict[str, Callable[[int], object]]:
    """What no engine can undercut: the decode of each image, and reading and writing the same bytes once."""
    out = np.empty((BATCH, SIZE, SIZE, 3), np.uint8)
    views = np.ones_like(out)

    def copy(epoch: int) -> None:
        for i in range(BATCH):
            out[i] = views[i]

    return {
        "floor: bare decode of one JPEG": lambda epoch: [decode(images[i % len(images)]) for i in range(BATCH)],
        "floor: bare copy of the finished view": copy,
    }


def clock(make: Callable[[int], object], numbers: range) -> float:
    """Seconds of processor time per call: what else runs on the machine counts less than by the clock."""
    start = time.process_time()
    for i in numbers:
        make(i)
    return (time.process_time() - start) / len(numbers)


def compare_with_timm(images: list[bytes], rounds: int) -> list[str]:
    """Every way to make views beside timm's, in turns, BATCH views each."""
    table = MemorySamples(images * (BATCH // len(images) + 1))
    raw = RawSamples(images * (BATCH // len(images) + 1))
    timm = timm_views(images)
    shown = {"pillow": "engine Pillow", "sse2": "native, SSE2", "avx2": "native, AVX2"}
    makers: dict[str, Callable[[int], object]] = {
        "timm, reseeded for each view": lambda epoch: [timm(epoch * BATCH + i) for i in range(BATCH)],
        "one JPEG a view: engine Pillow, Pillow decodes": our_batches(table, DEIT, "pillow", fast=False),
    }
    for about, samples, recipe in (
        ("one JPEG a view", table, DEIT),
        ("as trained, 3 repeats a decode", table, PRESETS["deit"]),
        ("from raw pixels", raw, DEIT),
    ):
        makers |= {f"{about}: {shown[choice]}": our_batches(samples, recipe, choice) for choice in ENGINES}
    makers |= floors(images)
    times: dict[str, list[float]] = {name: [] for name in makers}
    for round_ in range(rounds + 1):
        for name, make in makers.items():
            seconds = clock(make, range(round_, round_ + 1)) / BATCH
            if round_:  # the first round warms up
                times[name].append(seconds)
    base = times["timm, reseeded for each view"]
    rows = [
        f"| one thread, 224 px, recipe deit, JPEG by {'Pillow' if decode_module.simplejpeg is None else 'simplejpeg'} "
        "| us a view | views/s | x timm (median of rounds) |",
        "| --- | --: | --: | --: |",
    ]
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        ratio = statistics.median(b / s for b, s in zip(base, seconds, strict=True))
        rows.append(f"| {name} | {middle * 1e6:.0f} | {1 / middle:.0f} | {ratio:.2f} |")
    return rows


def parts(images: list[bytes], views: int) -> list[str]:
    """What each part of a view costs, and decode sharing."""
    table, plan = MemorySamples(images), ViewPlan.for_recipe(len(images), DEIT, seed=0)
    decoded = [decode(image) for image in images]
    count = len(images)
    drawn = [draw_view(DEIT, plan.stream(1, i, Purpose.VIEW), size_of(decoded[i % count]), SIZE) for i in range(views)]
    pixels = np.array(render_decoded(decoded[0], drawn[0]))
    cost = {
        "decode": clock(lambda i: decode(images[i % count]), range(views)),
        "random numbers and draw": clock(
            lambda i: draw_view(DEIT, plan.stream(1, i, Purpose.VIEW), size_of(decoded[i % count]), SIZE),
            range(views),
        ),
        "crop, resize, flip, ops": clock(
            lambda i: render_views(decoded[i % count], [drawn[i]], [0], pixels[None]), range(views)
        ),
        "fingerprint": clock(lambda i: fingerprint(pixels, drawn[i]), range(views)),
    }
    total = sum(cost.values())
    rows = [
        f"| part of a view ({chosen_engine()}; simplejpeg where installed) | us | share |",
        "| --- | --: | --: |",
    ]
    rows += [f"| {name} | {seconds * 1e6:.0f} | {seconds / total:.1%} |" for name, seconds in cost.items()]
    both = cost["random numbers and draw"] + cost["fingerprint"]
    rows.append(f"| draw and fingerprint together | {both * 1e6:.0f} | {both / total:.1%} |")
    shared = PRESETS["deit"]
    repeated = ViewPlan.for_recipe(count, shared, seed=0)
    cells = [c for epoch in range(2) for c in repeated.batches(epoch, min(256, count // 2 * 2))]
    start = time.process_time()
    batches = [render_cells(table, shared, repeated, c, SIZE) for c in cells]
    each = (time.process_time() - start) / sum(len(c.slots) for c in cells)
    rows.append(f"| a view where 3 repeats share one decode | {each * 1e6:.0f} | |")
    batch = to_batch(batches[0])
    seconds = statistics.median(clock(lambda i: compose(batch, shared), range(1)) for _ in range(7)) / len(batch)
    rows.append(f"| compose (erase, mix) on the CPU, batch of {len(batch)} | {seconds * 1e6:.0f} | |")
    return rows


class FloatViews(Dataset[torch.Tensor]):
    """The same views, but normalised to float32 in the worker and collated view by view, as most loaders do."""

    def __init__(self, table: SampleTable, plan: ViewPlan) -> None:
        self.table, self.plan = table, plan

    def __getitem__(self, slot: int) -> torch.Tensor:
        cells = render_cells(self.table, PRESETS["basic"], self.plan, Cells(0, np.asarray([slot])), SIZE)
        recipe = PRESETS["basic"]
        return normalise(compose(to_batch(cells), recipe), recipe.mean, recipe.std)[0]

    def __len__(self) -> int:
        return self.plan.num_slots


def through_the_loader(images: list[bytes], batches: int, batch: int = 64) -> list[str]:
    recipe = PRESETS["basic"]
    table = MemorySamples((images * (batches * batch // len(images) + 1))[: batches * batch])
    plan = ViewPlan.for_recipe(len(table), recipe, seed=0)
    rows = ["| loader, recipe basic, batches of 64 | workers | views/s |", "| --- | --: | --: |"]
    for workers in (0, 1, 2):
        start = time.perf_counter()
        done = sum(
            len(b) for b in load_views(table, recipe, plan, plan.batches(0, batch), image_size=SIZE, workers=workers)
        )
        rows.append(f"| uint8 (ours) | {workers} | {done / (time.perf_counter() - start):.0f} |")
        start = time.perf_counter()
        loader = DataLoader(FloatViews(table, plan), batch_size=batch, num_workers=workers)
        done = sum(len(b) for b in islice(loader, batches))
        rows.append(f"| float32, normalised in the worker | {workers} | {done / (time.perf_counter() - start):.0f} |")
    return rows


def imagenet_plan() -> list[str]:
    rows = ["| plan of 1,281,167 samples x 300 epochs | |", "| --- | --: |"]
    start = time.perf_counter()
    plan = ViewPlan.for_recipe(1_281_167, PRESETS["deit"], seed=0)
    rows.append(f"| open | {(time.perf_counter() - start) * 1e3:.2f} ms |")
    for name, recipe in (("3 repeats", PRESETS["deit"]), ("no repeats", PRESETS["basic"])):
        plan = ViewPlan.for_recipe(1_281_167, recipe, seed=0)
        start = time.perf_counter()
        order = plan.sample_at(299)
        rows.append(
            f"| order of epoch 299, {name} | {time.perf_counter() - start:.2f} s, {order.nbytes / 1e6:.1f} MB |"
        )
    start = time.perf_counter()
    for slot in range(20_000):
        plan.stream(299, slot, Purpose.VIEW)
    rows.append(f"| random stream of a cell | {(time.perf_counter() - start) / 20_000 * 1e6:.1f} us |")
    return rows


def golden_checks(interpreters: list[str]) -> str:
    program = Path(__file__).parents[1] / "golden" / "regenerate_views.py"
    lines = []
    for python in [sys.executable, *interpreters]:
        for choice in ("pillow", "auto"):
            done = subprocess.run(
                [python, str(program), "--check"],
                env={**os.environ, engine.VARIABLE: choice},
                capture_output=True,
                text=True,
                check=False,
            )
            lines.append(f"- {(done.stdout or done.stderr).strip().splitlines()[-1]}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, help="folder with large photographs")
    parser.add_argument("--tiles", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--views", type=int, default=200, help="for the cost of each part")
    parser.add_argument("--golden", nargs="*", metavar="PYTHON", help="check the golden views with these too")
    parser.add_argument("--write", action="store_true", help="replace the sections of RESULTS.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = cut_tiles(options.photographs, options.tiles)
    source = "from photographs" if options.photographs else "of noise (no --photographs given)"
    mean = statistics.mean(len(image) for image in images) / 1000
    packages = ("numpy", "pillow", "simplejpeg", "torch", "torchvision", "timm")
    about = f"{environment_line(packages)}\n\n{len(images)} JPEG tiles of 500 x 375 {source}, mean {mean:.0f} kB."
    tables = [
        compare_with_timm(images, options.rounds),
        parts(images, options.views * 2),
        through_the_loader(images, batches=20),
        imagenet_plan(),
    ]
    report = "\n\n".join([about, *("\n".join(rows) for rows in tables)])
    print(report)
    if options.write:
        write_section("views", report)
    if options.golden is not None:
        report = f"{environment_line(packages)}\n\n{golden_checks(options.golden)}"
        print(report)
        if options.write:
            write_section("golden views on several Pillows", report)


if __name__ == "__main__":
    main()
