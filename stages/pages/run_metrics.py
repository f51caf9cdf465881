"""What a training run's folder says: settings, metrics by epoch and by step, result. No torch."""

import json
import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deit_pipe.stages.console.errors import Missing
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.networks.file_names import METRICS, RESULT, RUN_CONFIG, SHOWN
from deit_pipe.stages.networks.sums import check_sums

WAITS = ("data_wait_seconds", "target_wait_seconds", "compute_seconds")


@dataclass(frozen=True)
class StepLine:
    """A line of `metrics.jsonl` about a stretch of steps; `waits`: those of WAITS that it has, seconds."""

    step: int
    views_per_second: float | None
    waits: Mapping[str, float]

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> "StepLine":
        """Read a line."""
        waits = {name: value for name in WAITS if (value := _number(line, name)) is not None}
        return cls(line["step"], _number(line, "views_per_second"), waits)

    def share(self, part: str) -> float | None:
        """Share of the time spent in one of WAITS; None where it is not recorded."""
        total = sum(self.waits.values())
        return self.waits[part] / total if total and part in self.waits else None


@dataclass(frozen=True)
class EpochLine:
    """A line of `metrics.jsonl` about an epoch; what it lacks is None.

    Attributes:
        epoch, step: counted from 0; steps done.
        lr, loss, label_loss, distillation_loss, agreement: means of the epoch.
        top1: of each head of the weights that count, on the validation images; empty where they were not asked.
        val: the same evaluation as recorded.
        values: everything else, as recorded.
    """

    epoch: int
    step: int
    lr: float | None
    loss: float | None
    label_loss: float | None
    distillation_loss: float | None
    agreement: float | None
    top1: Mapping[str, float]
    val: Mapping[str, Any] | None
    values: Mapping[str, Any]

    @classmethod
    def of(cls, line: Mapping[str, Any], weights: str = "model") -> "EpochLine":
        """Read a line; `weights` are those that count: model, or ema, whose evaluation is another."""
        scores = line.get("val_ema" if weights == "ema" else "val")
        return cls(
            epoch=line["epoch"],
            step=line["step"],
            lr=_number(line, "lr"),
            loss=_number(line, "loss"),
            label_loss=_number(line, "label_loss"),
            distillation_loss=_number(line, "distillation_loss"),
            agreement=_number(line, "agreement"),
            top1=top1_of(scores or {}),
            val=scores,
            values={name: value for name, value in line.items() if name not in ("kind", "val", "val_ema")},
        )


def top1_of(scores: Mapping[str, Any]) -> dict[str, float]:
    """Top-1 of each head in an evaluation."""
    found = {head: _number(score, "top1") for head, score in scores.items() if isinstance(score, Mapping)}
    return {head: top1 for head, top1 in found.items() if top1 is not None}


def _number(line: Mapping[str, Any], name: str) -> float | None:
    value = line.get(name)
    return value if isinstance(value, int | float) and math.isfinite(value) else None


@dataclass(frozen=True)
class Best(Facts):
    """The best `top1`, 0..1, and its `epoch`, from 0."""

    top1: float
    epoch: int


