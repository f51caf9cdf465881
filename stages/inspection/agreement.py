"""Whether cached answers agree with the labels better than guessing would. Numbers only; no torch.

Shapes: N samples, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_pipe.stages.console.facts import Facts

NEAR_CHANCE = 0.1


@dataclass(frozen=True)
class Agreement(Facts):
    """What a share of answers that agree with the labels is worth.

    Attributes:
        labelled_share: of the samples.
        chance_agreement: what answers that have nothing to do with the images would reach with either label.
        agreement_skill: what was reached, 0 being that and 1 what a perfect teacher would; None where that says
            nothing: no labels, one class.
        near_chance: `agreement_skill` is below 0.1.
    """

    labelled_share: float
    chance_agreement: float
    agreement_skill: float | None
    near_chance: bool


def agreement_facts(
    agrees_with_either: float,
    labels: NDArray[np.int64] | None,
    said: Mapping[int, NDArray[np.int64]],
    num_classes: int,
    recipe: Mapping[str, Any],
) -> Agreement:
    """What `agrees_with_either` means.

    Args:
        agrees_with_either: share of the views whose answer is one of the labels mixed in them.
        labels: of the samples, int64 [N], -1 where there is none; None: taken as balanced.
        said: how often the teacher says each class, int64 [C], by epoch; empty: taken as often as the labels.
        num_classes: C.
        recipe: as JSON; says how many views are mixed.
    """
    shares = np.full(num_classes, 1 / num_classes)
    if labels is not None and len(labels) and labels.max() < num_classes:
        shares = np.bincount(labels[labels >= 0], minlength=num_classes) / len(labels)
    labelled = float(shares.sum())
    counts = np.sum(list(said.values()), axis=0) if said else shares
    answers = counts / max(counts.sum(), 1e-12)
    mixed = mixed_share(recipe)
    own = float(answers @ shares)
    either = float(answers @ (2 * shares - shares**2))  # the chance that neither label is it is (1 - share)^2
    chance = (1 - mixed) * own + mixed * either
    # a perfect teacher says the larger label; where that is unknown, the other one may still happen to be it
    best = labelled + mixed * (1 - labelled) * own
    skill = (agrees_with_either - chance) / (best - chance) if best - chance > 1e-6 else None
    return Agreement(labelled, chance, skill, near_chance=skill is not None and skill < NEAR_CHANCE)


def mixed_share(recipe: Mapping[str, Any]) -> float:
    """Share of the views that have a partner, 0..1."""
    mixes = recipe.get("mix_group", 1) > 1 and (recipe.get("mixup_alpha", 0) > 0 or recipe.get("cutmix_alpha", 0) > 0)
    return float(recipe.get("mix_prob", 1.0)) if mixes else 0.0
