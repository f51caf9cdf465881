"""`deit-pipe train-student`: stage two. The cache's views and targets -> a student."""

import math
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn

from deit_pipe.pipeline.data_set import DataChoice
from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.stages.adapted_settings import SETTINGS_RULES, adapt_settings, step_slots
from deit_pipe.stages.cached_run import (
    block_slots,
    cached_epochs,
    check_labelled,
    online_targets,
    open_readers,
    teacher_names,
)
from deit_pipe.stages.chosen_student import chosen_student, student_facts, token_width
from deit_pipe.stages.data import check_same_classes, choose_workers, manifest_for
from deit_pipe.stages.distributed import Processes, processes
from deit_pipe.stages.errors import UsageProblem
from deit_pipe.stages.fit import Fit
from deit_pipe.stages.losses import DistillationLoss
from deit_pipe.stages.opened.images import absolute, cached_images, cached_place, recorded_choice
from deit_pipe.stages.opened.same_samples import check_same_samples
from deit_pipe.stages.optim import make_optimizer
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.replay import ReplayContext
from deit_pipe.stages.report import CommandResult, note
from deit_pipe.stages.run_folder import begin, begun_config, finished, only_writer
from deit_pipe.stages.run_outcome import result_text
from deit_pipe.stages.student import (
    CUSTOM,
    StudentFacts,
    build_student,
    is_distilled,
    start_from,
)
from deit_pipe.stages.target_sources import CachedTargets, NoTargets, OnlineTargets
from deit_pipe.stages.trainer import Schedule, Trainer
from deit_pipe.stages.training_presets import (
    FEW_WIDTH,
    ChosenPreset,
    TrainingSettings,
    choose_preset,
    config_as_toml,
    resolve_alpha,
    resolve_settings,
    resolved_config,
)
from deit_pipe.store.gates import read_gate
from deit_pipe.store.manifest import Manifest, read_manifest, read_provenance, read_teacher


def run(options: TrainStudentOptions) -> CommandResult:
    """Open the cache and its images, build the student, train, evaluate, write the run folder."""
    with processes(options.device) as group, ExitStack() as stack:
        run_folder = Path(options.out)
        manifest = read_manifest(options.cache)
        provenance = read_provenance(options.cache)
        recipe = Recipe.from_json(dict(manifest.recipe))
        plan = ViewPlan.for_recipe(manifest.num_samples, recipe, manifest.seed)
        begun = begun_config(run_folder)
        names = teacher_names(options, begun)
        preset, settings = settings_of(options, manifest, recipe, plan, group, begun)
        loss = make_loss(options, settings, len(names))
        precision = options.precision or ("bf16" if group.device.type == "cuda" else "fp32")
        config = resolved_config(
            options, settings, preset=preset.name, alpha=loss.alpha, precision=precision, teacher=",".join(names),
            student=chosen_student(options, manifest.image_size)[0],
            data=absolute(options.data or cached_place(options.cache)),
            val_data=absolute(options.val_data) if options.val_data else None,
            cache_digest=manifest.digest, world=group.world,
            teacher_digests=[read_teacher(options.cache, name).digest for name in names],
            cached_epochs=cached_epochs(options.cache, names, settings.epochs, begun),
            settings_rules=SETTINGS_RULES, data_choice=(recorded_choice(options.cache) or DataChoice()).to_json(),
        )  # fmt: skip
        if options.print_config:
            return CommandResult(
                config_as_toml({k: v for k, v in config.items() if k not in DERIVED}), config
            )
        check_options(options, settings)
        found = cached_images(options.cache, config["data"], options.val_data)
        table, validation, test = found.train, found.val, found.test
        check_same_samples(
            options.cache, manifest_for(table, recipe, manifest.seed, manifest.image_size), table
        )
        for held_out in (validation, test):
            if held_out is not None:
                check_same_classes(held_out, table.class_names, f"the cached images {table.name}")
        check_labelled(table, loss)
        facts = student_facts(options, manifest, table, settings)
        readers = open_readers(options, names, loss)
        if group.first:
            stack.enter_context(only_writer(run_folder))
            given = {item.name for item in fields(options) if getattr(options, item.name) != item.default}
            begin(run_folder, config, given)
        group.barrier()
        done = finished(run_folder)
        if done is not None:
            return CommandResult(
                f"{run_folder}: nothing to do, this run is finished\n{result_text(done)}", done
            )

        schedule = Schedule(
            plan=plan, epochs=settings.epochs, cached_epochs=config["cached_epochs"],
            batch_size=step_slots(settings.batch_size, plan), accumulate=options.accumulate,
            order_seed=options.order_seed, block_slots=block_slots(options.cache, names, manifest),
        )  # fmt: skip
        context = ReplayContext(options.cache, table.keys, provenance)  # type: ignore[arg-type]
        alone: OnlineTargets | NoTargets | None = None if readers else NoTargets()
        if options.online_teacher:
            identity = read_teacher(options.cache, names[0])
            alone = online_targets(options, group, identity, table, manifest.seed)

        # The teacher is loaded by now, so it cannot change what the student and its drop path draw.
        torch.manual_seed(options.seed)
        student = build_student(facts).to(group.device)
        threads = choose_threads(options, student)
        if threads:
            torch.set_num_threads(threads)
        if options.init_from:
            for line in start_from(student, facts, Path(options.init_from)):
                note(line)
        torch.manual_seed((options.seed << 20) + 1 + group.rank)
        trainer = make_trainer(options, settings, student, facts, loss, recipe, group, precision)
        trainer.taught = not isinstance(alone, NoTargets)
        say_start(options, settings, schedule, facts, student, group, preset, precision)
        if group.first and not trainer.taught:
            note(
                f"no teacher in {options.cache} is complete: --loss none can train, its views are compared with nothing"
            )
        fit = Fit(
            trainer=trainer, schedule=schedule, settings=settings, options=options, table=table, validation=validation,
            test=test, teacher_top1=teacher_top1(options.cache, names, options.val_data),
            image_size=manifest.image_size, workers=choose_workers(options.workers), run_folder=run_folder,
            make_targets=lambda epoch, step: alone
            or CachedTargets(readers, lambda: schedule.cells(group, epoch, step), context),
        )  # fmt: skip
        result = fit.run()
    return CommandResult(result_text(result), result)


