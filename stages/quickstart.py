"""`deit-pipe quickstart`: few labels, many images, as anyone would type it: what a cached teacher is good for."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from deit_pipe.stages import inspect_cache
from deit_pipe.stages.comparing.compared_runs import ComparedRun, read_compared
from deit_pipe.stages.comparing.intervals import Difference, Spread, paired_difference, spread
from deit_pipe.stages.comparing.tables import difference_words, spread_words
from deit_pipe.stages.console.command_lines import command_line
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.console.progress import note, progress
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.machine.distributed import choose_device
from deit_pipe.stages.machine.jobs import Job, job_runner
from deit_pipe.stages.networks.weights import TeacherRun, read_teacher_run
from deit_pipe.stages.opened.cache import open_cache
from deit_pipe.stages.opened.images import pick_split
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.compare import CompareOptions
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
from deit_pipe.stages.options.quickstart import QuickstartOptions
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.options.train_teacher import TrainTeacherOptions
from deit_pipe.stages.pages.predictions import draw_predictions

TEACHER = "resnet10t"
IMAGES, LABELS, PART = 1437, 50, 0.0348  # of the digits: training images, of which so many keep their label
TEACHER_EPOCHS = 60
BATCH = 50  # the labelled images: one step an epoch
ALPHA = 0.9  # the labels are few and the teacher's answers are many: not the paper's 0.1, for which all have labels
CACHED_VIEWS = 6 * IMAGES  # of either cache
HEADS = ("class", "dist", "fused")


class Row(NamedTuple):
    """A kind of student: the cache it learns from, its loss, and what it is called."""

    name: str
    cache: str
    loss: str
    words: str


ROWS = (
    Row("alone", "labelled", "none", f"the {LABELS} labels alone"),
    Row("same", "labelled", "soft", f"distilled, the same {LABELS} images"),
    Row("all", "all", "soft", f"distilled, all {IMAGES:,} images"),
    Row("ceiling", "true", "none", f"all {IMAGES:,} labels (ceiling)"),
)


@dataclass(frozen=True)
class GuidingTeacher(Facts):
    """The teacher's model, and its accuracy over the seeds."""

    model: str
    top1: Spread


@dataclass(frozen=True)
class HeadOfRow(Facts):
    """A head of one kind of student, over the seeds: mean, standard deviation, number of runs; 0..1."""

    row: str
    loss: str
    head: str
    mean: float
    sd: float | None
    runs: int


@dataclass(frozen=True)
class QuickstartFacts(Facts):
    """The whole job.

    Attributes:
        teacher, steps, labels: of every student.
        students: all heads of all rows of the table.
        gain, gain_same_images: of distilling with all images, and with the labelled ones, over the labels alone.
        cache: the first seed's, with all images.
        out, predictions, report: the folder, the picture, the cache's page.
    """

    teacher: GuidingTeacher
    steps: int
    labels: int
    students: Sequence[HeadOfRow]
    gain: Difference
    gain_same_images: Difference
    cache: inspect_cache.InspectedCache
    out: str
    predictions: str
    report: str


def run(options: QuickstartOptions) -> CommandResult[QuickstartFacts]:
    """For every seed a teacher, its answers, four students; then table, picture, page. What is finished is kept."""
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    seeds = range(options.seed, options.seed + options.seeds)
    with job_runner(processes_for(options.device), out / "log.txt") as run_jobs:
        stages = (
            ("teachers", [teacher_job(options, out, seed) for seed in seeds]),
            ("caches", [job for seed in seeds for job in cache_jobs(options, out, seed)]),
            ("students", [student_job(options, out, seed, row) for seed in seeds for row in ROWS]),
        )
        for unit, jobs in stages:
            with progress("quickstart", len(jobs), unit) as shown:
                for job in run_jobs(jobs):
                    shown.advance(1, job.words)
    teachers = [facts for seed in seeds if (facts := read_teacher_run(out / f"teacher-{seed}")) is not None]
    runs = {row.name: [read_compared(out / f"student-{row.name}-{seed}") for seed in seeds] for row in ROWS}
    note("the cache's page, and a picture")
    cache = out / f"cache-all-{options.seed}"
    page, picture = out / "cache.html", out / "predictions.png"
    inspected = inspect_cache.run(InspectCacheOptions(cache=str(cache), report=str(page))).facts
    _, table = pick_split(open_cache(str(cache)).open_images(), None)
    first = out / f"teacher-{options.seed}"
    draw_predictions(out / f"student-all-{options.seed}", first, table, picture, choose_device(options.device))
    assert isinstance(inspected, inspect_cache.InspectedCache)
    done = QuickstartFacts(
        teacher=GuidingTeacher(TEACHER, spread([one.val_top1 or 0.0 for one in teachers])),
        steps=steps_of(options.epochs),
        labels=LABELS,
        students=[
            HeadOfRow(row.name, row.loss, head, *found)
            for row in ROWS
            for head in HEADS
            if (found := top1(runs[row.name], head)) is not None
        ],
        gain=gain_over(runs["all"], runs["alone"]),
        gain_same_images=gain_over(runs["same"], runs["alone"]),
        cache=inspected,
        out=str(out),
        predictions=str(picture),
        report=str(page),
    )
    return CommandResult(table_text(options, teachers, runs) + made_text(options, page, picture), done)


