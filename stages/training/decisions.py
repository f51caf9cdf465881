"""What a run will do, decided before anything heavy is opened: preset, settings, loss, teachers, the whole config."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from deit_pipe.stages.console.command_lines import command_line
from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.console.progress import note
from deit_pipe.stages.machine.distributed import Processes
from deit_pipe.stages.networks.starting_weights import find_start
from deit_pipe.stages.networks.student import takes
from deit_pipe.stages.networks.weights import digest
from deit_pipe.stages.opened.cache import OpenedCache
from deit_pipe.stages.opened.images import absolute
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.training.adapted_settings import BY_SIZE, SETTINGS_RULES, adapt_settings
from deit_pipe.stages.training.cached_run import cached_epochs, teacher_names, weighted_teachers
from deit_pipe.stages.training.chosen_student import chosen_student, student_text, token_width
from deit_pipe.stages.training.losses import DistillationLoss
from deit_pipe.stages.training.published import FEW_WIDTH, TrainingSettings
from deit_pipe.stages.training.run_folder import begun_config, teachers_text
from deit_pipe.stages.training.settings import (
    BY_IMAGES,
    ChosenPreset,
    Start,
    choose_preset,
    loss_kind,
    resolve_alpha,
    resolve_settings,
    resolved_config,
)

# Of the config: what follows from the cache and is no option.
DERIVED = (
    "cache_digest",
    "world",
    "teacher_digests",
    "cached_epochs",
    "settings_rules",
    "data_choice",
    "command",
    "samples_digest",
    "init_tag",
    "init_sha256",
)


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What follows from the options, the cache and, where there is one, the run that was begun.

    Attributes:
        names: of the cached teachers.
        preset: and why it was taken.
        settings: the values that are used.
        loss: of the run.
        precision: fp32, bf16 or fp16.
        config: every option with its value, as in config.json.
    """

    names: list[str]
    preset: ChosenPreset
    settings: TrainingSettings
    loss: DistillationLoss
    precision: str
    config: dict[str, Any]


def decide(options: TrainStudentOptions, cache: OpenedCache, group: Processes) -> Decisions:
    """Decide everything that needs no image.

    Raises:
        UsageProblem: options that cannot work together.
    """
    begun = begun_config(Path(options.out))
    names = teacher_names(options, cache.stored, begun)
    preset, settings = settings_of(options, cache, group, begun)
    weights = teacher_weights(options, names, begun)
    loss = make_loss(options, settings, weights)
    precision = options.precision or ("bf16" if group.device.type == "cuda" else "fp32")
    config = resolved_config(
        options,
        settings,
        preset=preset.name,
        loss=loss.kind,
        alpha=loss.alpha,
        precision=precision,
        teacher=teachers_text(names, weights),
        student=student_text(options, cache.manifest.image_size),
        data=absolute(options.data or cache.data),
        val_data=absolute(options.val_data) if options.val_data else None,
        cache_digest=cache.manifest.digest,
        world=group.world,
        teacher_digests=[cache.stored.teacher(name).identity.digest for name in names],
        cached_epochs=cached_epochs(cache.stored, names, settings.epochs, begun),
        settings_rules=rules_of(begun) or SETTINGS_RULES,
        data_choice=cache.choice.to_json(),
        command=own_command(options),
        samples_digest=cache.manifest.samples_digest,
        **start_record(options),
    )
    return Decisions(names=names, preset=preset, settings=settings, loss=loss, precision=precision, config=config)


def own_command(options: TrainStudentOptions) -> str:
    """The command that began the run, for whoever goes on with it."""
    return command_line("train-student", TrainStudentOptions, **asdict(options))