def settings_of(
    options: TrainStudentOptions, manifest: Manifest, recipe: Recipe, plan: ViewPlan, group: Processes,
    begun: dict[str, Any] | None,
) -> tuple[ChosenPreset, TrainingSettings]:  # fmt: skip
    """The preset, and the values that are used: its own, those given, adapted to the images there are.

    A run that an older version began goes on with the settings it began with.
    """
    adapts = begun is None or "settings_rules" in begun
    preset = choose_preset(options, recipe, manifest.image_size, manifest.num_samples if adapts else None)
    student, sizes = chosen_student(options, manifest.image_size)
    width = token_width(student, sizes) if preset.name == "few" and options.lr is None else FEW_WIDTH
    settings = resolve_settings(options, preset.name, student, num_samples=manifest.num_samples, width=width)
    if not adapts and settings.batch_size > plan.num_slots and group.world > 1:
        raise UsageProblem(
            f"{options.out} was begun with a batch of more than the {plan.num_slots} views of an epoch, which "
            f"{group.world} processes cannot share evenly\n  go on with one process, or begin again with a new --out"
        )
    if adapts:
        settings, lines = adapt_settings(settings, options, preset.name, plan, group.world)
        for line in lines if group.first else []:
            note(line)
    return preset, settings


def teacher_top1(cache: str, names: list[str], val_data: str | None) -> float | None:
    """Accuracy of the only teacher, 0..1, where its gate measured it on the images that the student is measured on."""
    gate = read_gate(cache, names[0]) if len(names) == 1 and val_data is None else None
    return float(gate["accuracy"]) if gate and gate.get("split") == "val" else None


DERIVED = ("cache_digest", "world", "teacher_digests", "cached_epochs", "settings_rules", "data_choice")
TINY_STUDENT = 1_000_000


def make_loss(options: TrainStudentOptions, settings: TrainingSettings, teachers: int) -> DistillationLoss:
    """The run's loss."""
    weights = [1.0] * teachers
    if options.teacher_loss_weights:
        try:
            weights = [float(part) for part in options.teacher_loss_weights.split(",")]
        except ValueError:
            weights = []
        good = all(math.isfinite(weight) and weight >= 0 for weight in weights)
        if len(weights) != teachers or not good or not sum(weights):
            raise UsageProblem(
                f"--teacher-loss-weights {options.teacher_loss_weights!r} does not fit\n"
                f"  expected {teachers} numbers of at least 0, one per teacher of --teacher, not all 0\n"
                "  give for example --teacher-loss-weights 2,1"
            )
    if settings.label_loss == "bce" and settings.smoothing > 0:
        raise UsageProblem(
            "--label-loss bce counts every class with a positive target, so smoothing would make all of them positive\n"
            "use --smoothing 0"
        )
    return DistillationLoss(
        kind=options.loss,
        alpha=resolve_alpha(options),
        tau=options.tau,
        reduction=options.kd_reduction,
        label=settings.label_loss,
        teacher_weights=tuple(weight / sum(weights) for weight in weights),
    )


