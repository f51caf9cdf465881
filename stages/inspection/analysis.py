"""What the stored labels say: accuracy per class, confusions, flips between views of a sample, hardest samples.

Reads only `teacher_label` and the sample table; no image and no logit. Of a large cache every k-th sample is looked
at, in all its views, so that flips can be seen and every class keeps its share.

Shapes: N samples, C classes, V looked-at views.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.cells import pair_up
from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.stages.console.progress import progress
from deit_pipe.stages.opened.arrays import CachedArrays

MOST_VIEWS = 300_000
FLIP_BINS = 20
FEWEST_VIEWS = 2  # of a sample, before anything can flip


@dataclass(frozen=True)
class Analysis:
    """Counts over the looked-at views.

    Attributes:
        every: each `every`-th sample was looked at.
        views: V; of views whose larger share is unlabelled nothing is counted but flips.
        confusion: int64 [C, C], true class (of the larger share of a mixed view) by teacher label.
        flips: int64 [FLIP_BINS], samples by the share of their views that give their most frequent label.
        flip_rate: share of views whose label is not the most frequent one of their sample; None where none has two.
        sample_views: int64 [N], views in which a sample has the larger share (or half).
        sample_right: int64 [N], those of them that are answered right.
        sample_wrong: int64 [N], its most frequent wrong answer; -1 where there is none.
        sample_wrong_views: int64 [N], how often that was given.
    """

    every: int
    views: int
    confusion: NDArray[np.int64]
    flips: NDArray[np.int64]
    flip_rate: float | None
    sample_views: NDArray[np.int64]
    sample_right: NDArray[np.int64]
    sample_wrong: NDArray[np.int64]
    sample_wrong_views: NDArray[np.int64]

    @property
    def class_views(self) -> NDArray[np.int64]:
        """Views of each true class, int64 [C]."""
        return np.asarray(self.confusion.sum(axis=1))

    @property
    def class_accuracy(self) -> NDArray[np.float64]:
        """Share of each class's views that the teacher labels right, float64 [C]; NaN where there is no view."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.diag(self.confusion) / self.class_views, np.float64)

    def confused_pairs(self, count: int) -> list[tuple[int, int, int]]:
        """The most frequent mistakes: (true class, teacher's class, views), most first."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        flat = np.argsort(-wrong, axis=None, kind="stable")[:count]
        pairs = [(int(p) // len(wrong), int(p) % len(wrong)) for p in flat]
        return [(true, said, int(wrong[true, said])) for true, said in pairs if wrong[true, said]]

    def hardest_samples(self, count: int) -> NDArray[np.int64]:
        """Samples of at least two views with the smallest share of right answers; none that is always right."""
        enough = (self.sample_views >= min(FEWEST_VIEWS, int(self.sample_views.max(initial=0)))) & (
            self.sample_right < self.sample_views
        )
        chosen = np.flatnonzero(enough)
        share = self.sample_right[chosen] / np.maximum(1, self.sample_views[chosen])
        order = np.lexsort((chosen, -self.sample_wrong_views[chosen], share))
        return chosen[order[:count]]


def analyse(
    arrays: CachedArrays,
    recipe: Recipe,
    plan: ViewPlan,
    labels: NDArray[np.int64],
    most_views: int = MOST_VIEWS,
) -> Analysis:
    """Count over at most about `most_views` committed views; damaged blocks are left out, and in `arrays.damage`."""
    classes, count = arrays.identity.num_classes, len(labels)
    total = sum(int(arrays.committed(epoch).sum()) for epoch in range(arrays.epochs))
    every = max(1, -(-total // most_views))
    confusion = np.zeros((classes, classes), np.int64)
    pairs: list[NDArray[np.int64]] = []  # sample * classes + label of views in which the sample dominates
    with progress("reading labels", max(1, arrays.epochs), "epochs") as shown:
        for epoch in range(arrays.epochs):
            samples = plan.sample_at(epoch)
            answers = arrays.epoch("teacher_label", epoch).astype(np.int64)
            slots = np.flatnonzero((answers >= 0) & (samples % every == 0))
            if len(slots):
                said = answers[slots]
                other, owns = dominance(recipe, plan, epoch, slots, arrays.manifest.image_size)
                true = labels[np.where(owns, samples[slots], samples[other])]
                known = true >= 0
                np.add.at(confusion, (true[known], said[known]), 1)
                pairs.append(samples[slots][owns] * classes + said[owns])
            shown.advance(1)
    return _count(every, confusion, np.concatenate(pairs or [np.zeros(0, np.int64)]), labels, count)


def dominance(
    recipe: Recipe, plan: ViewPlan, epoch: int, slots: NDArray[np.int64], image_size: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The partner's slot of each of `slots` and whether the own image has the larger share (or half)."""
    if not recipe.mixes:
        return slots, np.ones(len(slots), np.bool_)
    group = plan.mix_group
    firsts = np.unique(slots // group) * group
    members = (firsts[:, None] + np.arange(group)).ravel()
    members = members[members < plan.num_slots]
    partner, mixes = pair_up(recipe, plan, epoch, members, image_size)
    at = np.searchsorted(members, slots)
    owns = np.array([mix is None or mix.lam >= 0.5 for mix in mixes], np.bool_)
    return members[partner[at]], owns[at]


def _count(
    every: int, confusion: NDArray[np.int64], pairs: NDArray[np.int64], labels: NDArray[np.int64], count: int
) -> Analysis:
    classes = len(confusion)
    keys, times = np.unique(pairs, return_counts=True)
    owner, label = keys // classes, keys % classes
    views = np.bincount(owner, times, count).astype(np.int64)
    unknown = labels < 0
    right = np.bincount(owner, times * (label == labels[owner]), count).astype(np.int64)
    best = np.zeros(count, np.int64)
    np.maximum.at(best, owner, times)
    mistake = (label != labels[owner]) & ~unknown[owner]
    wrong_views = np.zeros(count, np.int64)
    np.maximum.at(wrong_views, owner[mistake], times[mistake])
    wrong = np.full(count, -1, np.int64)
    # backwards, so that of equally frequent answers the smallest class is named
    first = np.flatnonzero(mistake & (times == wrong_views[owner]))[::-1]
    wrong[owner[first]] = label[first]
    several = views >= FEWEST_VIEWS
    bins = np.minimum(best[several] * FLIP_BINS // views[several], FLIP_BINS - 1)
    rate = float(1 - best[several].sum() / views[several].sum()) if several.any() else None
    return Analysis(
        every=every,
        views=int(confusion.sum()),
        confusion=confusion,
        flips=np.bincount(bins, minlength=FLIP_BINS),
        flip_rate=rate,
        sample_views=np.where(unknown, 0, views),
        sample_right=right,
        sample_wrong=wrong,
        sample_wrong_views=wrong_views,
    )
