"""`deit-pipe quickstart`: the whole job on the embedded digits, as anyone would type it, with several seeds."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deit_pipe.stages import cache_teacher, inspect_cache, train_student, train_teacher
from deit_pipe.stages.console.command_lines import command_line
from deit_pipe.stages.console.facts import Facts, plain
from deit_pipe.stages.console.progress import note
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.machine.distributed import choose_device
from deit_pipe.stages.networks.weights import read_teacher_run
from deit_pipe.stages.opened.cache import open_cache
from deit_pipe.stages.opened.images import pick_split
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
from deit_pipe.stages.options.quickstart import QuickstartOptions
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.options.train_teacher import TrainTeacherOptions
from deit_pipe.stages.pages.predictions import draw_predictions

TEACHER = "resnet10t"
TEACHER_EPOCHS, CACHED_EPOCHS = 8, 12
LOSSES = ("none", "hard", "soft")
HEADS = (("class", "class head"), ("dist", "distillation head"), ("fused", "both fused"))

Scores = Mapping[str, Mapping[str, float]]
"""Of each head, as train-student's JSON has them."""


@dataclass(frozen=True)
class StudentRow(Facts):
    """A row of the table: a loss and a head, over the seeds; `top1_spread` is half the range from worst to best."""

    loss: str
    head: str
    top1_mean: float
    top1_spread: float
    seeds: int


def run(options: QuickstartOptions) -> CommandResult:
    """Teacher, cache, students, table, picture. What an interrupted run finished is kept."""
    out = Path(options.out)
    teacher_run, cache = out / "teacher-run", out / "teacher-cache"
    facts = read_teacher_run(teacher_run)
    if facts is None:
        note(f"1/4 a small CNN teacher ({TEACHER}), from scratch")
        train_teacher.run(
            TrainTeacherOptions(
                teacher=TEACHER,
                init="scratch",
                epochs=TEACHER_EPOCHS,
                out=str(teacher_run),
                device=options.device,
            )
        )
        facts = read_teacher_run(teacher_run)
    assert facts is not None
    note(f"2/4 its answers to {CACHED_EPOCHS} epochs of seeded views")
    cache_teacher.run(
        CacheTeacherOptions(
            teacher=TEACHER,
            teacher_weights=str(teacher_run),
            cache=str(cache),
            epochs=CACHED_EPOCHS,
            device=options.device,
        )
    )
    scores: dict[str, list[Scores]] = {loss: [] for loss in LOSSES}
    for place, (loss, seed) in enumerate((loss, seed) for loss in LOSSES for seed in range(options.seeds)):
        note(f"3/4 student {place + 1} of {len(LOSSES) * options.seeds}: loss {loss}, seed {seed}")
        result = train_student.run(
            TrainStudentOptions(
                cache=str(cache),
                out=str(out / f"student-{loss}-{seed}"),
                loss=loss,
                seed=seed,
                epochs=options.epochs,
                eval_every=options.epochs,
                device=options.device,
                # at the paper's share of 0.1 the distillation head of so short a run stays behind
                alpha=0.5 if loss == "soft" else None,
            )
        )
        scores[loss].append(result.data["val"])
    note("4/4 the cache, and a picture")
    inspected = inspect_cache.run(InspectCacheOptions(cache=str(cache)))
    picture = out / "predictions.png"
    _, table = pick_split(open_cache(str(cache)).open_images(), None)
    draw_predictions(out / "student-hard-0", teacher_run, table, picture, choose_device(options.device))
    rows = [
        StudentRow(loss, head, *spread(scores[loss], head), options.seeds)
        for loss in LOSSES
        for head, _ in shown_heads(loss)
    ]
    data = {
        "teacher": {"model": facts.model, "val_top1": facts.val_top1},
        "students": plain(rows),
        "cache": inspected.data,
        "out": str(out),
        "predictions": str(picture),
    }
    return CommandResult(table_text(facts.val_top1 or 0.0, rows, options, picture), data)


def shown_heads(loss: str) -> tuple[tuple[str, str], ...]:
    """Without distillation the second head is not trained, so neither it nor a mean with it is shown."""
    return HEADS[:1] if loss == "none" else HEADS


def spread(scores: Sequence[Scores], head: str) -> tuple[float, float]:
    """Mean top-1 over the seeds, and half the range from worst to best."""
    values = [one[head]["top1"] for one in scores]
    return statistics.fmean(values), (max(values) - min(values)) / 2


def table_text(teacher: float, rows: Sequence[StudentRow], options: QuickstartOptions, picture: Path) -> str:
    """The result for a person."""
    names = dict(HEADS)
    lines = [
        f"top-1 on the 360 validation digits; students: mean and half range over {options.seeds} seeds",
        "",
        f"  {'teacher':<10}{TEACHER:<20}{teacher:7.2%}",
    ]
    lines += [f"  {one.loss:<10}{names[one.head]:<20}{one.top1_mean:7.2%} +- {one.top1_spread:.2%}" for one in rows]
    lines += [
        "",
        "The teacher agrees with the labels of nearly all these easy digits, so distillation has nothing to add",
        "here: the rows should be equal within their spread.",
        "",
        f"everything is in {options.out}: teacher-run, teacher-cache, student-LOSS-SEED, {picture.name}",
        f"next: {command_line('inspect-cache', InspectCacheOptions, cache=f'{options.out}/teacher-cache')}",
    ]
    return "\n".join(lines)
