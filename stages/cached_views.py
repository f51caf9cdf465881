"""The views of a cache, made again: its images opened, checked to be the cached ones, with its own recipe and plan."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.cells import RenderedCells, render_cells
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.data import manifest_for
from deit_pipe.stages.opened.images import cached_images
from deit_pipe.stages.opened.same_samples import check_same_samples
from deit_pipe.store.manifest import Manifest


@dataclass(frozen=True)
class CachedViews:
    """Everything that a view is made from. Nothing here imports torch."""

    manifest: Manifest
    recipe: Recipe
    plan: ViewPlan
    table: SampleTable

    def groups(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """The slots of all mix groups that hold one of `slots`, ascending."""
        size = self.plan.mix_group
        firsts = np.unique(slots // size) * size
        return np.concatenate(
            [np.arange(first, min(first + size, self.plan.num_slots)) for first in firsts.tolist()]
            or [np.zeros(0, np.int64)]
        )

    def render(self, epoch: int, slots: NDArray[np.int64]) -> RenderedCells:
        """Make the views of whole mix groups.

        Raises:
            BadImage: an image cannot be read.
        """
        return render_cells(self.table, self.recipe, self.plan, Cells(epoch, slots), self.manifest.image_size)


def plan_of(manifest: Manifest) -> tuple[Recipe, ViewPlan]:
    """Recipe and plan of a cache; needs no image."""
    recipe = Recipe.from_json(dict(manifest.recipe))
    return recipe, ViewPlan.for_recipe(manifest.num_samples, recipe, manifest.seed)


def open_views(cache: str, manifest: Manifest, data: str | None) -> CachedViews:
    """Open the images that a cache was made from: `data`, else the place that the cache recorded.

    Raises:
        DataMissing: no images there. CacheMismatch: other images, or a program whose views differ.
    """
    recipe, plan = plan_of(manifest)
    table = cached_images(cache, data).train
    check_same_samples(cache, manifest_for(table, recipe, manifest.seed, manifest.image_size), table)
    return CachedViews(manifest, recipe, plan, table)