def choose_threads(options: TrainStudentOptions, student: nn.Module) -> int | None:
    """CPU threads as asked; one for a tiny student, which more would only slow down; None leaves torch's own number.

    The number depends on nothing but options, since it can change the last bits of a weight.
    """
    tiny = sum(parameter.numel() for parameter in student.parameters()) < TINY_STUDENT
    return options.threads or (1 if tiny else None)


def check_options(options: TrainStudentOptions, settings: TrainingSettings) -> None:
    """Refuse options that contradict each other, before anything is opened."""
    if options.select == "ema" and not options.ema:
        raise UsageProblem("--select ema needs averaged weights\n  give for example --ema 0.9999")
    if options.online_teacher and options.teacher and "," in options.teacher:
        raise UsageProblem("--online-teacher runs one teacher\n  name one with --teacher")
    sizes = (options.patch_size, options.width, options.depth, options.heads)
    if options.student not in (None, CUSTOM) and sizes != (None, 64, 3, 2):
        raise UsageProblem(
            f"--patch-size, --width, --depth and --heads are for --student custom\n  {options.student} has its own"
            "\n  leave them out, or use --student custom"
        )
    if options.teacher_weights and not options.online_teacher:
        raise UsageProblem(
            "--teacher-weights goes with --online-teacher\n  answers come from the cache otherwise"
        )
    if settings.lr_batch and settings.scaled_lr < settings.min_lr:
        note(
            f"note: the scaled learning rate {settings.scaled_lr:.2g} is below --min-lr {settings.min_lr:.2g}; "
            "for small batches use --lr-batch 0"
        )


def make_trainer(
    options: TrainStudentOptions, settings: TrainingSettings, student: nn.Module, facts: StudentFacts,
    loss: DistillationLoss, recipe: Recipe, group: Processes, precision: str,
) -> Trainer:  # fmt: skip
    """The student with its optimiser, averaged copy, compiled and distributed forms."""
    if options.grad_checkpointing:
        student.set_grad_checkpointing(True)  # type: ignore[operator]
    if options.channels_last:
        student = student.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(student, settings, options.layer_decay)
    ema = ModelEmaV3(student, decay=options.ema, use_warmup=True) if options.ema else None
    network: nn.Module = student
    if options.compile:
        network = torch.compile(student)  # type: ignore[assignment]
    if group.world > 1:
        ids = [group.device.index] if group.device.type == "cuda" else None
        # one head has no gradient without distillation
        unused = is_distilled(student) and (loss.kind == "none" or loss.alpha in (0.0, 1.0))
        network = nn.parallel.DistributedDataParallel(network, device_ids=ids, find_unused_parameters=unused)
    return Trainer(
        student=student, network=network, facts=facts, loss=loss, optimizer=optimizer, ema=ema, recipe=recipe,
        group=group, precision=precision, clip_grad=settings.clip_grad, smoothing=settings.smoothing,
        channels_last=options.channels_last,
    )  # fmt: skip


def say_start(
    options: TrainStudentOptions, settings: TrainingSettings, schedule: Schedule, facts: StudentFacts,
    student: nn.Module, group: Processes, preset: ChosenPreset, precision: str,
) -> None:  # fmt: skip
    """One paragraph on stderr: what is trained, on what, at which rate."""
    if not group.first:
        return
    parameters = sum(p.numel() for p in student.parameters())
    plan = schedule.plan
    distinct = -(-plan.num_slots // plan.repeats)
    note(
        f"student {facts.model} {facts.image_size} px, {parameters / 1e6:.2f} M parameters, "
        f"preset {preset.name}{f' ({preset.reason})' if preset.reason else ''}, {precision}\n"
        f"{settings.epochs} epochs x {schedule.steps} steps of {min(settings.batch_size, plan.num_slots)} views "
        f"({distinct:,} distinct images x {plan.repeats} an epoch); {schedule.cached_epochs} cached epochs\n"
        f"{settings.optimizer} lr {settings.scaled_lr:.3g}"
        + (f" (= {settings.lr:g} x {settings.batch_size} / {settings.lr_batch})" if settings.lr_batch else "")
        + f", weight decay {settings.weight_decay:g}, loss {options.loss}"
    )
    if not is_distilled(student) and options.loss != "none":
        note(f"note: {facts.model} has no distillation token: both losses go to its only head")
