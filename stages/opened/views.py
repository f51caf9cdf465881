"""The views of a cache, made again: its images opened, checked to be the cached ones, with its own recipe and plan."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.cells import RenderedCells, render_cells
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.opened.cache import open_cache
from deit_pipe.store.manifest import Manifest
from deit_pipe.store.stored_cache import StoredCache


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


def open_views(cache: str | StoredCache, data: str | None) -> CachedViews:
    """Open the images that a cache was made from: `data`, else the place that the cache recorded.

    Raises:
        DataMissing: no images there. CacheMismatch: other images, or a program whose views differ.
    """
    opened = open_cache(cache)
    return CachedViews(opened.manifest, opened.recipe, opened.plan, opened.open_images(data).train)
