"""A student is shown all images of a table, one plain view each, in the table's order."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deit_pipe.pipeline.compose import compose, normalise
from deit_pipe.pipeline.loader import load_views
from deit_pipe.pipeline.plan import Cells
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.progress import progress
from deit_pipe.stages.networks.student import StudentFacts
from deit_pipe.stages.opened.plain_views import eval_plan, eval_recipe

Arrays = dict[str, NDArray[np.float32]]


@torch.inference_mode()
def read_in_order(
    what: Callable[[Tensor], dict[str, Tensor]],
    facts: StudentFacts,
    table: SampleTable,
    device: torch.device,
    *,
    batch_size: int,
    workers: int,
    crop_ratio: float | None = None,
    title: str = "reading",
) -> Iterator[Arrays]:
    """Yield what is made of each batch, as float32 arrays [B, D].

    Args:
        what: makes named tensors [B, D] of normalised pixels [B, 3, S, S].
        facts: of the student.
        table: the images.
        device: where the student is.
        batch_size: most images in a batch.
        workers: threads or processes that make views.
        crop_ratio: another than the student's.
        title: of the progress.

    Raises:
        BadImage: names an image that cannot be read.
    """
    recipe, plan = eval_recipe(crop_ratio or facts.crop_ratio), eval_plan(len(table))
    slots = np.argsort(plan.sample_at(0), kind="stable")  # a plan has an order of its own
    cells = [Cells(0, slots[start : start + batch_size]) for start in range(0, len(table), batch_size)]
    with progress(title, len(table), "images") as shown:
        for views in load_views(table, recipe, plan, cells, image_size=facts.image_size, workers=workers):
            mixed = compose(views.to(device), recipe)
            found = what(normalise(mixed, facts.mean, facts.std))
            yield {name: value.float().cpu().numpy() for name, value in found.items()}
            shown.advance(len(views))
