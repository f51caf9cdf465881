"""Finished runs side by side: read from their folders, put into lines of equal settings, measured on equal images."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from deit_pipe.pipeline.sources.exclude_list import digest_of
from deit_pipe.stages.comparing.intervals import Difference, Spread, paired_difference, spread
from deit_pipe.stages.console.errors import Mismatch, Missing, UsageProblem
from deit_pipe.stages.console.facts import Facts, spelled
from deit_pipe.stages.networks.begun_command import begun_command
from deit_pipe.stages.networks.file_names import RESULT, RUN_CONFIG
from deit_pipe.stages.networks.sums import check_sums

HEADS = ("class", "dist", "fused")
# What of a run does not make it another line of the table: seeds, places, machines, how often it looked.
NOT_SETTINGS = {
    "seed",
    "out",
    "cache",
    "data",
    "cache_digest",
    "teacher_digests",
    "samples_digest",
    "command",
    "settings_rules",
    "device",
    "workers",
    "threads",
    "world",
    "log_steps",
    "eval_every",
    "checkpoint_steps",
    "tensorboard",
    "val_data",
    "data_choice",
    "teacher_weights",
}
OF_THE_TEACHER = ("teacher", "tau", "alpha", "kd_reduction", "cached_epochs")
# What people look for first; the other settings follow in the order of a run's config.
FIRST = ("loss", "student", "init-from", "images", "teacher", "cached-epochs", "tau", "alpha", "preset", "epochs")


class Measured(NamedTuple):
    """What accuracies were measured on: images by data, split and number; `weights`: model, or ema."""

    data: str
    split: str
    images: int
    weights: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self._asdict()


@dataclass(frozen=True)
class InferenceCost(Facts):
    """What a student costs to use.

    Attributes:
        parameters, gmacs: multiply-adds of one image, in units of 1e9.
        images_per_second: in batches, the median of short stretches, float32.
        memory: bytes of the device at most while it answered; None on a CPU.
    """

    parameters: int
    gmacs: float = spelled("GMACs")
    images_per_second: float = spelled("img/s")
    memory: int | None = spelled("memory")


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """One finished run.

    Attributes:
        folder: as given.
        seeds: of the student, and of the choice of images.
        settings: what makes it a line of its own; names as the options are spelled.
        top1: by head that was trained, 0..1.
        answer: the head that counts.
        measured: what the accuracies were measured on.
        held_out: whether these were drawn from the training images.
    """

    folder: str
    seeds: tuple[int, int]
    settings: Mapping[str, Any]
    top1: Mapping[str, float]
    answer: str
    measured: Measured
    held_out: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"folder": self.folder, "seed": self.seeds[0], "subset_seed": self.seeds[1], "top1": dict(self.top1)}


@dataclass(frozen=True)
class Line:
    """Runs that differ in their seeds only, how they do against the first line, what the first run's student costs."""

    runs: Sequence[ComparedRun]
    difference: Difference | None = None
    cost: InferenceCost | None = None

    @property
    def settings(self) -> Mapping[str, Any]:
        """What they were made with."""
        return self.runs[0].settings

    @property
    def answer(self) -> str:
        """The head that counts."""
        return self.runs[0].answer

    def top1(self, head: str) -> Spread | None:
        """Mean and spread of one head; None where it was not trained."""
        values = [run.top1[head] for run in self.runs if head in run.top1]
        return spread(values) if values else None

    def answers(self) -> dict[tuple[int, int], float]:
        """Accuracy of the head that counts, by seeds."""
        return {run.seeds: run.top1[run.answer] for run in self.runs}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        heads = {head: self.top1(head) for head in HEADS}
        return {
            "settings": dict(self.settings),
            "answer": self.answer,
            "heads": {head: found.to_json() for head, found in heads.items() if found is not None},
            "difference": None if self.difference is None else self.difference.to_json(),
            "runs": [run.to_json() for run in self.runs],
        } | ({} if self.cost is None else {"cost": self.cost.to_json()})


def read_compared(folder: Path) -> ComparedRun:
    """Read one run folder.

    Raises:
        Missing: no run, not finished, or never measured. Corrupt: a file is not what was written.
    """
    check_sums(folder, [name for name in (RUN_CONFIG, RESULT) if (folder / name).is_file()])
    config, result = _read(folder / RUN_CONFIG), _read(folder / RESULT)
    if config is None:
        raise Missing(
            f"{folder} holds no training run: {RUN_CONFIG} is not there",
            cure=f"make one with: deit-pipe train-student --out {shlex.quote(str(folder))}",
        )
    if result is None:
        raise Missing(
            f"{folder} is not finished: {RESULT} is not there", cure=f"go on with it: {begun_command(folder)}"
        )
    selected = result.get("selected") or ""
    scores = result.get(selected)
    if not scores:
        raise Missing(
            f"{folder} was measured on no images",
            cure=f"measure it with: deit-pipe evaluate {shlex.quote(str(folder))}",
        )
    choice: Mapping[str, Any] = config.get("data_choice") or {}
    settings = {key: value for key, value in config.items() if key not in NOT_SETTINGS}
    settings |= {"images": images_words(choice), "steps": result.get("steps")}
    if settings.get("loss") == "none":  # nothing of a teacher is in it, however many answers lie beside its views
        settings |= dict.fromkeys(OF_THE_TEACHER)
    trained = HEADS if settings.get("loss") != "none" else ("class",)
    return ComparedRun(
        folder=str(folder),
        seeds=(int(config.get("seed", 0)), int(choice.get("subset_seed", 0))),
        settings={key.replace("_", "-"): value for key, value in settings.items()},
        top1={head: scores[head]["top1"] for head in trained if head in scores},
        answer=result["answer"],
        measured=Measured(
            validated_on(config, choice),
            selected.removesuffix("_ema"),
            int(result.get("images", 0)),
            "ema" if selected.endswith("_ema") else "model",
        ),
        held_out=bool(choice.get("val_fraction")) and not config.get("val_data") and selected.startswith("val"),
    )


