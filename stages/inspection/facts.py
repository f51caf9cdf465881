"""What a cache is, as typed facts; `summary` finds them, the screen, `--json` and the page show them.

Keys of the JSON are the names of the fields; they are stable: new ones may come, none go away or change their meaning.
Shares and probabilities are 0..1, entropies nats, sizes bytes, times seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.inspection.agreement import Agreement
from deit_pipe.stages.inspection.outliers import Outlier
from deit_pipe.store.manifest import Manifest, TeacherIdentity


@dataclass(frozen=True)
class EpochCoverage(Facts):
    """One wanted `epoch`: `blocks` of `blocks_total` are there, with so many `slots`; `sealed`: in one ledger file."""

    epoch: int
    blocks: int
    blocks_total: int
    slots: int
    sealed: bool


@dataclass(frozen=True)
class ArrayFacts(Facts):
    """A stored array: what it is, and what it costs.

    Attributes:
        name, dims, shape, dtype, block: as zarr knows them.
        stored_bytes, raw_bytes: as it lies there, and without compression.
        bytes_per_view, ratio: None before the first block.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    block: tuple[int, ...]
    stored_bytes: int
    raw_bytes: int
    bytes_per_view: float | None
    ratio: float | None


@dataclass(frozen=True)
class Means(Facts):
    """Means over all committed views.

    Attributes:
        agrees_with_label: with the label of the larger share of a mixed view.
        agrees_with_label_or_partner: with either.
        mean_top1_probability, mean_entropy: of the teacher's answer.
        ties: share of views whose largest logit is not unique in float16.
        topk_mass: mean probability of the kept classes, top-k only.
        confidence: views by the probability of the answer, 20 bins of 0..1.
    """

    agrees_with_label: float
    agrees_with_label_or_partner: float
    mean_top1_probability: float
    mean_entropy: float
    ties: float
    topk_mass: float | None
    confidence: tuple[int, ...]


@dataclass(frozen=True)
class Health(Facts):
    """The `means`, and whether their `agreement` is better than guessing; one object in the JSON."""

    means: Means
    agreement: Agreement

    def to_json(self) -> dict[str, Any]:
        """Both, side by side."""
        return {**self.means.to_json(), **self.agreement.to_json()}


@dataclass(frozen=True)
class EpochMeans(Facts):
    """Means over the committed views of one `epoch`: agrees_with_label, mean_top1_probability, mean_entropy."""

    epoch: int
    agrees_with_label: float
    mean_top1_probability: float
    mean_entropy: float


@dataclass(frozen=True)
class ClassBalance(Facts):
    """How often the teacher says each class, over the sealed epochs.

    Attributes:
        views: looked at.
        counts: by class.
        never: classes that it never says.
        least, most: the rarest and the most frequent class.
    """

    views: int
    counts: tuple[int, ...]
    never: tuple[int, ...]
    least: int
    most: int


@dataclass(frozen=True)
class Left(Facts):
    """Missing `blocks`, their `views`, and the `seconds` they take at the last run's rate, None if unknown."""

    blocks: int
    views: int
    seconds: float | None


@dataclass(frozen=True)
class TeacherFacts(Facts):
    """One teacher of a cache.

    Attributes:
        name, identity, digest: who it is.
        epochs, complete: wanted epochs; whether all their blocks are there.
        blocks_committed, blocks_total, blocks_per_epoch, views, views_total: how much is there.
        coverage: of every wanted epoch.
        arrays, stored_bytes, bytes, bytes_per_view: what is stored and what it costs; `stored_bytes` by array.
        health: None before the first block.
        per_epoch: of epochs that have a block.
        classes: None before the first sealed epoch.
        outliers, blamed_ranks: odd blocks, the oddest first; processes that wrote most of them.
        runs: who wrote it, oldest first, as recorded.
        gate: what cache-teacher measured before caching, as recorded; None in older caches.
        left: what is missing.
        damage, notes: what is lost; what is damaged and has a good copy.
    """

    name: str
    identity: TeacherIdentity
    digest: str
    epochs: int
    complete: bool
    blocks_committed: int
    blocks_total: int
    blocks_per_epoch: int
    views: int
    views_total: int
    coverage: tuple[EpochCoverage, ...]
    arrays: tuple[ArrayFacts, ...]
    stored_bytes: Mapping[str, int]
    bytes: int
    bytes_per_view: float | None
    health: Health | None
    per_epoch: tuple[EpochMeans, ...]
    classes: ClassBalance | None
    outliers: tuple[Outlier, ...]
    blamed_ranks: tuple[int, ...]
    runs: Sequence[Mapping[str, Any]]
    gate: Mapping[str, Any] | None
    left: Left
    damage: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def share(self) -> float:
        """Committed share of the wanted blocks, 0..1."""
        return self.blocks_committed / max(1, self.blocks_total)

    @property
    def ratio(self) -> float | None:
        """Bytes without compression over bytes stored; None before the first block."""
        return sum(array.raw_bytes for array in self.arrays) / self.bytes if self.bytes else None


@dataclass(frozen=True)
class CacheFacts(Facts):
    """A whole cache.

    Attributes:
        cache, digest: folder or URL, as given; identity of its views.
        state: `complete`, `incomplete`, `damaged` or `empty`.
        complete: whether every teacher is.
        manifest, provenance: what the views are; what the cache was made with.
        teachers: by name.
        verified: what --verify looked at: its level, or which share; None where it was not asked.
        damage: what was found, a line each.
        next: the command that a person wants now.
    """

    cache: str
    digest: str
    state: str
    complete: bool
    manifest: Manifest
    provenance: Mapping[str, str]
    teachers: tuple[TeacherFacts, ...]
    verified: str | None
    damage: tuple[str, ...]
    next: str
