"""What `bench` found, as JSON values and for a person."""

import math
from typing import Any

from deit_pipe.pipeline.native.engine import chosen_engine
from deit_pipe.pipeline.recipe import preset_name
from deit_pipe.stages.console.words import human_bytes, human_duration
from deit_pipe.stages.machine.cost_model import NetworkCost, Pace, Share, ViewCost, limit_line
from deit_pipe.stages.machine.engine_words import worker_words
from deit_pipe.stages.measuring.forecast import Figures, Forecast
from deit_pipe.stages.measuring.subject import Subject


def facts_of(
    subject: Subject,
    share: Share,
    parts: dict[str, float],
    by_workers: dict[int, float],
    figures: Figures,
    found: Forecast,
    packed: Forecast,
) -> dict[str, Any]:
    """Everything that is said, as JSON values; rates are those of all processes together."""
    source, job, processes_ = subject.source, subject.job, share.processes
    words = worker_words(share.workers)

    return {
        "engine": chosen_engine().name,
        "workers": share.workers,
        "worker_words": words,
        "cores": share.cores,
        "processes": processes_,
        "device": str(subject.trainer.group.device),
        "data": subject.data.data,
        "images": len(source.table),
        "recipe": preset_name(source.recipe),
        "image_size": source.image_size,
        "view": {
            "parts": parts,
            "core_seconds": figures.view.core_seconds,
            "views_per_second": {str(count): rate * processes_ for count, rate in by_workers.items()},
            "raw_per_second": figures.raw.rate * processes_,
        },
        "teacher": {
            "model": subject.teacher.tag,
            "batch_size": subject.batch_size,
            **network_facts("teacher", figures.teacher, figures.teacher_fed, found.teacher, share, figures.raw),
        },
        "student": {
            "model": subject.trainer.facts.model,
            "preset": subject.preset,
            "batch_size": min(subject.schedule.batch_size, source.plan.num_slots),
            "precision": subject.trainer.precision,
            **network_facts("student", figures.student, figures.student_fed, found.student, share, figures.raw),
        },
        "target_read_seconds": figures.read,
        "target_write_seconds": figures.write,
        "targets": subject.targets.text,
        "stage_one": {
            "views": job.cached_views,
            "epochs": subject.cached_epochs,
            "seconds": found.stage_one,
            "raw_seconds": packed.stage_one,
        },
        "stage_two": {
            "views": job.trained_views,
            "epochs": subject.schedule.epochs,
            "seconds": found.stage_two,
            "raw_seconds": packed.stage_two,
        },
        "evaluation_seconds": found.evaluation,
        "checkpoint_seconds": found.checkpoints,
        "online_seconds": found.online,
        "break_even_students": found.students if math.isfinite(found.students) else None,
        "cores_for_student": found.cores if math.isfinite(found.cores) else None,
        "raw_bytes": subject.raw_bytes,
    }


def network_facts(name: str, cost: NetworkCost, fed: float, found: Pace, share: Share, raw: ViewCost) -> dict[str, Any]:
    """How fast a network is, by itself and fed, and who waits for whom."""
    words, all_of = worker_words(share.workers), share.processes
    return {
        "seconds": cost.seconds,
        "core_seconds": cost.core_seconds,
        "per_second": all_of / cost.seconds,
        "fed_per_second": all_of * fed,
        "limit": found.limit,
        "line": limit_line(found, name, words, share.cores * all_of, raw.rate * all_of),
    }


def bench_text(facts: dict[str, Any]) -> str:
    """The facts for a person."""
    view, teacher, student = facts["view"], facts["teacher"], facts["student"]
    one, two = facts["stage_one"], facts["stage_two"]
    parts = ", ".join(f"{name} {seconds * 1e3:.2f}" for name, seconds in view["parts"].items())
    by_workers = ", ".join(f"{count}: {rate:,.0f}/s" for count, rate in view["views_per_second"].items())
    reading = facts["target_read_seconds"] * student["batch_size"]
    online = human_duration(facts["online_seconds"])
    pays = facts["break_even_students"]
    if pays is None:
        paying = "a teacher in every step costs nothing more here"
    else:
        paying = f"the cache pays from {max(1, math.ceil(pays))} student{'s' if pays > 1 else ''} on ({pays:.2g})"
    alone = f"{facts['processes']} processes with " if facts["processes"] > 1 else ""
    return "\n".join(
        [
            f"{facts['data']}: {facts['images']:,} images, recipe {facts['recipe']}, {facts['image_size']} px; "
            f"{alone}{facts['cores']} cores, {facts['worker_words']}, engine {facts['engine']}, {facts['device']}",
            "",
            f"view     {view['core_seconds'] * 1e3:.2f} ms of a core: {parts}",
            f"         by workers {by_workers or 'none'}; from raw pixels {view['raw_per_second']:,.0f}/s",
            f"teacher  {teacher['model']}, batch {teacher['batch_size']}: {teacher['per_second']:,.0f}/s by itself, "
            f"{teacher['fed_per_second']:,.0f}/s fed",
            f"         {teacher['line']}",
            f"student  {student['model']}, preset {student['preset']}, batch {student['batch_size']}, "
            f"{student['precision']}: {student['per_second']:,.0f}/s on fixed pixels, "
            f"{student['fed_per_second']:,.0f}/s fed",
            f"         {student['line']}",
            f"         {cores_line(facts)}",
            f"targets  {facts['targets']}, read in {reading * 1e3:.2f} ms a step",
            "",
            f"stage one   {one['epochs']} epochs, {one['views']:,} views: {human_duration(one['seconds'])}",
            f"stage two   {two['epochs']} epochs, {two['views']:,} views: {human_duration(two['seconds'])}, "
            f"{human_duration(facts['evaluation_seconds'])} of it evaluation, "
            f"{human_duration(facts['checkpoint_seconds'])} checkpoints",
            f"online      {online} for a student with the teacher in every step: {paying}",
            f"pack --raw  {human_bytes(facts['raw_bytes'])}; stage one {human_duration(one['raw_seconds'])}, "
            f"stage two {human_duration(two['raw_seconds'])}",
        ]
    )


def cores_line(facts: dict[str, Any]) -> str:
    """Cores for a student that never waits."""
    cores, student = facts["cores_for_student"], facts["student"]
    if cores is None:
        return "no number of cores keeps it from waiting"
    each = " a process" if facts["processes"] > 1 else ""
    rate = student["per_second"]
    return f"needs {cores:.1f} cores{each} to take {rate:,.0f}/s and never wait; there are {facts['cores']}"
