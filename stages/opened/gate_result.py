"""What the gate found, as it is kept in a cache and shown to a person. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.console.words import percent

PASSED, WARNED, ACCEPTED, NOT_GATED = "passed", "warned", "accepted", "not gated"


@dataclass(frozen=True, kw_only=True)
class Cause(Facts):
    """What would make the answers right.

    Attributes:
        kind: `class order`, `image size` or `normalisation`.
        text: for a person, one line.
        cure: what to do about it, one line.
        before: share of right answers as it is, 0..1.
        after: share without this cause, on the same images.
        images: how many were tried.
    """

    kind: str
    text: str
    cure: str
    before: float
    after: float
    images: int


@dataclass(frozen=True, kw_only=True)
class GateResult(Facts):
    """How a teacher that may be cached did on plain images. Shares are 0..1; what was not measured is None.

    Attributes:
        decision: `passed`; `warned`: usable, but poor; `accepted`: refused, and overridden by --accept-teacher;
            `not gated`: nothing could be measured.
        reason: why it was not simply passed, one line; empty for `passed`.
        cause: the likely one, where one was found.
        model: timm tag.
        weights_sha256: of the teacher that was asked.
        head: `pretrained`, `trained`, `fitted` or `random`.
        body: of a fitted head: where the weights below it came from.
        split: whose images were asked about, `val` or `train`.
        image_size: side at which it was asked, pixels.
        trained_size: side that it was trained on, where known.
        images: how many were answered.
        num_classes: of the data.
        classes_seen: classes among those images.
        accuracy: share of right answers.
        skill: (mean class accuracy - 1/C) / (1 - 1/C); `skill_low`, `skill_high` are its 95 % interval.
        ece: expected calibration error in 15 bins.
        mean_confidence: mean probability of the answers.
        known: accuracy that was known before, and `known_from`, where that is written.
        seed: of the sample of images.
        measured: seconds since 1970.
    """

    decision: str
    model: str
    weights_sha256: str
    head: str
    image_size: int
    num_classes: int
    measured: float
    seed: int = 0
    reason: str = ""
    cause: Cause | None = None
    body: str | None = None
    trained_size: int | None = None
    split: str | None = None
    images: int = 0
    classes_seen: int = 0
    accuracy: float | None = None
    skill: float | None = None
    skill_low: float | None = None
    skill_high: float | None = None
    ece: float | None = None
    mean_confidence: float | None = None
    known: float | None = None
    known_from: str | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`; fields of a later version are left out."""
        known = _known(cls, data)
        if known.get("cause") is not None:
            known["cause"] = Cause(**_known(Cause, known["cause"]))
        return cls(**known)


def _known(kind: type[Facts], data: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in data.items() if name in names}


def measured_words(gate: GateResult) -> str:
    """`97.2 % of 360 val images, skill 0.97 [0.95, 0.98], ECE 0.021`."""
    return (
        f"{percent(gate.accuracy, 1)} of {gate.images:,} {gate.split} images, "
        f"skill {gate.skill:.2f} [{gate.skill_low:.2f}, {gate.skill_high:.2f}], ECE {gate.ece:.3f}"
    )


def gate_words(gate: GateResult) -> str:
    """One line for a screen; `reason` is left to the caller, except where nothing was measured."""
    if gate.decision == NOT_GATED:
        return f"not gated: {gate.reason}"
    if gate.decision == ACCEPTED:
        return f"accepted by --accept-teacher: {measured_words(gate)}"
    return measured_words(gate)


def gate_lines(gate: GateResult) -> list[str]:
    """What a run says of its teacher: how it did, what is wrong, and a size it was not trained on."""
    head = f"{gate.head} head" + (f" on {gate.body}" if gate.body else "")
    lines = [f"teacher {gate.model} ({head}), weights sha256 {gate.weights_sha256[:16]}: {gate_words(gate)}"]
    if gate.decision in (WARNED, ACCEPTED):
        lines.append(f"WARNING: {gate.reason}")
        if gate.cause is not None:
            lines.append(f"  likely cause: {cause_words(gate.cause)}; {gate.cause.cure}")
    if gate.trained_size not in (None, gate.image_size):
        lines.append(f"teacher {gate.model}: trained at {gate.trained_size} px, cached at {gate.image_size} px")
    return lines


def cause_words(cause: Cause) -> str:
    """What it is, and what it costs."""
    return (
        f"{cause.text} (without it {percent(cause.after, 1)} right instead of {percent(cause.before, 1)}, "
        f"tried on {cause.images} images)"
    )
