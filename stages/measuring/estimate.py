"""What a `cache-teacher` run would cost: views, time, bytes, free disk; measured for some seconds, nothing written."""

from dataclasses import dataclass

from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.console.words import human_bytes, human_duration
from deit_pipe.stages.machine.cost_model import (
    NetworkCost,
    Pace,
    Share,
    ViewCost,
    limit_line,
    measured_drag,
    pace,
    reuse_line,
)
from deit_pipe.stages.machine.distributed import Processes
from deit_pipe.stages.machine.engine_words import worker_words
from deit_pipe.stages.machine.workers import own_cores
from deit_pipe.stages.measuring.forecast import padded
from deit_pipe.stages.measuring.networks import teacher_alone, teacher_fed
from deit_pipe.stages.measuring.target_reads import scratch_targets
from deit_pipe.stages.measuring.usual_epochs import usual_training
from deit_pipe.stages.measuring.views import ViewSource, view_cost
from deit_pipe.stages.networks.teacher import Teacher
from deit_pipe.stages.teaching.batch_choice import padding
from deit_pipe.store.layout import blocks_per_epoch
from deit_pipe.store.manifest import TeacherIdentity
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.preflight import preflight

SECONDS = 2.0  # of each measurement


@dataclass(frozen=True, kw_only=True)
class CacheEstimate(Facts):
    """What caching would cost, as measured.

    Attributes:
        views, epochs, blocks, block_slots: how much there is to do.
        views_per_second, teacher_per_second, both_per_second, limit, processes, seconds: how fast, and what is slow.
        bytes_at_most, bytes_per_view_at_most, files, free_bytes: on disk; None where nobody knows what is free.
        preset, trained_epochs: of the students that these images would have.
    """

    views: int
    epochs: int
    blocks: int
    block_slots: int
    views_per_second: float
    teacher_per_second: float
    both_per_second: float
    limit: str
    processes: int
    seconds: float
    bytes_at_most: int
    bytes_per_view_at_most: float
    files: int
    free_bytes: int | None
    preset: str
    trained_epochs: int


def estimate(
    cache: str,
    source: ViewSource,
    teacher: Teacher,
    identity: TeacherIdentity,
    epochs: int,
    workers: int,
    group: Processes,
    seconds: float = SECONDS,
) -> CommandResult[CacheEstimate]:
    """Measure views and teacher apart and together, in all processes at once; forecast by the one cost model."""
    share = Share(cores=own_cores(), workers=workers, processes=group.world)
    found, cores = measured_pace(source, teacher, identity, share, group, seconds)
    views = len(source.table) * epochs
    taken = views / found.rate
    blocks = blocks_per_epoch(len(source.table), identity.block_slots) * epochs
    preset, trained = usual_training(source)
    disk = preflight(open_location(cache), identity.format, views, blocks)
    facts = CacheEstimate(
        views=views,
        epochs=epochs,
        blocks=blocks,
        block_slots=identity.block_slots,
        views_per_second=round(found.view_rate, 1),
        teacher_per_second=round(found.network_rate, 1),
        both_per_second=round(found.rate, 1),
        limit=found.limit,
        processes=group.world,
        seconds=round(taken, 1),
        bytes_at_most=disk.bytes_needed,
        bytes_per_view_at_most=disk.bytes_per_view,
        files=disk.files_needed,
        free_bytes=disk.bytes_free,
        preset=preset,
        trained_epochs=trained,
    )
    on = f" on {group.world} processes" if group.world > 1 else ""
    text = (
        f"views   {views:,} = {len(source.table):,} samples x {epochs} epochs, "
        f"{blocks:,} blocks of {identity.block_slots} slots\n"
        f"time    about {human_duration(taken)}{on}: "
        f"{limit_line(found, 'teacher', worker_words(workers), cores)}\n"
        f"bytes   at most {human_bytes(disk.bytes_needed)} in {disk.files_needed:,} files "
        f"({disk.bytes_per_view:g} a view before compression)\n"
        f"disk    {'unknown' if disk.bytes_free is None else human_bytes(disk.bytes_free) + ' free'}\n"
        f"reuse   a student of preset {preset} trains {trained} epochs: {reuse_line(trained, epochs)}"
    )
    exit_code = 0 if disk.problem is None else 3
    if disk.problem:
        text += (
            f"\nnot enough: {disk.problem}\nuse fewer --epochs, --logits topk:10 or none, or another disk with --cache"
        )
    return CommandResult(text, facts, exit_code)


def measured_pace(
    source: ViewSource,
    teacher: Teacher,
    identity: TeacherIdentity,
    share: Share,
    group: Processes,
    seconds: float,
) -> tuple[Pace, float]:
    """Of stage one, with its padding, over all processes; and the cores they have."""
    group.barrier()
    view = view_cost(source, share.workers, seconds)
    group.barrier()
    alone = teacher_alone(teacher, source, identity.batch_size, seconds)
    group.barrier()
    fed = teacher_fed(teacher, source, identity.batch_size, identity.block_slots, share.workers, seconds)
    with scratch_targets(source, identity.format, identity.block_slots) as there:
        write = there.write_seconds
    means = group.sum([view.core_seconds, view.rate, alone.seconds, alone.core_seconds, fed, write])
    core_seconds, rate, alone_seconds, alone_cores, fed, write = (value / group.world for value in means)
    view = ViewCost(core_seconds=core_seconds, rate=rate)
    network = NetworkCost(seconds=alone_seconds, core_seconds=alone_cores)
    drag = measured_drag(view, network, share, fed)
    whole = padded(network, padding(source.plan.num_slots, identity.block_slots, identity.batch_size)).beside(write)
    return pace(view, whole, share, drag), share.cores * share.processes