@dataclass(frozen=True)
class RunFacts(Facts):
    """The numbers of a run's page.

    Attributes:
        folder: as given.
        epochs, steps: done.
        answer: which way of answering counts.
        best: of that answer; None before the first evaluation.
        last: the last epoch's numbers, with the last evaluation as `val`, as recorded.
        views_per_second, data_wait, target_wait: median; shares of a step's time.
        seconds: time of its steps, without evaluation; None where it is not recorded.
        finished: whether it ended.
        test: scores of the test images, as recorded, where nothing was selected.
    """

    folder: str
    epochs: int
    steps: int
    answer: str
    best: Best | None
    last: Mapping[str, Any]
    views_per_second: float | None
    data_wait: float | None
    target_wait: float | None
    seconds: float | None
    finished: bool
    test: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """What a run folder says.

    Attributes:
        name: its folder, as given.
        config, result: `config.json`, `result.json` (empty while the run is going), as recorded by whatever version.
        epochs, steps: lines of `metrics.jsonl` by kind, in order.
        shown: `shown.json`, of its last evaluation; empty where an earlier version wrote none.
    """

    name: str
    config: Mapping[str, Any]
    result: Mapping[str, Any]
    epochs: Sequence[EpochLine]
    steps: Sequence[StepLine]
    shown: Mapping[str, Any]

    @property
    def answer(self) -> str:
        """Which way of answering counts: the result's, else the fused heads, else the only one."""
        chosen = self.result.get("answer")
        if isinstance(chosen, str):
            return chosen
        return "fused" if "fused" in self.last_scores() and self.config.get("loss") != "none" else "class"

    def last_scores(self) -> Mapping[str, Any]:
        """Scores of the last evaluation, as recorded; empty before the first."""
        return next((line.val for line in reversed(self.epochs) if line.val is not None), {})

    def test_scores(self) -> Mapping[str, Any]:
        """Scores of the test images, which a run without validation images ends with; empty otherwise."""
        selected = self.result.get("selected", "")
        return (self.result.get(selected) or {}) if selected.startswith("test") else {}

    def best(self) -> Best | None:
        """Best top-1 of the counting answer, and the first epoch that has it."""
        scores = [(line.top1[self.answer], -line.epoch) for line in self.epochs if self.answer in line.top1]
        return Best(max(scores)[0], -max(scores)[1]) if scores else None

    def share(self, part: str) -> float | None:
        """Share of the time of a step spent in one of WAITS, over all recorded steps."""
        lines = [line.waits for line in self.steps if part in line.waits]
        total = sum(sum(waits.values()) for waits in lines)
        return sum(waits[part] for waits in lines) / total if total else None

    def speed(self) -> float | None:
        """Median views per second."""
        rates = [line.views_per_second for line in self.steps if line.views_per_second is not None]
        return statistics.median(rates) if rates else None

    def seconds(self) -> float | None:
        """Time of all recorded steps; a line says the mean of its stretch. Evaluation and start-up are not in it."""
        before = [0, *(line.step for line in self.steps)]
        stretches = [
            sum(line.waits.values()) * (line.step - last) for line, last in zip(self.steps, before, strict=False)
        ]
        return sum(stretches) if any(stretches) else None

    def facts(self) -> RunFacts:
        """The numbers of the page."""
        last = self.epochs[-1] if self.epochs else None
        return RunFacts(
            folder=self.name,
            epochs=len(self.epochs),
            steps=last.step if last else 0,
            answer=self.answer,
            best=self.best(),
            last={**(last.values if last else {}), "val": self.last_scores()},
            views_per_second=self.speed(),
            data_wait=self.share(WAITS[0]),
            target_wait=self.share(WAITS[1]),
            seconds=self.seconds(),
            finished=bool(self.result),
            test=self.test_scores(),
        )


def read_run(folder: Path) -> Run:
    """Read a run folder; a line that is still being written is left out.

    Raises:
        Missing: no run there, or no epoch and no step of it yet. Corrupt: a file is not what was written.
    """
    path = folder / METRICS
    if not path.is_file():
        raise Missing(
            f"{folder} holds no training run: {METRICS} is not there",
            cure=f"make one with: deit-pipe train-student --out {shlex.quote(str(folder))}",
        )
    # the metrics are vouched for when the run is finished
    written = [RUN_CONFIG, RESULT, METRICS, SHOWN] if (folder / RESULT).is_file() else [RUN_CONFIG]
    check_sums(folder, [name for name in written if (folder / name).is_file()])
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    if not lines:
        raise Missing(f"{path} has no line yet", cure="wait for the end of the run's first epoch")
    config = _read(folder / RUN_CONFIG)
    weights = str(config.get("select", "model"))
    return Run(
        str(folder),
        config,
        _read(folder / RESULT),
        [EpochLine.of(line, weights) for line in lines if line.get("kind") == "epoch"],
        [StepLine.of(line) for line in lines if line.get("kind") == "step"],
        _read(folder / SHOWN),
    )


def _read(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return data
