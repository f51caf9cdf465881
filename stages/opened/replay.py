"""Is this the view the teacher saw? Every fingerprint is compared; a difference is named and stops the run."""

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.provenance import library_versions
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.opened.encoded_files import EncodedFiles, cause_lines
from deit_pipe.store.stored_cache import StoredCache

if TYPE_CHECKING:  # at run time it would import torch, which an inspection does without
    from deit_pipe.pipeline.loader import ViewBatch


def check_replay(views: "ViewBatch", cached: NDArray[np.uint32], where: "ReplayContext") -> None:
    """Compare all fingerprints of a batch with the cache's.

    Raises:
        Mismatch: at least one differs; the first is named with cell, file, both values and the cause that is proven.
    """
    different = np.flatnonzero(views.fingerprints != cached)
    if len(different):
        raise where.differs(views, cached, different)


class ReplayContext:
    """What a replay error needs to say: file names, and the libraries and files then and now."""

    def __init__(self, stored: StoredCache, table: SampleTable) -> None:
        """`table` holds the cache's samples as they are now."""
        self.cache, self.keys, self.then = stored.path, table.keys, dict(stored.provenance)
        self._files = EncodedFiles(stored, table)

    def differs(self, views: "ViewBatch", cached: NDArray[np.uint32], different: NDArray[np.intp]) -> Mismatch:
        """The error of the first difference in a batch."""
        first = int(different[0])
        changed = changed_versions(self.then)
        cause = cause_lines(self._files.verdict(int(views.samples[first])), changed, version_pairs(changed))
        return Mismatch(
            f"replay differs: {self.cell(views, first)}",
            details=[
                f"fingerprint  cached {int(cached[first]):08x}   replayed {int(views.fingerprints[first]):08x}",
                f"{len(different)} of {len(cached)} views of this batch differ",
                *cause,
            ],
            cure=f"find out more with: deit-pipe inspect-cache {shlex.quote(self.cache)} --replay all",
        )

    def cell(self, views: "ViewBatch", place: int) -> str:
        """One view of a batch in words: its cell, sample and file."""
        sample = int(views.samples[place])
        return f"epoch {views.epoch}, slot {views.slots[place]}, sample {sample} ({self.keys[sample]})"


def changed_versions(provenance: Mapping[str, str]) -> dict[str, list[str]]:
    """Libraries that differ from those recorded: name -> [cached, here]."""
    here = library_versions()
    return {
        name: [provenance[name], version]
        for name, version in here.items()
        if name in provenance and provenance[name] != version
    }


def program_versions(provenance: Mapping[str, str]) -> str:
    """What differs between the program that made a cache and this one, torch included."""
    import torch  # its version can move what is composed, never a fingerprint

    changed = changed_versions(provenance)
    if (before := provenance.get("torch", torch.__version__)) != torch.__version__:
        changed["torch"] = [before, torch.__version__]
    if not changed:
        return "the libraries are the cache's own, so this program differs from the one that made the cache"
    return f"libraries that differ from the cache's: {version_pairs(changed)}"


def version_pairs(changed: Mapping[str, Sequence[str]]) -> str:
    """`pillow 12.0.0 -> 13.0.0, ...`."""
    return ", ".join(f"{name} {then} -> {here}" for name, (then, here) in changed.items())
