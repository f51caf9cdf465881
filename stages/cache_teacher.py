"""`deit-pipe cache-teacher`: stage one. Views -> frozen teacher -> blocks of targets in the cache."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from deit_pipe.pipeline.compose import compose, dominant_labels, partner_labels
from deit_pipe.pipeline.data_set import DataChoice, DataSet
from deit_pipe.pipeline.loader import ViewBatch, load_views, named_worker_death
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.proof.probe import probe_text
from deit_pipe.pipeline.proof.recheck import rechecked
from deit_pipe.pipeline.provenance import library_versions
from deit_pipe.pipeline.recipe import Recipe, load_recipe, preset_name
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.command_lines import command_line
from deit_pipe.stages.console.errors import Mismatch, UsageProblem
from deit_pipe.stages.console.progress import note, progress
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.console.words import human_bytes
from deit_pipe.stages.machine.distributed import Processes, processes
from deit_pipe.stages.machine.engine_words import engine_line
from deit_pipe.stages.machine.watched_views import watched
from deit_pipe.stages.machine.workers import choose_workers
from deit_pipe.stages.measuring.estimate import estimate
from deit_pipe.stages.measuring.planned_cost import planned_cost
from deit_pipe.stages.measuring.views import ViewSource
from deit_pipe.stages.networks.teacher import Teacher
from deit_pipe.stages.opened.cache import OpenedCache, open_if_there
from deit_pipe.stages.opened.encoded_files import Notes, noting
from deit_pipe.stages.opened.gate_result import GateResult, gate_lines
from deit_pipe.stages.opened.images import absolute, choice_words, given_choice, open_images, say
from deit_pipe.stages.opened.plain_views import default_image_size, is_small
from deit_pipe.stages.opened.same_program import PROBE, check_same_program
from deit_pipe.stages.opened.same_samples import check_same_samples, manifest_for, sample_index
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.fields import spoken
from deit_pipe.stages.options.logits import read_logits
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.teaching.batch_choice import batch_lines, choose_batch, recorded_batch
from deit_pipe.stages.teaching.block_witness import WitnessTaker
from deit_pipe.stages.teaching.gate import pass_gate
from deit_pipe.stages.teaching.prepared_teacher import prepare_teacher
from deit_pipe.store.formats import TargetFormat
from deit_pipe.store.gates import read_gate, write_gate
from deit_pipe.store.layout import Block, block_slots_for
from deit_pipe.store.manifest import TeacherIdentity, create_cache
from deit_pipe.store.writer import TargetWriter


def run(options: CacheTeacherOptions) -> CommandResult:
    """Open the data and the teacher, then fill every block that is missing."""
    if options.samples is not None:
        return planned_cost(options, options.samples)
    with processes(options.device) as group:
        workers = choose_workers(options.workers)
        say([engine_line(workers)])
        there = open_if_there(options.cache)
        data = open_for_cache(options, there)
        table = data.train
        recipe = load_recipe(options.recipe or ("small" if is_small(table) else "deit"))
        image_size = options.img_size or default_image_size(table)
        plan = ViewPlan.for_recipe(len(table), recipe, options.seed)
        if options.batch_size and options.batch_size % recipe.mix_group:
            plan.check_batch(options.batch_size)
        teacher = prepare_teacher(options, group, table, image_size, workers)
        recorded = recorded_batch(options.cache, options.name or slug(teacher.tag))
        identity = identity_of(options, teacher, table, recipe, image_size, recorded)
        if options.batch_size is None:
            say(batch_lines(len(table), identity.block_slots, identity.batch_size))
        views_of = ViewSource(table, recipe, plan, image_size)
        if options.estimate:
            return estimate(options.cache, views_of, teacher, identity, options.epochs, workers, group)
        if there is not None:
            check_same_program(options.cache, there.provenance, recipe, teacher.mean, teacher.std, group.device)
        gate = None
        if group.first:
            manifest = manifest_for(table, recipe, options.seed, image_size)
            if there is not None:
                check_same_samples(options.cache, there.manifest, manifest, table)
            gate = gate_teacher(options, teacher, identity, data, workers)
            provenance = {
                "data": absolute(options.data),
                "recipe": recipe_name(options, recipe),
                "torch": torch.__version__,
                PROBE: probe_text(recipe, teacher.mean, teacher.std, group.device),
                **library_versions(),
            }
            create_cache(
                options.cache,
                manifest,
                sample_index(table),
                provenance,
                Recipe.later_defaults(),
                data.choice.to_json(),
            )
        writer = open_writer(options, group, teacher, identity)
        with writer:
            total = len(writer.blocks)
            todo = len(writer.missing)
            if gate is not None:
                write_gate(options.cache, identity, gate.to_json())
            group.barrier()  # nobody writes before everybody has listed what is missing
            if not options.plan_only and writer.mine:
                write_blocks(writer, teacher, views_of, workers, group, options.cache)
            group.barrier()
        return summary(options, identity, teacher, total, todo)


def open_for_cache(options: CacheTeacherOptions, there: OpenedCache | None) -> DataSet:
    """The images as the options choose them; where none does and the cache is there, as it recorded.

    Raises:
        Mismatch: the cache's images were chosen otherwise.
    """
    given = given_choice(options)
    found = open_images(options.data, there.choice if there and given == DataChoice() else given)
    if there is not None and found.choice != there.choice:
        was, now = choice_words(there.choice), choice_words(found.choice)
        known = {item.name: item for item in fields(options)}
        lines = [
            f"{spoken(known[name])}: cached {was[name]}   given {now[name]}" for name in was if was[name] != now[name]
        ]
        raise Mismatch(
            f"the images of {options.cache} were chosen otherwise",
            details=lines,
            cure="leave these options out to go on with the cached choice, or give a new folder with --cache",
        )
    return found


def identity_of(
    options: CacheTeacherOptions,
    teacher: Teacher,
    table: SampleTable,
    recipe: Recipe,
    image_size: int,
    batch_size: int | None = None,
) -> TeacherIdentity:
    """What must be the same for two runs to write one teacher's targets; `batch_size`: that it was begun with."""
    text, taus = read_logits(options.logits)
    classes = len(table.class_names)
    targets = TargetFormat.parse(text, taus, classes)
    block = options.block or block_slots_for(targets, classes, recipe.mix_group, len(table))
    if block % recipe.mix_group:
        raise UsageProblem(
            f"block {block} cuts mix groups apart",
            expected=f"a multiple of {recipe.mix_group}",
            cure=f"use --set block={block // recipe.mix_group * recipe.mix_group or recipe.mix_group}",
        )
    batch_size = options.batch_size or batch_size
    return TeacherIdentity(
        name=options.name or slug(teacher.tag),
        model=teacher.tag,
        weights_sha256=teacher.weights_sha256,
        head=teacher.head,
        mean=teacher.mean,
        std=teacher.std,
        image_size=image_size,
        precision=teacher.precision,
        num_classes=classes,
        batch_size=batch_size or choose_batch(len(table), block, recipe.mix_group),
        targets=text,
        taus=targets.taus,
        block_slots=block,
    )