def steps_of(epochs: int) -> int:
    """Optimiser steps of every student: those of so many epochs of all images."""
    return epochs * (IMAGES // BATCH)


def processes_for(device: str) -> int:
    """Commands at once: these networks are too small for more than a core each; a GPU serves one after the other."""
    return min(os.cpu_count() or 1, 4) if choose_device(device).type == "cpu" else 1


def teacher_job(options: QuickstartOptions, out: Path, seed: int) -> Job:
    """A small CNN, trained on the labelled digits only."""
    chosen = TrainTeacherOptions(
        teacher=TEACHER,
        init="scratch",
        labelled_fraction=PART,
        subset_seed=seed,
        seed=seed,
        epochs=TEACHER_EPOCHS,
        out=str(out / f"teacher-{seed}"),
        device=options.device,
    )
    return Job("train_teacher", chosen, f"{LABELS} labels chosen by seed {seed}")


def cache_jobs(options: QuickstartOptions, out: Path, seed: int) -> Iterator[Job]:
    """The teacher's answers to as many views of either part; and a plan of all labels, without any teacher's answer."""
    parts: dict[str, dict[str, Any]] = {
        "labelled": {"fraction": PART, "subset_seed": seed, "epochs": CACHED_VIEWS // LABELS},
        "all": {"labelled_fraction": PART, "subset_seed": seed, "epochs": CACHED_VIEWS // IMAGES},
        "true": {"plan_only": True, "epochs": CACHED_VIEWS // IMAGES},
    }
    for name, chosen in parts.items():
        made = CacheTeacherOptions(
            teacher=TEACHER,
            teacher_weights=str(out / f"teacher-{seed}"),
            cache=str(out / f"cache-{name}-{seed}"),
            seed=seed,
            device=options.device,
            **chosen,
        )
        yield Job("cache_teacher", made, f"{name}, seed {seed}")


def student_job(options: QuickstartOptions, out: Path, seed: int, row: Row) -> Job:
    """One student; the same number of steps in every row."""
    a_epoch = (LABELS if row.cache == "labelled" else IMAGES) // BATCH
    epochs, rest = divmod(steps_of(options.epochs), a_epoch)
    assert rest == 0
    chosen = TrainStudentOptions(
        cache=str(out / f"cache-{row.cache}-{seed}"),
        out=str(out / f"student-{row.name}-{seed}"),
        loss=row.loss,
        alpha=ALPHA if row.loss == "soft" else None,
        seed=seed,
        epochs=epochs,
        batch_size=BATCH,
        eval_every=epochs,
        device=options.device,
    )
    return Job("train_student", chosen, f"{row.words}, seed {seed}")


def top1(runs: Sequence[ComparedRun], head: str) -> Spread | None:
    """Mean and spread of a head over the seeds; None where it was not trained."""
    values = [run.top1[head] for run in runs if head in run.top1]
    return spread(values) if values else None


def gain_over(runs: Sequence[ComparedRun], others: Sequence[ComparedRun]) -> Difference:
    """What the heads that count gain, paired by seed."""
    found = paired_difference(*({run.seeds[0]: run.top1[run.answer] for run in part} for part in (runs, others)))
    assert found is not None
    return found


def table_text(
    options: QuickstartOptions, teachers: Sequence[TeacherRun], runs: Mapping[str, Sequence[ComparedRun]]
) -> str:
    """The result for a person; its last sentence is made from these numbers."""
    seeds = f"{options.seeds} seeds" if options.seeds > 1 else "one seed"
    known = spread([facts.val_top1 or 0.0 for facts in teachers])
    lines = [
        f"top-1 on the 360 validation digits; mean +- standard deviation over {seeds} (choice of labels, weights);",
        f"every student makes {steps_of(options.epochs):,} steps of {BATCH} views",
        "",
        f"  {'':<34}{'class head':<18}{'distillation':<18}both fused",
        f"  {f'teacher {TEACHER}, the {LABELS} labels':<34}{spread_words(known)}",
    ]
    for row in ROWS:
        cells = "".join(f"{spread_words(top1(runs[row.name], head)):<18}" for head in HEADS)
        lines.append(f"  {row.words:<34}{cells}".rstrip())
    return "\n".join([*lines, "", *conclusion(known, runs)])


def conclusion(teacher: Spread, runs: Mapping[str, Sequence[ComparedRun]]) -> list[str]:
    """What these numbers say, and no more."""
    gain, same = gain_over(runs["all"], runs["alone"]), gain_over(runs["same"], runs["alone"])
    student = spread([run.top1[run.answer] for run in runs["all"]])
    if gain.low is None:
        sure = "one pair of runs, so no interval"
    elif gain.low > 0:
        sure = "above zero beyond the luck of the seeds"
    else:
        sure = "not beyond the luck of the seeds"
    return [
        f"Against the {LABELS} labels alone, the teacher's answers to all images, {IMAGES - LABELS:,} without a label, "
        "change",
        f"the student by {difference_words(gain)} points ({sure});",
        f"its answers to the same {LABELS} images by {difference_words(same)}.",
        f"Teacher {teacher.mean:.1%}, student {student.mean:.1%}; the teacher saw every view once, for all students.",
    ]


def made_text(options: QuickstartOptions, page: Path, picture: Path) -> str:
    """Where everything is, and what to look at."""
    folders = tuple(f"{options.out}/student-{row.name}-{options.seed}" for row in ROWS)
    return (
        f"\n\neverything is in {options.out}: teacher-SEED, cache-all-SEED, student-ROW-SEED\n"
        f"page     {page}\npicture  {picture}\n"
        f"next: {command_line('compare', CompareOptions, runs=folders)}"
    )
