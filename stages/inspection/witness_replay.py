"""`--replay` of witnesses: compose the witnessed views again, as a teacher would get them. The only part with torch.

Shapes: B cells of a batch.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.cells import RenderedCells
from deit_pipe.pipeline.compose import compose, labelled_share, mixed_labels, normalise
from deit_pipe.pipeline.loader import to_batch
from deit_pipe.stages.opened.arrays import CachedArrays
from deit_pipe.stages.opened.proof import StudentInput, WitnessCheck
from deit_pipe.stages.opened.replay import ReplayContext
from deit_pipe.stages.opened.views import CachedViews


class WitnessReplay:
    """Compares the witnessed views among those that are made again, teacher by teacher.

    Attributes:
        checked: views, of all teachers together.
        different: messages, one for each view that differs.
    """

    def __init__(self, views: CachedViews, context: ReplayContext) -> None:
        self._views, self._context = views, context
        self.checked = 0
        self.different: list[str] = []

    def add(self, rendered: RenderedCells, teachers: Sequence[CachedArrays], differs: NDArray[np.bool_]) -> None:
        """Take whole groups of which the views marked in `differs` (bool [B]) have other pixels: they prove nothing."""
        for arrays in teachers:
            self._add(rendered, arrays, differs)

    def _add(self, rendered: RenderedCells, arrays: CachedArrays, differs: NDArray[np.bool_]) -> None:
        witnessed = np.isin(rendered.slots, arrays.witnesses(rendered.epoch).slots)
        groups = rendered.slots // self._views.plan.mix_group
        rows = np.flatnonzero(np.isin(groups, groups[witnessed]) & ~np.isin(groups, groups[differs]))
        if not len(rows):
            return
        batch = to_batch(some_rows(rendered, rows))
        identity, recipe = arrays.identity, self._views.recipe
        given = StudentInput(
            inputs=normalise(compose(batch, recipe), identity.mean, identity.std),
            mean=identity.mean,
            std=identity.std,
            labels=mixed_labels(batch, identity.num_classes, 0.0),
            labelled=labelled_share(batch),
            smoothing=0.0,
        )
        check = WitnessCheck([arrays.witnesses], self._context)
        check.watch(batch, given)
        self.checked += check.waiting
        self.different += [str(one) for one in check.compare()]


def some_rows(rendered: RenderedCells, rows: NDArray[np.intp]) -> RenderedCells:
    """Some cells of a batch, ascending, with the partners of all of them."""
    return replace(
        rendered,
        slots=rendered.slots[rows],
        samples=rendered.samples[rows],
        labels=rendered.labels[rows],
        pixels=rendered.pixels[rows],
        fingerprints=rendered.fingerprints[rows],
        erase=rendered.erase[rows],
        noise_seed=rendered.noise_seed[rows],
        partner=np.searchsorted(rows, rendered.partner[rows]),
        lam=rendered.lam[rows],
        mix_box=rendered.mix_box[rows],
        views=[rendered.views[row] for row in rows.tolist()],
    )
