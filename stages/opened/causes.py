"""What views that differ have in common: the pixel operation, or the image files, that the equal views do not share."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.cells import RenderedCells

ALMOST_ALL = 0.9
TELLING = 0.5


@dataclass
class Causes:
    """Counts over equal and differing views, from which the cause is guessed."""

    equal_features: Counter[str] = field(default_factory=Counter)
    different: Counter[frozenset[str]] = field(default_factory=Counter)
    equal_samples: Counter[int] = field(default_factory=Counter)
    different_samples: Counter[int] = field(default_factory=Counter)
    views: int = 0

    def add(self, rendered: RenderedCells, differs: NDArray[np.bool_]) -> None:
        """Count the views of a batch; `differs` is bool [B]."""
        self.views += len(differs)
        for place, bad in enumerate(differs.tolist()):
            features = features_of(rendered, place)
            sample = int(rendered.samples[place])
            if bad:
                self.different[features] += 1
                self.different_samples[sample] += 1
            else:
                self.equal_features.update(features)
                self.equal_samples[sample] += 1

    def sentence(self) -> str | None:
        """What the differing views share, in words; None where no view differs."""
        total = sum(self.different.values())
        if not total:
            return None
        shared = frozenset.intersection(*self.different)
        if total >= ALMOST_ALL * self.views:
            also = f"; every one uses {_listed(sorted(shared))}" if shared else ""
            return f"nearly all views differ: other images, or decoding or resizing changed{also}"
        if cover := self._telling_features():
            inside = sum(count for features, count in self.different.items() if features & cover)
            among = inside + sum(self.equal_features[name] for name in cover)
            return (
                f"every differing view uses {_listed(sorted(cover), 'or')}; "
                f"of views that do, {inside / among:.0%} differ, of others none"
            )
        only = [sample for sample in self.different_samples if not self.equal_samples[sample]]
        if len(only) == len(self.different_samples) and total > len(only):
            many = "s" if len(only) > 1 else ""
            return f"all views of {len(only)} sample{many} differ and no others: image files were changed"
        return "the differing views have no operation in common: image files were changed, or the memory is faulty"

    def _telling_features(self) -> set[str]:
        """The fewest features, most of whose views differ, such that every differing view has one; empty if none do."""
        counts: Counter[str] = Counter()
        for features, count in self.different.items():
            for name in features:
                counts[name] += count
        rates = {name: count / (count + self.equal_features[name]) for name, count in counts.items()}
        left = set(self.different)
        cover: set[str] = set()
        for name in sorted(rates, key=lambda name: (-rates[name], -counts[name], name)):
            if not left or rates[name] < TELLING:
                break
            if any(name in features for features in left):
                cover.add(name)
                left = {features for features in left if name not in features}
        return set() if left else cover


def features_of(rendered: RenderedCells, place: int) -> frozenset[str]:
    """What was done to one view: its operations by name, and erasing and mixing."""
    view = rendered.views[place]
    found = {op.name for op in view.ops}
    if view.flip:
        found.add("the flip")
    if view.erase is not None:
        found.add("erasing")
    if rendered.partner[place] != place:
        found.add("CutMix" if rendered.mix_box[place].any() else "Mixup")
    return frozenset(found)


def _listed(names: list[str], word: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