def settings_of(
    options: TrainStudentOptions, cache: OpenedCache, group: Processes, begun: dict[str, Any] | None
) -> tuple[ChosenPreset, TrainingSettings]:
    """The preset, and the values that are used: its own, those given, adapted to the images there are.

    A run that an older version began goes on with the settings it began with.
    """
    manifest, plan = cache.manifest, cache.plan
    rules = rules_of(begun)
    adapts, start = rules > 0, start_of(options, cache, by_size=rules >= BY_SIZE)
    preset = choose_preset(options, cache.recipe, manifest.image_size, manifest.num_samples if adapts else None, start)
    student, sizes = chosen_student(options, manifest.image_size)
    width = token_width(student, sizes) if preset.values in BY_IMAGES and options.lr is None else FEW_WIDTH
    settings = resolve_settings(
        options,
        preset.values,
        student,
        num_samples=manifest.num_samples,
        width=width,
        image_size=manifest.image_size,
        by_size=start.by_size,
    )
    if settings.drop_path and options.drop_path is None and not takes(student, drop_path_rate=0.1):
        settings = replace(settings, drop_path=0.0)
        if group.first:
            note(f"note: {student} has no stochastic depth: the drop path of preset {preset.name} is left out")
    if not adapts and settings.batch_size > plan.num_slots and group.world > 1:
        raise UsageProblem(
            f"{options.out} was begun with a batch of more than the {plan.num_slots} views of an "
            f"epoch, which {group.world} processes cannot share evenly",
            cure="go on with one process, or begin again with a new --out",
        )
    if adapts:
        settings, lines = adapt_settings(settings, options, preset.name, plan, group.world)
        for line in lines if group.first else []:
            note(line)
    return preset, settings


def rules_of(begun: dict[str, Any] | None) -> int:
    """The rules a run goes on with: those it was begun with, 0 for the first version's, which recorded none."""
    return SETTINGS_RULES if begun is None else int(begun.get("settings_rules", 0))


def start_of(options: TrainStudentOptions, cache: OpenedCache, *, by_size: bool) -> Start:
    """Whether the student starts from other weights, and whether those knew other classes."""
    if not options.init_from:
        return Start(by_size=by_size)
    start = find_start(options.init_from, options.student)
    return Start(tuned=True, new_heads=not start.knows(cache.stored.samples.class_names), by_size=by_size)


def start_record(options: TrainStudentOptions) -> dict[str, str]:
    """Which weights the student starts from, for the run's config: tag and digest; nothing where they are random."""
    if not options.init_from:
        return {}
    start = find_start(options.init_from, options.student)
    return {"init_tag": start.tag, "init_sha256": digest(start.read())}


def teacher_weights(options: TrainStudentOptions, names: Sequence[str], begun: Mapping[str, Any] | None) -> list[float]:
    """What each teacher weighs in the loss: as asked; as in the run that is gone on with; else all alike."""
    asked = options.teacher or (begun or {}).get("teacher")
    said = dict(weighted_teachers(asked)) if asked else {}
    return [said.get(name, 1.0) for name in names]


def make_loss(
    options: TrainStudentOptions, settings: TrainingSettings, weights: Sequence[float] = (1.0,)
) -> DistillationLoss:
    """The run's loss; `weights` of its teachers, at least one above 0."""
    if settings.label_loss == "bce" and settings.smoothing > 0:
        raise UsageProblem(
            "label-loss bce counts every class with a positive target, so smoothing would make all of them positive",
            cure="use --set smoothing=0",
        )
    return DistillationLoss(
        kind=loss_kind(options),
        alpha=resolve_alpha(options),
        tau=options.tau,
        reduction=options.kd_reduction,
        label=settings.label_loss,
        teacher_weights=tuple(weight / sum(weights) for weight in weights),
        dist_label=options.dist_label,
    )


def check_options(options: TrainStudentOptions, settings: TrainingSettings) -> None:
    """Refuse options that contradict each other, before anything is opened."""
    if options.select == "ema" and not options.ema:
        raise UsageProblem("select ema needs averaged weights", cure="give for example --set ema=0.9999")
    if not options.ema and not options.ema_warmup:
        raise UsageProblem("ema-warmup needs averaged weights", cure="give for example --set ema=0.99996")
    if options.online_teacher and options.teacher and "," in options.teacher:
        raise UsageProblem("online-teacher runs one teacher", cure="name one with --teacher")
    if options.teacher_weights and not options.online_teacher:
        raise UsageProblem(
            "teacher-weights goes with online-teacher",
            details=["answers come from the cache otherwise"],
            cure="give --set online-teacher=true too, or leave it out",
        )
    if settings.lr_batch and settings.scaled_lr < settings.min_lr:
        note(
            f"note: the scaled learning rate {settings.scaled_lr:.2g} is below min-lr {settings.min_lr:.2g}; "
            "for small batches use --set lr-batch=0"
        )
