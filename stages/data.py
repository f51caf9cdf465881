"""The user's images: opened, with the view size, recipe and workers that suit them; and what of it a cache keeps."""

import os
from dataclasses import replace
from itertools import zip_longest

import numpy as np

from deit_pipe.pipeline.cells import decode_sample
from deit_pipe.pipeline.decode import size_of
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.recipe import PRESETS, VIEWS_VERSION, Recipe
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.errors import Mismatch
from deit_pipe.store.manifest import Manifest, SampleIndex

SMALL_IMAGE = 64
SMALL_VIEW = 32
VIEW = 224
MOST_WORKERS = 16


def check_same_classes(table: SampleTable, class_names: tuple[str, ...], whose: str) -> None:
    """Refuse images of other classes, or of the same classes in another order: every score would be wrong.

    Raises:
        Mismatch: the first difference is named.
    """
    if table.class_names == class_names:
        return
    pairs = zip_longest(class_names, table.class_names, fillvalue="(none)")
    place, (expected, got) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
    raise Mismatch(
        f"{table.name} has other classes than {whose}\n"
        f"  expected {len(class_names)} classes, class {place} being {expected!r}\n"
        f"  got      {len(table.class_names)} classes, class {place} being {got!r}\n"
        "give images of the same classes, in folders of the same names"
    )


def is_small(table: SampleTable) -> bool:
    """Whether the first image is at most 64 px on both sides.

    Raises:
        BadImage: it cannot be decoded.
    """
    return max(size_of(decode_sample(table, 0))) <= SMALL_IMAGE


def default_image_size(table: SampleTable) -> int:
    """32 px for small images, else 224."""
    return SMALL_VIEW if is_small(table) else VIEW


def choose_workers(asked: int | None) -> int:
    """As asked, else this process's share of the cores, at most 16; none where there is a single core."""
    if asked is not None:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return 0 if cores == 1 else min(share, MOST_WORKERS)


def eval_recipe(crop_ratio: float) -> Recipe:
    """The one fixed view per image: short side resized to size / crop_ratio, centre crop."""
    return replace(PRESETS["eval"], crop_ratio=crop_ratio)


def eval_cells(count: int, batch_size: int) -> list[Cells]:
    """All samples once, in order, ragged tail included."""
    return [
        Cells(0, np.arange(start, min(start + batch_size, count))) for start in range(0, count, batch_size)
    ]


def eval_plan(count: int) -> ViewPlan:
    """A plan whose order does not matter: evaluation reads `ViewBatch.samples` and `labels`."""
    return ViewPlan(count, seed=0, repeats=1, mix_group=1)


def sample_index(table: SampleTable) -> SampleIndex:
    """The table as the store keeps it."""
    return SampleIndex(
        keys=list(table.keys),
        labels=table.labels,
        byte_sizes=table.byte_sizes,
        class_names=table.class_names,
    )


def manifest_for(table: SampleTable, recipe: Recipe, seed: int, image_size: int) -> Manifest:
    """The identity of a cache of these samples."""
    return Manifest(
        samples_digest=table.digest,
        num_samples=len(table),
        num_classes=len(table.class_names),
        recipe=recipe.to_json(),
        recipe_digest=recipe.digest,
        seed=seed,
        image_size=image_size,
        views_version=VIEWS_VERSION,
    )


def default_crop_ratio(image_size: int, model: str = "") -> float:
    """DeiT's 0.875; 1 for small images, from 384 px on and for DeiT III, as published."""
    return 0.875 if 160 <= image_size < 384 and not model.startswith("deit3_") else 1.0
