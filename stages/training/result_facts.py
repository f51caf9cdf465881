"""The result of a training run, typed; its JSON is what the run folder records, of whatever version. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deit_pipe.stages.console.facts import Facts

Scores = Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True, kw_only=True)
class TrainedStudent(Facts):
    """A finished run, as `result.json` has it; None is what an earlier version did not record.

    Attributes:
        out, student, loss, epochs, steps: folder, model, and what was done.
        answer: the head that counts: class, dist or fused.
        selected: whose scores are the result: val or test, `_ema` behind it for averaged weights.
        scores: of it, by way of answering: `top1` and `top5`, 0..1; empty where there was nothing to measure on.
        best: `top1` and `epoch` (from 0) of the best evaluation.
        teacher_top1, teacher_split: as its gate measured it.
        split, images, chance, commonest, near_chance, better_head: see `outcome`.
        recorded: everything.
    """

    out: str
    student: str | None
    loss: str | None
    epochs: int | None
    steps: int | None
    answer: str | None
    selected: str | None
    scores: Scores
    best: Mapping[str, float] | None
    teacher_top1: float | None
    teacher_split: str | None
    split: str | None
    images: int | None
    chance: float | None
    commonest: float | None
    near_chance: bool | None
    better_head: str | None
    recorded: Mapping[str, Any]

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> "TrainedStudent":
        """Read a result."""
        named = [name for name in cls.__dataclass_fields__ if name not in ("scores", "recorded")]
        scores = recorded.get(recorded.get("selected") or "") or {}
        return cls(**{name: recorded.get(name) for name in named}, scores=scores, recorded=recorded)  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """The result as recorded."""
        return dict(self.recorded)


@dataclass(frozen=True)
class RunSettings(Facts):
    """Every `value` that a run would be made with, by the name of its option."""

    values: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The values themselves."""
        return dict(self.values)
