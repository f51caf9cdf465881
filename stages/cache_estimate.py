"""What a `cache-teacher` run would cost: views, time, bytes, free disk; measured on a few batches, nothing written."""

import shutil
import time
from pathlib import Path

import torch

from deit_pipe.pipeline.compose import compose
from deit_pipe.pipeline.loader import load_views
from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.report import CommandResult, human_bytes, human_duration
from deit_pipe.stages.teacher import Teacher
from deit_pipe.store.layout import array_specs, blocks_per_epoch
from deit_pipe.store.manifest import TeacherIdentity

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
    per_view = sum(spec.row_bytes for spec in array_specs(identity.format))
    seconds = views / min(view_rate, teacher_rate)
    blocks = blocks_per_epoch(len(table), identity.block_slots) * epochs
    free = shutil.disk_usage(_existing(Path(cache))).free if "://" not in cache else None
    data = {
        "views": views, "epochs": epochs, "blocks": blocks, "block_slots": identity.block_slots,
        "views_per_second": round(view_rate, 1), "teacher_per_second": round(teacher_rate, 1),
        "seconds": round(seconds, 1), "bytes_at_most": views * per_view, "bytes_per_view_at_most": per_view,
        "free_bytes": free,
    }  # fmt: skip
    slower = "the views" if view_rate < teacher_rate else "the teacher"
    text = (
        f"views   {views:,} = {len(table):,} samples x {epochs} epochs, "
        f"{blocks:,} blocks of {identity.block_slots} slots\n"
        f"time    about {human_duration(seconds)}: views {view_rate:,.0f}/s on {max(1, workers)} processes, "
        f"teacher {teacher_rate:,.0f}/s; {slower} set the pace\n"
        f"bytes   at most {human_bytes(views * per_view)} ({per_view} a view before compression)\n"
        f"disk    {'unknown' if free is None else human_bytes(free) + ' free'}"
    )
    exit_code = 0 if free is None or free > views * per_view else 3
    if exit_code:
        text += "\nnot enough: use fewer --epochs, --logits topk:10 or none, or another disk with --cache"
    return CommandResult(text, data, exit_code)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _existing(path: Path) -> Path:
    """The nearest folder above a path that exists."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())
