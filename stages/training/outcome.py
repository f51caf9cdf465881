"""What a finished run achieved, judged: against guessing, against its teacher, head against head. No torch."""

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.facts import Facts

SPLITS = ("val", "test")
ONE_SIDED_95 = 1.6448536269514722  # the normal quantile
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


def outcome(result: dict[str, Any], table: SampleTable | None) -> dict[str, Any]:
    """What is added to a run's result, whose scores of `table` are under `result[result["selected"]]`.

    Returns:
        `split`: val or test, whose images the result was measured on, None where there are none; `images`: how many of
        them have a label; `chance`: 1/C; `commonest`: share of the most frequent class; `near_chance`: whether the
        result cannot be told from guessing (the better of both) at 95 %, one-sided; `better_head`: class or dist, None
        where there is one head, only one was trained, or both are equal.
    """
    scores = result.get(result["selected"])
    if table is None or not scores:
        return {
            "split": None,
            "images": 0,
            "chance": None,
            "commonest": None,
            "near_chance": None,
            "better_head": None,
        }
    counts = np.bincount(table.labels[table.labels >= 0], minlength=len(table.class_names))
    images, chance = int(counts.sum()), 1 / len(table.class_names)
    commonest = float(counts.max() / images)
    top1 = scores[result["answer"]]["top1"]
    better = None
    if "dist" in scores and result["answer"] == "fused" and scores["dist"]["top1"] != scores["class"]["top1"]:
        better = "dist" if scores["dist"]["top1"] > scores["class"]["top1"] else "class"
    return {
        "split": result["selected"].removesuffix("_ema"),
        "images": images,
        "chance": chance,
        "commonest": commonest,
        "near_chance": lower_bound(top1, images) <= max(chance, commonest),
        "better_head": better,
    }


def lower_bound(share: float, count: int) -> float:
    """The 95 % lower bound (one-sided, Wilson's) of a share that was measured on `count` images."""
    z = ONE_SIDED_95
    middle = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, (middle - spread) / (1 + z * z / count))


def result_text(result: dict[str, Any]) -> str:
    """The end of a run, for a person; also of a run that an older version finished."""
    lines = [f"student in {result['out']}, {result['epochs']} epochs, loss {result['loss']}"]
    selected = result.get("selected", "val")
    scores = result.get(selected) or {}
    for name, values in scores.items():
        top5 = "" if values.get("top5") is None else f"   top-5 {values['top5']:7.2%}"
        mark = "  <- result" if name == result["answer"] else ""
        lines.append(f"  {name:<14} top-1 {values['top1']:7.2%}{top5}{mark}")
    if not scores:
        lines.append("  not evaluated: the data has no validation images (--val-data)")
    elif result.get("split"):
        lines += judgement(result, scores)
    if result.get("by_crop_ratio"):
        lines += crop_ratio_lines(result["by_crop_ratio"], result["answer"])
    best = result.get("best")
    if best and scores and best["top1"] > scores[result["answer"]]["top1"]:
        lines.append(f"  best {best['top1']:.2%} after epoch {best['epoch'] + 1}: evaluate, export with --weights best")
    if result.get("split") == "test":
        lines.append("  no validation images, so nothing was selected: these are the last epoch's weights")
    lines.append(f"next: deit-pipe evaluate {shlex.quote(str(result['out']))}")
    return "\n".join(lines)


def crop_ratio_lines(by_ratio: dict[str, Any], answer: str) -> list[str]:
    """The counting answer at each crop ratio."""
    whose = {"0.875": "the official code's", "1": "timm's"}
    return [f"  at crop ratio {r} ({whose[r]}) {answer} top-1 {by_ratio[r][answer]['top1']:.2%}" for r in by_ratio]


def names_of(head: str) -> str:
    """A head in words."""
    return {"dist": "distillation head", "class": "class head"}[head]


def judgement(result: dict[str, Any], scores: dict[str, Any]) -> list[str]:
    """What the scores mean."""
    facts = [f"{result['images']:,} {result['split']} images", f"chance {result['chance']:.2%}"]
    if result["commonest"] > 1.5 * result["chance"]:
        facts.append(f"always the commonest class {result['commonest']:.2%}")
    if result.get("teacher_top1") is not None:
        where = result.get("teacher_split", result["split"])
        of = "" if where == result["split"] else f" of the {where} images"
        facts.append(f"teacher {result['teacher_top1']:.2%}{of}")
    lines = ["  " + ", ".join(facts)]
    if result["better_head"]:
        better, other = ("dist", "class") if result["better_head"] == "dist" else ("class", "dist")
        lines.append(
            f"  the {names_of(better)} is better than the {names_of(other)} "
            f"({scores[better]['top1']:.2%} against {scores[other]['top1']:.2%})"
        )
    if result["near_chance"]:
        guess = max(result["chance"], result["commonest"])
        told = [
            n for n in ("class", "dist") if n in scores and lower_bound(scores[n]["top1"], result["images"]) > guess
        ]
        what = f"; its {names_of(told[0])} can" if told else ": the student has learned nothing that shows"
        lines.append(
            f"WARNING: {scores[result['answer']]['top1']:.2%} of {result['images']:,} images cannot be told from "
            f"guessing ({guess:.2%}){what}\n"
            "  train longer (--epochs), try another --lr, measure on more images, look at labels and teacher with "
            "deit-pipe inspect-cache"
        )
    return lines
