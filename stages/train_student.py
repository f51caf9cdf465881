"""`deit-pipe train-student`: stage two. The cache's views and targets -> a student."""

from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn

from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.cached_run import check_samples, online_targets, open_reader, teacher_names
from deit_pipe.stages.data import (
    absolute,
    check_same_classes,
    choose_workers,
    default_crop_ratio,
    open_training,
    open_validation,
)
from deit_pipe.stages.distributed import Processes, processes
from deit_pipe.stages.errors import UsageProblem
from deit_pipe.stages.fit import Fit
from deit_pipe.stages.losses import DistillationLoss
from deit_pipe.stages.optim import make_optimizer
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.replay import ReplayContext
from deit_pipe.stages.report import CommandResult, note
from deit_pipe.stages.run_folder import CONFIG, begin, finished, only_writer, read_json
from deit_pipe.stages.student import (
    CUSTOM,
    StudentFacts,
    build_student,
    describe_student,
    is_distilled,
    read_facts,
    start_from,
)
from deit_pipe.stages.target_sources import CachedTargets
from deit_pipe.stages.trainer import Schedule, Trainer
from deit_pipe.stages.training_presets import (
    TrainingSettings,
    choose_preset,
    config_as_toml,
    resolve_alpha,
    resolve_settings,
    resolved_config,
)
from deit_pipe.store.ledger import read_ledger
from deit_pipe.store.manifest import (
    Manifest,
    read_manifest,
    read_provenance,
    read_teacher,
)


def run(options: TrainStudentOptions) -> CommandResult:
    """Open the cache and its images, build the student, train, evaluate, write the run folder."""
    with processes(options.device) as group, ExitStack() as stack:
        manifest = read_manifest(options.cache)
        provenance = read_provenance(options.cache)
        recipe = Recipe.from_json(dict(manifest.recipe))
        preset = choose_preset(options, recipe, manifest.image_size)
        student_name, _ = chosen_student(options, manifest.image_size)
        settings = resolve_settings(options, preset, student_name)
        names = teacher_names(options)
        loss = make_loss(options, settings, len(names))
        precision = options.precision or ("bf16" if group.device.type == "cuda" else "fp32")
        config = resolved_config(
            options, settings, preset=preset, alpha=loss.alpha, precision=precision, teacher=",".join(names),
            student=student_name,
            data=absolute(options.data or provenance.get("data") or "digits"),
            val_data=absolute(options.val_data) if options.val_data else None,
            cache_digest=manifest.digest, world=group.world,
            teacher_digests=[read_teacher(options.cache, name).digest for name in names],
            cached_epochs=cached_epochs(options, names),
        )  # fmt: skip
        if options.print_config:
            return CommandResult(
                config_as_toml({k: v for k, v in config.items() if k not in DERIVED}), config
            )
        check_options(options, settings)
        run_folder = Path(options.out)
        table = open_training(config["data"])
        check_samples(options.cache, manifest, table, recipe)
        validation = open_validation(config["data"], options.val_data)
        if validation is not None:
            check_same_classes(validation, table.class_names, f"the cached images {table.name}")
        facts = student_facts(options, manifest, table, settings)
        readers = [] if options.online_teacher else [open_reader(options, name, loss) for name in names]
        identity = read_teacher(options.cache, names[0])
        if group.first:
            stack.enter_context(only_writer(run_folder))
            untouched = {item.name for item in fields(options) if getattr(options, item.name) == item.default}
            begin(run_folder, config, untouched)
        group.barrier()
        done = finished(run_folder)
        if done is not None:
            return CommandResult(
                f"{run_folder}: nothing to do, this run is finished\n{result_text(done)}", done
            )

        plan = ViewPlan.for_recipe(len(table), recipe, manifest.seed)
        schedule = Schedule(
            plan=plan, epochs=settings.epochs, cached_epochs=config["cached_epochs"],
            batch_size=settings.batch_size, accumulate=options.accumulate, order_seed=options.order_seed,
            block_slots=identity.block_slots,
        )  # fmt: skip
        if len(table) >= settings.batch_size:
            plan.check_batch(settings.batch_size, group.world * options.accumulate)
        elif group.world > 1:  # unequal shares would weigh unequally
            raise UsageProblem(
                f"--batch-size {settings.batch_size} is more than the {len(table)} samples, which {group.world} "
                f"processes cannot share evenly\n  use --batch-size {group.world * recipe.mix_group}"
            )
        context = ReplayContext(options.cache, table.keys, provenance)  # type: ignore[arg-type]
        online = None
        if options.online_teacher:
            online = online_targets(options, group, identity, table, manifest.seed)

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
        say_start(options, settings, schedule, facts, student, group, preset, precision)
        fit = Fit(
            trainer=trainer, schedule=schedule, settings=settings, options=options, table=table, validation=validation,
            image_size=manifest.image_size, workers=choose_workers(options.workers), run_folder=run_folder,
            make_targets=lambda epoch, step: online
            or CachedTargets(readers, lambda: schedule.cells(group, epoch, step), context),
        )  # fmt: skip
        result = fit.run()
    return CommandResult(result_text(result), result)


