"""What `bench` found, as JSON values and for a person."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deit_pipe.pipeline.native.engine import chosen_engine
from deit_pipe.pipeline.recipe import preset_name
from deit_pipe.stages.console.facts import Facts, if_there
from deit_pipe.stages.console.words import human_bytes, human_duration
from deit_pipe.stages.machine.cost_model import NetworkCost, Pace, Share, limit_line
from deit_pipe.stages.machine.engine_words import worker_words
from deit_pipe.stages.measuring.forecast import Figures, Forecast
from deit_pipe.stages.measuring.subject import Subject


@dataclass(frozen=True, kw_only=True)
class ViewCosts(Facts):
    """A view: seconds of a core by part and together; views a second by workers, and from raw pixels."""

    parts: Mapping[str, float]
    core_seconds: float
    views_per_second: Mapping[str, float]
    raw_per_second: float


@dataclass(frozen=True, kw_only=True)
class NetworkFacts(Facts):
    """A network.

    Attributes:
        model, preset, batch_size, precision: which; preset and precision of the student only.
        seconds, core_seconds: of a view, by itself.
        per_second, fed_per_second: views, by itself and fed by the loader.
        limit, line: who waits for whom, as a word and in words.
    """

    model: str
    preset: str | None = if_there()
    batch_size: int
    precision: str | None = if_there()
    seconds: float
    core_seconds: float
    per_second: float
    fed_per_second: float
    limit: str
    line: str


@dataclass(frozen=True)
class StageFacts(Facts):
    """A stage: its views, its epochs, the seconds it takes, and those it takes from packed raw pixels."""

    views: int
    epochs: int
    seconds: float
    raw_seconds: float


@dataclass(frozen=True, kw_only=True)
class BenchFacts(Facts):
    """What a machine can do for both stages; rates are those of all processes together, times seconds.

    Attributes:
        engine, workers, worker_words, cores, processes, device: what was measured with.
        data, images, recipe, image_size: what was measured on.
        view, teacher, student: by themselves and fed.
        target_read_seconds, target_write_seconds, targets: of a view; their format.
        stage_one, stage_two, online_seconds: what they take; with a teacher in every step.
        evaluation_seconds, checkpoint_seconds: of stage two.
        break_even_students: from how many the cache pays; None: never.
        cores_for_student: for one that never waits; None: any number is too few.
        raw_bytes: of packed raw pixels.
    """

    engine: str
    workers: int
    worker_words: str
    cores: float
    processes: int
    device: str
    data: str
    images: int
    recipe: str
    image_size: int
    view: ViewCosts
    teacher: NetworkFacts
    student: NetworkFacts
    target_read_seconds: float
    target_write_seconds: float
    targets: str
    stage_one: StageFacts
    stage_two: StageFacts
    evaluation_seconds: float
    checkpoint_seconds: float
    online_seconds: float
    break_even_students: float | None
    cores_for_student: float | None
    raw_bytes: int


def facts_of(
    subject: Subject,
    share: Share,
    parts: dict[str, float],
    by_workers: dict[int, float],
    figures: Figures,
    found: Forecast,
    packed: Forecast,
) -> BenchFacts:
    """Everything that is said; rates are those of all processes together."""
    source, job, all_of = subject.source, subject.job, share.processes
    words = worker_words(share.workers)

    def network(name: str, cost: NetworkCost, fed: float, limits: Pace) -> dict[str, Any]:
        return {
            "seconds": cost.seconds,
            "core_seconds": cost.core_seconds,
            "per_second": all_of / cost.seconds,
            "fed_per_second": all_of * fed,
            "limit": limits.limit,
            "line": limit_line(limits, name, words, share.cores * all_of, figures.raw.rate * all_of),
        }

    return BenchFacts(
        engine=chosen_engine().name,
        workers=share.workers,
        worker_words=words,
        cores=share.cores,
        processes=all_of,
        device=str(subject.trainer.group.device),
        data=subject.data.data,
        images=len(source.table),
        recipe=preset_name(source.recipe),
        image_size=source.image_size,
        view=ViewCosts(
            parts=parts,
            core_seconds=figures.view.core_seconds,
            views_per_second={str(count): rate * all_of for count, rate in by_workers.items()},
            raw_per_second=figures.raw.rate * all_of,
        ),
        teacher=NetworkFacts(
            model=subject.teacher.tag,
            batch_size=subject.batch_size,
            **network("teacher", figures.teacher, figures.teacher_fed, found.teacher),
        ),
        student=NetworkFacts(
            model=subject.trainer.facts.model,
            preset=subject.preset,
            batch_size=min(subject.schedule.batch_size, source.plan.num_slots),
            precision=subject.trainer.precision,
            **network("student", figures.student, figures.student_fed, found.student),
        ),
        target_read_seconds=figures.read,
        target_write_seconds=figures.write,
        targets=subject.targets.text,
        stage_one=StageFacts(job.cached_views, subject.cached_epochs, found.stage_one, packed.stage_one),
        stage_two=StageFacts(job.trained_views, subject.schedule.epochs, found.stage_two, packed.stage_two),
        evaluation_seconds=found.evaluation,
        checkpoint_seconds=found.checkpoints,
        online_seconds=found.online,
        break_even_students=found.students if math.isfinite(found.students) else None,
        cores_for_student=found.cores if math.isfinite(found.cores) else None,
        raw_bytes=subject.raw_bytes,
    )


def bench_text(facts: BenchFacts) -> str:
    """The facts for a person."""
    view, teacher, student = facts.view, facts.teacher, facts.student
    one, two = facts.stage_one, facts.stage_two
    parts = ", ".join(f"{name} {seconds * 1e3:.2f}" for name, seconds in view.parts.items())
    by_workers = ", ".join(f"{count}: {rate:,.0f}/s" for count, rate in view.views_per_second.items())
    reading = facts.target_read_seconds * student.batch_size
    online = human_duration(facts.online_seconds)
    pays = facts.break_even_students
    if pays is None:
        paying = "a teacher in every step costs nothing more here"
    else:
        paying = f"the cache pays from {max(1, math.ceil(pays))} student{'s' if pays > 1 else ''} on ({pays:.2g})"
    alone = f"{facts.processes} processes with " if facts.processes > 1 else ""
    return "\n".join(
        [
            f"{facts.data}: {facts.images:,} images, recipe {facts.recipe}, {facts.image_size} px; "
            f"{alone}{facts.cores} cores, {facts.worker_words}, engine {facts.engine}, {facts.device}",
            "",
            f"view     {view.core_seconds * 1e3:.2f} ms of a core: {parts}",
            f"         by workers {by_workers or 'none'}; from raw pixels {view.raw_per_second:,.0f}/s",
            f"teacher  {teacher.model}, batch {teacher.batch_size}: {teacher.per_second:,.0f}/s by itself, "
            f"{teacher.fed_per_second:,.0f}/s fed",
            f"         {teacher.line}",
            f"student  {student.model}, preset {student.preset}, batch {student.batch_size}, "
            f"{student.precision}: {student.per_second:,.0f}/s on fixed pixels, "
            f"{student.fed_per_second:,.0f}/s fed",
            f"         {student.line}",
            f"         {cores_line(facts)}",
            f"targets  {facts.targets}, read in {reading * 1e3:.2f} ms a step",
            "",
            f"stage one   {one.epochs} epochs, {one.views:,} views: {human_duration(one.seconds)}",
            f"stage two   {two.epochs} epochs, {two.views:,} views: {human_duration(two.seconds)}, "
            f"{human_duration(facts.evaluation_seconds)} of it evaluation, "
            f"{human_duration(facts.checkpoint_seconds)} checkpoints",
            f"online      {online} for a student with the teacher in every step: {paying}",
            f"pack --raw  {human_bytes(facts.raw_bytes)}; stage one {human_duration(one.raw_seconds)}, "
            f"stage two {human_duration(two.raw_seconds)}",
        ]
    )


def cores_line(facts: BenchFacts) -> str:
    """Cores for a student that never waits."""
    cores, student = facts.cores_for_student, facts.student
    if cores is None:
        return "no number of cores keeps it from waiting"
    each = " a process" if facts.processes > 1 else ""
    rate = student.per_second
    return f"needs {cores:.1f} cores{each} to take {rate:,.0f}/s and never wait; there are {facts.cores}"