def compare(folders: Sequence[str]) -> list[Line]:
    """Read runs and put them into lines, in the order in which their settings first come; differences to the first.

    Raises:
        UsageProblem: a folder twice, or no run at all. Missing: see `read_compared`.
        Mismatch: they were not measured on the same images, or two runs are one and the same by their settings.
    """
    paths = [Path(folder) for folder in folders]
    if not paths:
        raise UsageProblem("no run to compare", expected="folders of train-student", cure="give for example runs/*")
    runs = [read_compared(path) for path in paths]
    first = runs[0]
    for run in runs[1:]:
        if run.measured != first.measured:
            raise Mismatch(
                "these runs were not measured on the same images",
                details=[f"{first.folder}: {measured_words(first)}", f"{run.folder}: {measured_words(run)}"],
                cure="compare them in groups, or measure both with deit-pipe evaluate --data",
            )
    lines: dict[str, list[ComparedRun]] = {}
    for run in runs:
        same = lines.setdefault(json.dumps(run.settings, sort_keys=True), [])
        for other in same:
            if other.seeds == run.seeds:
                raise Mismatch(
                    f"{other.folder} and {run.folder} have the same settings and the same seed {run.seeds[0]}",
                    cure="a run counts once: leave one of them out",
                )
        same.append(run)
    check_held_out(list(lines.values()))
    base = Line(next(iter(lines.values()))).answers()
    return [
        Line(runs, paired_difference(Line(runs).answers(), base) if place else None)
        for place, runs in enumerate(lines.values())
    ]


def validated_on(config: Mapping[str, Any], choice: Mapping[str, Any]) -> str:
    """The data whose images a run was measured on, with what of its choice decides which of them these are."""
    if other := config.get("val_data") or choice.get("val_data"):
        return str(other)
    found = str(config.get("data"))
    if name := choice.get("val_split"):
        found += f" ({name})"
    if part := choice.get("val_fraction"):
        found += f", {part * 100:.3g}% held out"
    return found


def check_held_out(lines: Sequence[Sequence[ComparedRun]]) -> None:
    """Refuse lines that were measured on other draws of held-out images: these are drawn by the seed of the subset.

    Raises:
        Mismatch: says which.
    """
    drawn = [sorted({run.seeds[1] for run in runs}) for runs in lines]
    for runs, seeds in zip(lines, drawn, strict=True):
        if runs[0].held_out and seeds != drawn[0]:
            raise Mismatch(
                "these runs were not measured on the same images: other images were held out for other subset seeds",
                details=[f"{lines[0][0].folder} and its like: {drawn[0]}", f"{runs[0].folder} and its like: {seeds}"],
                cure="compare runs of the same --subset-seed, or give all of them the same --val-data",
            )


def differing(lines: Sequence[Line]) -> list[str]:
    """Names of the settings that tell the lines apart; one that follows from those before it says nothing new."""
    names = dict.fromkeys([*FIRST, *(name for line in lines for name in line.settings)])
    values = {name: [json.dumps(line.settings.get(name)) for line in lines] for name in names}
    chosen: list[str] = []
    for name in names:
        before = [tuple(values[other][i] for other in chosen) for i in range(len(lines))]
        if len(set(zip(before, values[name], strict=True))) > len(set(before)):
            chosen.append(name)
    return chosen


def images_words(choice: Mapping[str, Any]) -> str:
    """Which part of the images a run saw, and of their labels: `all`, `3.5% used`, `2 excluded (a1b2)`."""
    parts = [(choice.get("fraction", 1.0), "used"), (choice.get("labelled_fraction", 1.0), "labelled")]
    said = [f"{part * 100:.3g}% {word}" for part, word in parts if part < 1]
    if gone := choice.get("excluded"):
        said.append(f"{len(gone):,} excluded ({digest_of(gone)[:4]})")
    return ", ".join(said) or "all"


def measured_words(run: ComparedRun) -> str:
    """`360 val images of digits`."""
    data, split, count, weights = run.measured
    return f"{count:,} {split} images of {data}" + (" with averaged weights" if weights == "ema" else "")


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Missing(f"{path} is not JSON: {error}", cure="run it again, or leave it out") from error
    return data if isinstance(data, dict) else None
