"""What a training run's folder says: settings, metrics by epoch and by step, result. No torch."""

import json
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deit_pipe.stages.console.errors import Missing

CONFIG, METRICS, RESULT = "config.json", "metrics.jsonl", "result.json"
WAITS = ("data_wait_seconds", "target_wait_seconds", "compute_seconds")


@dataclass(frozen=True)
class Run:
    """What a run folder says.

    Attributes:
        name: its folder, as given.
        config, result: `config.json`, `result.json` (empty while the run is going).
        epochs, steps: lines of `metrics.jsonl` by kind, in order.
    """

    name: str
    config: Mapping[str, Any]
    result: Mapping[str, Any]
    epochs: Sequence[Mapping[str, Any]]
    steps: Sequence[Mapping[str, Any]]

    @property
    def answer(self) -> str:
        """Which way of answering counts: the result's, else the fused heads, else the only one."""
        chosen = self.result.get("answer")
        if isinstance(chosen, str):
            return chosen
        heads = self.last_scores()
        return "fused" if "fused" in heads and self.config.get("loss") != "none" else "class"

    def last_scores(self) -> Mapping[str, Any]:
        """Scores of the last evaluation; empty before the first."""
        return next((line["val"] for line in reversed(self.epochs) if "val" in line), {})

    def test_scores(self) -> Mapping[str, Any]:
        """Scores of the test images, which a run without validation images ends with; empty otherwise."""
        selected = self.result.get("selected", "")
        return (self.result.get(selected) or {}) if selected.startswith("test") else {}

    def best(self) -> tuple[float, int] | None:
        """Best top-1 of the counting answer, and its epoch."""
        scores = [
            (line["val"][self.answer]["top1"], -line["epoch"])
            for line in self.epochs
            if self.answer in line.get("val", {})
        ]
        return (max(scores)[0], -max(scores)[1]) if scores else None

    def share(self, part: str) -> float | None:
        """Share of the time of a step spent in one of WAITS, over all recorded steps."""
        totals = [sum(line[name] for name in WAITS) for line in self.steps if part in line]
        return sum(line[part] for line in self.steps if part in line) / sum(totals) if sum(totals) else None

    def speed(self) -> float | None:
        """Median views per second."""
        rates = [line["views_per_second"] for line in self.steps if "views_per_second" in line]
        return statistics.median(rates) if rates else None

    def to_json(self) -> dict[str, Any]:
        """The numbers of the page, as JSON values."""
        best, scores, last = self.best(), self.last_scores(), dict(self.epochs[-1]) if self.epochs else {}
        return {
            "folder": self.name,
            "epochs": len(self.epochs),
            "steps": last.get("step", 0),
            "answer": self.answer,
            "best": None if best is None else {"top1": best[0], "epoch": best[1]},
            "last": {**{k: v for k, v in last.items() if k not in ("kind", "val", "val_ema")}, "val": scores},
            "views_per_second": self.speed(),
            "data_wait": self.share(WAITS[0]),
            "target_wait": self.share(WAITS[1]),
            "finished": bool(self.result),
            "test": dict(self.test_scores()),
        }


def read_run(folder: Path) -> Run:
    """Read a run folder; a line that is still being written is left out.

    Raises:
        Missing: no run there, or no epoch and no step of it yet.
    """
    path = folder / METRICS
    if not path.is_file():
        raise Missing(
            f"{folder} holds no training run: {METRICS} is not there\n"
            f"make one with: deit-pipe train-student --out {shlex.quote(str(folder))}"
        )
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    if not lines:
        raise Missing(f"{path} has no line yet\nwait for the end of the run's first epoch")
    return Run(
        str(folder),
        _read(folder / CONFIG),
        _read(folder / RESULT),
        [line for line in lines if line.get("kind") == "epoch"],
        [line for line in lines if line.get("kind") == "step"],
    )


def _read(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return data
