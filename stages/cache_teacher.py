"""`deit-pipe cache-teacher`: stage one. Views -> frozen teacher -> blocks of targets in the cache."""

from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import torch

from deit_pipe.pipeline.data_set import DataChoice, DataSet
from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.pipeline.proof.probe import probe_text
from deit_pipe.pipeline.provenance import library_versions
from deit_pipe.pipeline.recipe import Recipe, load_recipe, preset_name
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.command_lines import command_line
from deit_pipe.stages.console.errors import Mismatch, UsageProblem
from deit_pipe.stages.console.facts import Facts, if_there
from deit_pipe.stages.console.progress import note
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.console.words import human_bytes
from deit_pipe.stages.machine.distributed import Processes, processes
from deit_pipe.stages.machine.engine_words import engine_line
from deit_pipe.stages.machine.workers import choose_workers
from deit_pipe.stages.measuring.estimate import CacheEstimate, estimate
from deit_pipe.stages.measuring.planned_cost import PlannedCost, planned_cost
from deit_pipe.stages.measuring.usual_epochs import usual_epochs
from deit_pipe.stages.measuring.views import ViewSource
from deit_pipe.stages.networks.teacher import Teacher
from deit_pipe.stages.opened.cache import OpenedCache, open_if_there
from deit_pipe.stages.opened.continue_line import slug
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
from deit_pipe.stages.teaching.filling import write_blocks
from deit_pipe.stages.teaching.gate import pass_gate
from deit_pipe.stages.teaching.prepared_teacher import prepare_teacher
from deit_pipe.store.blocks.checks import read_check
from deit_pipe.store.formats import TargetFormat
from deit_pipe.store.gates import read_gate, write_gate
from deit_pipe.store.layout import block_slots_for
from deit_pipe.store.manifest import TeacherIdentity, create_cache
from deit_pipe.store.writer import TargetWriter


@dataclass(frozen=True)
class CachedTeacher(Facts):
    """A teacher's answers in a cache.

    Attributes:
        cache, teacher, model: place; name inside; timm tag.
        epochs, blocks, written, left: wanted; of all of them; by this job; still missing.
        targets, weights_sha256: format of the answers; of the weights.
        bytes: of the cache; None where it lies elsewhere than in a folder.
    """

    cache: str
    teacher: str
    model: str
    epochs: int
    blocks: int
    written: int
    left: int
    targets: str
    weights_sha256: str
    bytes: int | None = if_there()


def run(options: CacheTeacherOptions) -> CommandResult[CachedTeacher | CacheEstimate | PlannedCost]:
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
        epochs = options.epochs
        if epochs is None:
            epochs, why = usual_epochs(there, identity.name, views_of)
            say([f"{epochs} epochs: {why}"])
        if options.estimate:
            return estimate(options.cache, views_of, teacher, identity, epochs, workers, group)
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
                partial(sample_index, table),
                provenance,
                Recipe.later_defaults(),
                data.choice.to_json(),
            )
        writer = open_writer(options, group, teacher, identity, epochs)
        with writer:
            total = len(writer.blocks)
            todo = len(writer.missing)
            if gate is not None:
                write_gate(options.cache, identity, gate.to_json())
            if not options.plan_only:
                write_blocks(writer, teacher, views_of, workers, group, options)
            left = writer.left()
            holders = writer.holders() if left and not options.plan_only else []
        group.barrier()  # all have waited for the last block by now; rank 0, which holds the group's store, leaves last
        return summary(options, identity, teacher, epochs, (total, todo, writer.written, len(left)), holders)


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
        input_size=teacher.input_size,
    )


def recipe_name(options: CacheTeacherOptions, recipe: Recipe) -> str:
    """How a person names the recipe: a preset's name, or the file it was read from."""
    preset = preset_name(recipe)
    return preset if preset != "custom" else str(options.recipe)


def open_writer(
    options: CacheTeacherOptions, group: Processes, teacher: Teacher, identity: TeacherIdentity, epochs: int
) -> TargetWriter:
    """Once rank 0 has measured the teacher and created the cache, each process opens it as if it were alone."""
    group.barrier()  # the only thing that the others wait for: nothing is cached of a teacher that may be refused
    provenance = {
        "weights": absolute(teacher.source),
        "torch": torch.__version__,
        "device": device_name(group.device),
        **({} if options.teacher_mean is None else {"teacher-mean": options.teacher_mean}),
        **({} if options.teacher_std is None else {"teacher-std": options.teacher_std}),
        **library_versions(),
    }
    writer = TargetWriter.open(
        options.cache,
        identity,
        epochs=epochs,
        rank=group.rank,
        world=group.world,
        provenance=provenance,
        check=None if options.verify is None else read_check(options.verify),
    )
    if group.first and writer.checked:
        damaged = f": {len(writer.damaged)} damaged, made again" if writer.damaged else ""
        say([f"checked what is there, {writer.checked}{damaged}"])
    return writer


def device_name(device: torch.device) -> str:
    """`cpu`, or the GPU's product name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


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
    options: CacheTeacherOptions,
    identity: TeacherIdentity,
    teacher: Teacher,
    epochs: int,
    counts: tuple[int, int, int, int],
    holders: list[str],
) -> CommandResult[CachedTeacher]:
    """What was done, and what to type next.

    `counts`: blocks in all, missing at first, written by this job, left now; `holders` make those that are left.
    """
    total, todo, written, left = counts
    facts = CachedTeacher(
        cache=options.cache,
        teacher=identity.name,
        model=identity.model,
        epochs=epochs,
        blocks=total,
        written=written,
        left=left,
        targets=identity.targets,
        weights_sha256=identity.weights_sha256,
    )
    if options.plan_only:
        text = f"{options.cache}: planned, {total - todo} of {total} blocks are there"
    elif left:
        text = f"{options.cache}: {written} blocks written, {left} of {total} are being made by other jobs"
    elif todo == 0:
        text = f"{options.cache}: nothing to do, all {total} blocks of {identity.name} are there"
    else:
        text = f"{options.cache}: {written} blocks written, all {total} blocks of {identity.name} are there"
    if Path(options.cache).is_dir():
        size = sum(path.stat().st_size for path in Path(options.cache).rglob("*") if path.is_file())
        facts = replace(facts, bytes=size)
        text += f" ({human_bytes(size)})"
    if left and not options.plan_only:
        shown = ", ".join(holders[:3]) + (", ..." if len(holders) > 3 else "")
        again = "the same command with --wait stays until they are there, and takes over what a dead job left"
        return CommandResult(f"{text}\nthey are with {shown}\nnext: {again}", facts)
    following = command_line("train-student", TrainStudentOptions, cache=options.cache)
    return CommandResult(f"{text}\nnext: {following}", facts)