def slug(tag: str) -> str:
    """Name of a teacher inside a cache: its tag, lower case."""
    return tag.lower()


def recipe_name(options: CacheTeacherOptions, recipe: Recipe) -> str:
    """How a person names the recipe: a preset's name, or the file it was read from."""
    preset = preset_name(recipe)
    return preset if preset != "custom" else str(options.recipe)


def open_writer(
    options: CacheTeacherOptions, group: Processes, teacher: Teacher, identity: TeacherIdentity
) -> TargetWriter:
    """Rank 0 creates or resizes, then the others open."""
    if not group.first:
        group.barrier()
    provenance = {
        "weights": absolute(teacher.source),
        "torch": torch.__version__,
        "device": device_name(group.device),
        **library_versions(),
    }
    writer = TargetWriter.open(
        options.cache,
        identity,
        epochs=options.epochs,
        rank=group.rank,
        world=group.world,
        provenance=provenance,
    )
    if group.first:
        group.barrier()
    return writer


def device_name(device: torch.device) -> str:
    """`cpu`, or the GPU's product name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def cells_of(blocks: list[Block], batch_size: int) -> Iterator[Cells]:
    """Teacher batches: they never cross a block, so that an answer does not depend on where a run resumed."""
    for block in blocks:
        for start in range(block.start, block.stop, batch_size):
            yield Cells(block.epoch, np.arange(start, min(start + batch_size, block.stop)))


def write_blocks(
    writer: TargetWriter, teacher: Teacher, source: ViewSource, workers: int, group: Processes, cache: str
) -> None:
    """Make the views of this process's blocks, looked at again after the hand-over, and fill the blocks."""
    batch_size = writer.identity.batch_size
    with noting(cache, writer.identity.name, group.rank, source.table) as (noted, notes):
        loaded = load_views(
            noted,
            source.recipe,
            source.plan,
            cells_of(writer.mine, batch_size),
            image_size=source.image_size,
            workers=workers,
            pin_memory=group.device.type == "cuda",
        )
        checked = rechecked(loaded, source.plan.seed)
        shared, quiet = group.device.type == "cpu", not group.first
        with closing(watched(checked, "teacher", workers, shares_cores=shared, quiet=quiet)) as views:
            fill(writer, teacher, source.recipe, views, batch_size, notes, quiet=not group.first)


