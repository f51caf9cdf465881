"""What a `cache-teacher` run would cost: views, time, bytes, free disk; measured on a few batches, nothing written."""

import time

import torch

from deit_pipe.pipeline.compose import compose
from deit_pipe.pipeline.loader import load_views
from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.console.words import human_bytes, human_duration
from deit_pipe.stages.networks.teacher import Teacher
from deit_pipe.store.layout import blocks_per_epoch
from deit_pipe.store.manifest import TeacherIdentity
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.preflight import preflight

MEASURED_BATCHES = 4


def estimate(
    cache: str,
    table: SampleTable,
    recipe: Recipe,
    plan: ViewPlan,
    teacher: Teacher,
    identity: TeacherIdentity,
    epochs: int,
    workers: int,
) -> CommandResult:
    """Measure the teacher and the views apart; the slower of the two sets the time, since they overlap."""
    cells = list(plan.batches(0, identity.batch_size, drop_last=False))[:MEASURED_BATCHES]
    batches, started = [], time.perf_counter()
    for batch in load_views(table, recipe, plan, cells, image_size=identity.image_size, workers=0):
        batches.append(batch)
    measured = sum(len(batch) for batch in batches)
    # the workers are not started for a few batches: one core's rate times their number
    view_rate = measured / (time.perf_counter() - started) * max(1, workers)
    teacher.padded(compose(batches[0].to(teacher.device), recipe), identity.batch_size)  # warm-up
    _wait(teacher.device)
    started = time.perf_counter()
    for batch in batches:
        teacher.padded(compose(batch.to(teacher.device), recipe), identity.batch_size)
    _wait(teacher.device)
    teacher_rate = measured / (time.perf_counter() - started)
    views = len(table) * epochs
    seconds = views / min(view_rate, teacher_rate)
    blocks = blocks_per_epoch(len(table), identity.block_slots) * epochs
    disk = preflight(open_location(cache), identity.format, views, blocks)
    data = {
        "views": views,
        "epochs": epochs,
        "blocks": blocks,
        "block_slots": identity.block_slots,
        "views_per_second": round(view_rate, 1),
        "teacher_per_second": round(teacher_rate, 1),
        "seconds": round(seconds, 1),
        "bytes_at_most": disk.bytes_needed,
        "bytes_per_view_at_most": disk.bytes_per_view,
        "files": disk.files_needed,
        "free_bytes": disk.bytes_free,
    }
    slower = "the views" if view_rate < teacher_rate else "the teacher"
    text = (
        f"views   {views:,} = {len(table):,} samples x {epochs} epochs, "
        f"{blocks:,} blocks of {identity.block_slots} slots\n"
        f"time    about {human_duration(seconds)}: views {view_rate:,.0f}/s on {max(1, workers)} processes, "
        f"teacher {teacher_rate:,.0f}/s; {slower} set the pace\n"
        f"bytes   at most {human_bytes(disk.bytes_needed)} in {disk.files_needed:,} files "
        f"({disk.bytes_per_view:g} a view before compression)\n"
        f"disk    {'unknown' if disk.bytes_free is None else human_bytes(disk.bytes_free) + ' free'}"
    )
    exit_code = 0 if disk.problem is None else 3
    if disk.problem:
        text += (
            f"\nnot enough: {disk.problem}\nuse fewer --epochs, --logits topk:10 or none, or another disk with --cache"
        )
    return CommandResult(text, data, exit_code)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
