"""Is this the view the teacher saw? Every fingerprint is compared; a difference is named and stops the run."""

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.provenance import library_versions
from deit_pipe.stages.console.errors import Mismatch

if TYPE_CHECKING:  # at run time it would import torch, which an inspection does without
    from deit_pipe.pipeline.loader import ViewBatch


def check_replay(views: "ViewBatch", cached: NDArray[np.uint32], where: "ReplayContext") -> None:
    """Compare all fingerprints of a batch with the cache's.

    Raises:
        Mismatch: at least one differs; the first is named with cell, file, both values and library versions.
    """
    different = np.flatnonzero(views.fingerprints != cached)
    if len(different):
        raise Mismatch(where.describe(views, cached, different))


class ReplayContext:
    """What a replay error needs to say: file names, and the libraries then and now."""

    def __init__(
        self, cache: str, keys: "NDArray[np.str_] | list[str] | tuple[str, ...]", then: Mapping[str, str]
    ) -> None:
        """`keys[i]` is the file or row of sample i; `then` are the cache's recorded library versions."""
        self.cache, self.keys, self.then = cache, keys, dict(then)

    def describe(self, views: "ViewBatch", cached: NDArray[np.uint32], different: NDArray[np.intp]) -> str:
        """The message for the first difference in a batch."""
        first = int(different[0])
        return (
            f"replay differs: {self.cell(views, first)}\n"
            f"  fingerprint  cached {int(cached[first]):08x}   replayed {int(views.fingerprints[first]):08x}\n"
            f"  {len(different)} of {len(cached)} views of this batch differ\n" + self.versions() + "\n"
            f"find out more with: deit-pipe inspect-cache {shlex.quote(self.cache)} --replay all"
        )

    def cell(self, views: "ViewBatch", place: int) -> str:
        """One view of a batch in words: its cell, sample and file."""
        sample = int(views.samples[place])
        return f"epoch {views.epoch}, slot {views.slots[place]}, sample {sample} ({self.keys[sample]})"

    def versions(self) -> str:
        """Which libraries differ from those the cache was made with, and what that means."""
        changed = changed_versions(self.then)
        if not changed:
            return "  the libraries are the cache's own, so an image file was changed: restore it, or make a new cache"
        return (
            f"  libraries that differ from the cache's: {version_pairs(changed)}\n"
            "  install the cached versions, or make a new cache"
        )


def changed_versions(provenance: Mapping[str, str]) -> dict[str, list[str]]:
    """Libraries that differ from those recorded: name -> [cached, here]."""
    here = library_versions()
    return {
        name: [provenance[name], version]
        for name, version in here.items()
        if name in provenance and provenance[name] != version
    }


def program_versions(provenance: Mapping[str, str]) -> str:
    """What differs between the program that made a cache and this one, torch included, as an indented line."""
    import torch  # its version can move what is composed, never a fingerprint

    changed = changed_versions(provenance)
    if (before := provenance.get("torch", torch.__version__)) != torch.__version__:
        changed["torch"] = [before, torch.__version__]
    if not changed:
        return "  the libraries are the cache's own, so this program differs from the one that made the cache"
    return f"  libraries that differ from the cache's: {version_pairs(changed)}"


def version_pairs(changed: Mapping[str, Sequence[str]]) -> str:
    """`pillow 12.0.0 -> 13.0.0, ...`."""
    return ", ".join(f"{name} {then} -> {here}" for name, (then, here) in changed.items())