def fill(
    writer: TargetWriter,
    teacher: Teacher,
    recipe: Recipe,
    views: Iterator[ViewBatch],
    batch_size: int,
    notes: Notes | None = None,
    *,
    quiet: bool = False,
) -> None:
    """Run the teacher over the views, commit block after block; a thread writes one while the next is computed."""
    done = sum(block.slots for block in writer.blocks) - sum(block.slots for block in writer.missing)
    total = done + sum(block.slots for block in writer.mine)
    pending: Future[object] | None = None
    started, waited = time.perf_counter(), 0.0
    with (
        named_worker_death(),
        ThreadPoolExecutor(1) as background,
        progress(f"caching {teacher.tag}", total, "views", done=done, quiet=quiet) as shown,
    ):
        for block in writer.mine:
            parts: list[tuple[np.ndarray, ...]] = []
            witness = WitnessTaker(teacher, block)
            while sum(len(part[0]) for part in parts) < block.slots:
                asked = time.perf_counter()
                batch = next(views)
                waited += time.perf_counter() - asked
                mixed = compose(batch.to(teacher.device, non_blocking=True), recipe)
                answers = teacher.padded(mixed, batch_size, witness.look_at(batch))
                parts.append(
                    (
                        answers.cpu().numpy(),
                        batch.fingerprints,
                        dominant_labels(batch).numpy(),
                        partner_labels(batch).numpy(),
                    )
                )
                shown.advance(len(batch), f"data wait {waited / (time.perf_counter() - started):.0%}")
            if pending is not None:
                pending.result()
            logits, prints, labels, partners = (np.concatenate(column) for column in zip(*parts, strict=True))
            if notes is not None:
                notes.save_if_due()
            pending = background.submit(writer.write, block, logits, prints, labels, partners, witness.finish())
        if pending is not None:
            pending.result()


def gate_teacher(
    options: CacheTeacherOptions, teacher: Teacher, identity: TeacherIdentity, data: DataSet, workers: int
) -> GateResult | None:
    """Measure a teacher before anything of it is cached, and say it; a new measurement is returned, to be kept.

    Raises:
        Mismatch: it does not know these classes.
    """
    if options.plan_only:
        return None
    there = read_gate(options.cache, identity.name)
    if there is not None and there["identity"] != identity.digest:
        there = None
    if there is not None:
        gate = GateResult.from_json(there)
    else:
        gate = pass_gate(
            teacher,
            data,
            image_size=identity.image_size,
            batch_size=identity.batch_size,
            workers=workers,
            accept=options.accept_teacher,
        )
    for line in gate_lines(gate):
        note(line)
    return gate if there is None else None


def summary(
    options: CacheTeacherOptions, identity: TeacherIdentity, teacher: Teacher, total: int, todo: int
) -> CommandResult:
    """What was done, and what to type next."""
    data = {
        "cache": options.cache,
        "teacher": identity.name,
        "model": identity.model,
        "epochs": options.epochs,
        "blocks": total,
        "written": 0 if options.plan_only else todo,
        "targets": identity.targets,
        "weights_sha256": identity.weights_sha256,
    }
    if options.plan_only:
        text = f"{options.cache}: planned, {total - todo} of {total} blocks are there"
    elif todo == 0:
        text = f"{options.cache}: nothing to do, all {total} blocks of {identity.name} are there"
    else:
        text = f"{options.cache}: {todo} blocks written, all {total} blocks of {identity.name} are there"
    if Path(options.cache).is_dir():
        size = sum(path.stat().st_size for path in Path(options.cache).rglob("*") if path.is_file())
        data["bytes"] = size
        text += f" ({human_bytes(size)})"
    following = command_line("train-student", TrainStudentOptions, cache=options.cache)
    return CommandResult(f"{text}\nnext: {following}", data)
