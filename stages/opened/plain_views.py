"""Plain views for measuring, one an image; and the view size and recipe that suit some images."""

from dataclasses import replace

import numpy as np

from deit_pipe.pipeline.cells import decode_sample
from deit_pipe.pipeline.decode import size_of
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.recipe import PRESETS, Recipe
from deit_pipe.pipeline.samples import SampleTable

SMALL_IMAGE = 64
SMALL_VIEW = 32
VIEW = 224


def is_small(table: SampleTable) -> bool:
    """Whether the first image is at most 64 px on both sides.

    Raises:
        BadImage: it cannot be decoded.
    """
    return max(size_of(decode_sample(table, 0))) <= SMALL_IMAGE


def default_image_size(table: SampleTable) -> int:
    """32 px for small images, else 224."""
    return SMALL_VIEW if is_small(table) else VIEW


def default_crop_ratio(image_size: int, model: str = "") -> float:
    """DeiT's 0.875; 1 for small images, from 384 px on and for DeiT III, as published."""
    return 0.875 if 160 <= image_size < 384 and not model.startswith("deit3_") else 1.0


def eval_recipe(crop_ratio: float) -> Recipe:
    """The one fixed view per image: short side resized to size / crop_ratio, centre crop."""
    return replace(PRESETS["eval"], crop_ratio=crop_ratio)


def eval_cells(count: int, batch_size: int) -> list[Cells]:
    """All samples once, in order, ragged tail included."""
    return [Cells(0, np.arange(start, min(start + batch_size, count))) for start in range(0, count, batch_size)]


def eval_plan(count: int) -> ViewPlan:
    """A plan whose order does not matter: evaluation reads `ViewBatch.samples` and `labels`."""
    return ViewPlan(count, seed=0, repeats=1, mix_group=1)