DERIVED = ("cache_digest", "world", "teacher_digests", "cached_epochs")
TINY_STUDENT = 1_000_000


def cached_epochs(options: TrainStudentOptions, names: list[str]) -> int:
    """How many cached epochs this run shows in turn: of a cache that is only planned, the planned ones.

    A run goes on with the number it began with: a cache that was extended since must not change its order.
    """
    here = min(read_ledger(options.cache, name).epochs or 1 for name in names)
    begun = (read_json(Path(options.out) / CONFIG) or {}).get("cached_epochs", here)
    return int(begun) if begun <= here else here


def make_loss(options: TrainStudentOptions, settings: TrainingSettings, teachers: int) -> DistillationLoss:
    """The run's loss."""
    weights = [1.0] * teachers
    if options.teacher_loss_weights:
        try:
            weights = [float(part) for part in options.teacher_loss_weights.split(",")]
        except ValueError:
            weights = []
        if len(weights) != teachers or min(weights, default=-1) < 0 or sum(weights) == 0:
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


def chosen_student(options: TrainStudentOptions, image_size: int) -> tuple[str, dict[str, int | None]]:
    """Name and custom sizes: as asked; of the run this one starts from; else DeiT-Ti, or custom for small images."""
    sizes: dict[str, int | None] = {
        "patch_size": options.patch_size, "width": options.width, "depth": options.depth, "heads": options.heads
    }  # fmt: skip
    if options.student:
        return options.student, sizes
    if options.init_from:
        old = read_facts(Path(options.init_from))
        names = {"patch_size": "patch_size", "width": "embed_dim", "depth": "depth", "heads": "num_heads"}
        kept = {name: old.sizes.get(theirs) for name, theirs in names.items()}
        return old.model, {**kept, **({"patch_size": options.patch_size} if options.patch_size else {})}
    return ("deit_tiny_distilled_patch16_224" if image_size >= 160 else CUSTOM), sizes


def student_facts(
    options: TrainStudentOptions, manifest: Manifest, table: SampleTable, settings: TrainingSettings
) -> StudentFacts:
    """The student for these views and classes."""
    model, sizes = chosen_student(options, manifest.image_size)
    return describe_student(
        model, image_size=manifest.image_size, class_names=table.class_names,
        crop_ratio=options.eval_crop_ratio or default_crop_ratio(manifest.image_size, model),
        drop_path=settings.drop_path, **sizes,  # type: ignore[arg-type]
    )  # fmt: skip


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
    student: nn.Module, group: Processes, preset: str, precision: str,
) -> None:  # fmt: skip
    """One paragraph on stderr: what is trained, on what, at which rate."""
    if not group.first:
        return
    parameters = sum(p.numel() for p in student.parameters())
    plan = schedule.plan
    distinct = -(-plan.num_slots // plan.repeats)
    note(
        f"student {facts.model} {facts.image_size} px, {parameters / 1e6:.2f} M parameters, "
        f"preset {preset}, {precision}\n"
        f"{settings.epochs} epochs x {schedule.steps} steps of {min(settings.batch_size, plan.num_slots)} views "
        f"({distinct:,} distinct images x {plan.repeats} an epoch); {schedule.cached_epochs} cached epochs\n"
        f"{settings.optimizer} lr {settings.scaled_lr:.3g}"
        + (f" (= {settings.lr:g} x {settings.batch_size} / {settings.lr_batch})" if settings.lr_batch else "")
        + f", weight decay {settings.weight_decay:g}, loss {options.loss}"
    )
    if not is_distilled(student) and options.loss != "none":
        note(f"note: {facts.model} has no distillation token: both losses go to its only head")


def result_text(result: dict[str, Any]) -> str:
    """The end of a run, for a person."""
    lines = [f"student in {result['out']}, {result['epochs']} epochs, loss {result['loss']}"]
    for name, scores in (result.get(result.get("selected", "val")) or {}).items():
        mark = "  <- result" if name == result["answer"] else ""
        lines.append(f"  {name:<14} top-1 {scores['top1']:7.2%}   top-5 {scores['top5']:7.2%}{mark}")
    if not result.get("val"):
        lines.append("  not evaluated: the data has no validation images (--val-data)")
    lines.append(f"next: deit-pipe evaluate {result['out']}")
    return "\n".join(lines)
