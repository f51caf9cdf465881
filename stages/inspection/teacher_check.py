"""`inspect-cache --replay --teacher-weights`: ask the teacher again and compare its answers with the cached ones.

Shapes: B cells of a batch, C classes, K kept classes.
"""

from collections import Counter

import numpy as np
import torch
from numpy.typing import NDArray

from deit_pipe.pipeline.cells import RenderedCells
from deit_pipe.pipeline.compose import compose
from deit_pipe.pipeline.loader import to_batch
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.inspection.replay_facts import AnswerCheck
from deit_pipe.stages.machine.distributed import choose_device
from deit_pipe.stages.networks.teacher import Teacher, load_cached
from deit_pipe.stages.opened.arrays import CachedArrays
from deit_pipe.stages.opened.views import CachedViews
from deit_pipe.store.formats import LEVELS, Targets

# Of the largest logit of a row: float16 storage loses 2^-11, other devices and batch positions somewhat more.
COMPARED = {"dense": "logit", "dense8": "logit", "topk": "log-probability", "none": None}
TOLERANCE = {"fp32": 0.01, "bf16": 0.1}


class TeacherCheck:
    """Computes the answers to batches of rendered views again, at the cached teacher's own batch size."""

    def __init__(self, arrays: CachedArrays, teacher: Teacher, recipe: Recipe) -> None:
        self.arrays, self.teacher, self.recipe = arrays, teacher, recipe
        self.tolerance = TOLERANCE[arrays.identity.precision]
        self._pixels: list[torch.Tensor] = []
        self._cells: list[tuple[int, NDArray[np.int64]]] = []
        self.checked = self.labels_equal = self.different = 0
        self.largest: float | None = None
        self.blocks: Counter[tuple[int, int]] = Counter()

    def add(self, rendered: RenderedCells) -> None:
        """Take whole mix groups; cells that this teacher has not answered are left out."""
        there = self.arrays.committed(rendered.epoch)[rendered.slots]
        mixed = compose(to_batch(rendered).to(self.teacher.device), self.recipe)
        self._pixels.append(mixed[torch.from_numpy(there).to(mixed.device)])
        self._cells.append((rendered.epoch, rendered.slots[there]))
        if sum(len(pixels) for pixels in self._pixels) >= self.arrays.identity.batch_size:
            self._ask(keep_rest=True)

    def finish(self) -> AnswerCheck:
        """Answer what is left; the result."""
        self._ask(keep_rest=False)
        return AnswerCheck(
            teacher=self.arrays.identity.name,
            source=self.teacher.source,
            checked=self.checked,
            labels_equal=self.labels_equal,
            compared=COMPARED[self.arrays.identity.format.kind],
            largest_difference=self.largest,
            tolerance=self.tolerance,
            different=self.different,
            blocks=tuple((*block, count) for block, count in self.blocks.most_common()),
        )

    def _ask(self, keep_rest: bool) -> None:
        """Run whole teacher batches of what has gathered (and, at the end, a padded one)."""
        if not self._pixels:
            return
        size = self.arrays.identity.batch_size
        pixels = torch.cat(self._pixels)
        epochs = np.concatenate([np.full(len(slots), epoch) for epoch, slots in self._cells])
        slots = np.concatenate([slots for _, slots in self._cells])
        stop = len(slots) // size * size if keep_rest else len(slots)
        for start in range(0, stop, size):
            part = slice(start, min(start + size, stop))
            logits = self.teacher.padded(pixels[part], size).cpu().numpy()
            for epoch in np.unique(epochs[part]).tolist():
                rows = np.flatnonzero(epochs[part] == epoch)
                self._compare(int(epoch), slots[part][rows], logits[rows])
        self._pixels = [pixels[stop:]] if stop < len(slots) else []
        self._cells = [(int(e), slots[stop:][epochs[stop:] == e]) for e in dict.fromkeys(epochs[stop:].tolist())]

    def _compare(self, epoch: int, slots: NDArray[np.int64], logits: NDArray[np.float32]) -> None:
        cached = self.arrays.targets(epoch, slots)
        now = logits.argmax(axis=1)
        self.checked += len(slots)
        self.labels_equal += int((now == cached.teacher_label).sum())
        distance = answer_distance(cached, logits)
        allowed = self.tolerance * np.maximum(1.0, np.abs(logits).max(axis=1))
        bad = label_gap(cached.teacher_label, logits) > allowed
        if distance is not None:
            self.largest = max(self.largest or 0.0, float(distance.max()))
            bad |= distance > allowed
        self.different += int(bad.sum())
        for index in (slots[bad] // self.arrays.identity.block_slots).tolist():
            self.blocks[epoch, index] += 1


def answer_distance(cached: Targets, logits: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Largest difference of each row [B]: of logits, or of top-k log-probabilities; None for labels alone."""
    if cached.kind == "dense8" and cached.logits is not None:  # what rounding explains is no difference
        off = np.abs(cached.logits - (logits - logits.max(axis=1, keepdims=True))).max(axis=1)
        return np.asarray(np.maximum(off - 0.51 * (0.0 - cached.logits.min(axis=1)) / LEVELS, 0), np.float64)
    if cached.logits is not None:
        return np.asarray(np.abs(cached.logits - logits).max(axis=1), np.float64)
    if cached.topk_logp is None or cached.topk_class is None:
        return None
    wide = logits.astype(np.float64)
    top = wide.max(axis=1, keepdims=True)
    logp = wide - top - np.log(np.exp(wide - top).sum(axis=1, keepdims=True))
    return np.asarray(np.abs(np.take_along_axis(logp, cached.topk_class, axis=1) - cached.topk_logp).max(axis=1))


def label_gap(label: NDArray[np.int64], logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """How far the cached label's logit is below the largest of each row [B]; 0 where it is still the answer."""
    own = np.take_along_axis(logits, label[:, None], axis=1)[:, 0]
    return np.asarray(logits.max(axis=1) - own, np.float64)


def open_check(arrays: CachedArrays, views: CachedViews, weights: str, device: str) -> TeacherCheck:
    """Load the very teacher that was cached.

    Raises:
        Mismatch: these are other weights.
    """
    identity = arrays.identity
    names = views.table.class_names
    teacher = load_cached(identity, weights, class_names=names, device=choose_device(device), seed=views.manifest.seed)
    if teacher.weights_sha256 != identity.weights_sha256:
        raise Mismatch(
            f"{weights} is not the teacher that was cached as {identity.name!r}",
            details=[f"weights sha256  cached {identity.weights_sha256[:16]}   given {teacher.weights_sha256[:16]}"],
            cure="give the weights that it was cached with, with --teacher-weights",
        )
    return TeacherCheck(arrays, teacher, views.recipe)
