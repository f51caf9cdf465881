"""The labelled images of a table in a seeded random order, one plain view each, with their own labels.

Data lie sorted by class, so the first N of them are no sample; and a view's label travels with the view, because the
order of reading is not the order of the table.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deit_pipe.pipeline.compose import compose
from deit_pipe.pipeline.loader import load_views
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.opened.plain_views import default_crop_ratio, eval_recipe

STEP = 256


@dataclass(frozen=True)
class PlainImages:
    """Images to ask a network about.

    Attributes:
        table: images, of which the unlabelled ones (label -1) are left out.
        batch_size: most views in a batch.
        workers: threads or processes that make views; 0 makes them in this one.
        seed: of the order, 0..2**63-1.
    """

    table: SampleTable
    batch_size: int
    workers: int
    seed: int = 0

    def __len__(self) -> int:
        return int((self.table.labels >= 0).sum())

    @property
    def classes_seen(self) -> int:
        """Classes with at least one labelled image."""
        return len(np.unique(self.table.labels[self.table.labels >= 0]))

    def read(
        self, image_size: int, device: torch.device, most: int | None = None
    ) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
        """Yield batches of (pixels float32 [B, 3, S, S] on the device, labels int64 [B] of these very views).

        The same order at every size. A batch never crosses a multiple of 256 images.

        Args:
            image_size: S.
            device: where the pixels are composed.
            most: images to read; None: all.
        """
        recipe = eval_recipe(default_crop_ratio(image_size))
        plan = ViewPlan(len(self.table), seed=self.seed, repeats=1, mix_group=1)
        slots = np.flatnonzero(self.table.labels[plan.sample_at(0)] >= 0)[:most]
        steps = (slots[start : start + STEP] for start in range(0, len(slots), STEP))
        cells = [
            Cells(0, step[start : start + self.batch_size])
            for step in steps
            for start in range(0, len(step), self.batch_size)
        ]
        for views in load_views(self.table, recipe, plan, cells, image_size=image_size, workers=self.workers):
            yield compose(views.to(device), recipe), views.labels.numpy()
