"""Does this program, on this device, compose views as the one that made a cache? A probe tells before work begins."""

from collections.abc import Mapping, Sequence

import torch

from deit_pipe.pipeline.proof.probe import probe_differs, probe_row, probe_text
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.opened.replay import program_versions

PROBE = "probe"
"""Its key in a cache's provenance; caches of format 1 have none."""


def check_same_program(
    cache: str,
    provenance: Mapping[str, str],
    recipe: Recipe,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
) -> None:
    """Compare the probe of a network's normalisation with the one that the cache recorded.

    Raises:
        Mismatch: they differ by more than rounding; the first view is shown.
    """
    kept = provenance.get(PROBE)
    if kept is None:
        return
    here = probe_text(recipe, mean, std, device)
    view = probe_differs(kept, here)
    if view is not None:
        raise Mismatch(
            f"probe differs: this program composes a test batch otherwise than the one that made {cache}",
            expected=probe_row(kept, view),
            got=probe_row(here, view),
            details=[
                f"these are view {view}'s sums of composed pixels, labels by weight, labelled share",
                program_versions(provenance),
            ],
            cure="use the program and the libraries that the cache was made with, or make a new cache",
        )
