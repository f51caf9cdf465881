"""The student with everything that trains it, made from decisions: threads, seeds, optimiser, average, processes."""

import torch
from timm.layers import convert_sync_batchnorm
from timm.utils import ModelEmaV3
from torch import nn

from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.console.progress import note
from deit_pipe.stages.machine.cost_model import reuse_line
from deit_pipe.stages.machine.distributed import Processes
from deit_pipe.stages.networks.adapted_weights import start_from
from deit_pipe.stages.networks.starting_weights import find_start
from deit_pipe.stages.networks.student import StudentFacts, build_student
from deit_pipe.stages.networks.two_heads import has_two_heads
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.training.decisions import Decisions
from deit_pipe.stages.training.optim import make_optimizer
from deit_pipe.stages.training.trainer import Schedule, Trainer

TINY_STUDENT = 1_000_000


def build_trainer(
    options: TrainStudentOptions, decided: Decisions, facts: StudentFacts, recipe: Recipe, group: Processes
) -> Trainer:
    """Seed, make the student, start it from other weights where asked for, and wrap it for training.

    A teacher in the loop must be loaded before, so that it cannot change what the student and its drop path draw.
    """
    torch.manual_seed(options.seed)
    student = build_student(facts).to(group.device)
    threads = choose_threads(options, student)
    if threads:
        torch.set_num_threads(threads)
    if options.init_from:
        for line in start_from(student, facts, find_start(options.init_from, options.student)).lines:
            if group.first:
                note(line)
    torch.manual_seed((options.seed << 20) + 1 + group.rank)
    return make_trainer(options, decided, student, facts, recipe, group)


def choose_threads(options: TrainStudentOptions, student: nn.Module) -> int | None:
    """CPU threads as asked; one for a tiny student, which more would only slow down; None leaves torch's own number.

    The number depends on nothing but options, since it can change the last bits of a weight.
    """
    tiny = sum(parameter.numel() for parameter in student.parameters()) < TINY_STUDENT
    return options.threads or (1 if tiny else None)


def make_trainer(
    options: TrainStudentOptions,
    decided: Decisions,
    student: nn.Module,
    facts: StudentFacts,
    recipe: Recipe,
    group: Processes,
) -> Trainer:
    """The student with its optimiser, averaged copy, compiled and distributed forms."""
    if options.grad_checkpointing:
        student.set_grad_checkpointing(True)  # type: ignore[operator]
    if options.channels_last:
        student = student.to(memory_format=torch.channels_last)
    settings, loss = decided.settings, decided.loss
    student = shared_statistics(student, group)
    optimizer = make_optimizer(student, settings, options.layer_decay)
    if loss.dist_label and not has_two_heads(student):
        raise UsageProblem(
            f"dist-label needs a distillation head, which {facts.model} has not",
            details=["its only head gets both terms already"],
            cure="leave it out, or choose a distilled --student",
        )
    ema = ModelEmaV3(student, decay=options.ema, use_warmup=options.ema_warmup) if options.ema else None
    network: nn.Module = student
    if options.compile:
        network = torch.compile(student)  # type: ignore[assignment]
    if group.world > 1:
        ids = [group.device.index] if group.device.type == "cuda" else None
        # one head has no gradient without distillation
        taught = loss.kind != "none" and loss.alpha > 0
        unused = has_two_heads(student) and (loss.alpha == 1 or not (taught or loss.dist_label))
        network = nn.parallel.DistributedDataParallel(
            network, device_ids=ids, find_unused_parameters=unused, gradient_as_bucket_view=True
        )
    return Trainer(
        student=student,
        network=network,
        facts=facts,
        loss=loss,
        optimizer=optimizer,
        ema=ema,
        recipe=recipe,
        group=group,
        precision=decided.precision,
        clip_grad=settings.clip_grad,
        smoothing=settings.smoothing,
        channels_last=options.channels_last,
    )


def shared_statistics(student: nn.Module, group: Processes) -> nn.Module:
    """A student whose batch normalisation sees the whole step, not a process's share of it.

    GPUs exchange their statistics, so that the step is that of one process. On CPUs torch cannot: each process
    normalises by its own share, and process 0's running statistics are everyone's.
    """
    if group.world == 1 or not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in student.modules()):
        return student
    if group.device.type == "cuda":
        converted: nn.Module = convert_sync_batchnorm(student)
        return converted
    if group.first:
        note("note: on CPUs each process's batch normalisation sees its own share of a step, and not all of it")
    return student


def say_start(
    options: TrainStudentOptions,
    decided: Decisions,
    schedule: Schedule,
    facts: StudentFacts,
    student: nn.Module,
) -> None:
    """One paragraph on stderr: what is trained, on what, at which rate."""
    settings, preset = decided.settings, decided.preset
    parameters = sum(p.numel() for p in student.parameters())
    plan = schedule.plan
    distinct = -(-plan.num_slots // plan.repeats)
    together = ""
    if plan.repeats > 1:
        share = plan.repeats_together(
            schedule.batch_size, order_seed=schedule.order_seed, block_slots=schedule.block_slots
        )
        together = f", {share:.1%} of them with all their views in one step"
    note(
        f"student {facts.model} {facts.image_size} px, {parameters / 1e6:.2f} M parameters, "
        f"preset {preset.name}{f' ({preset.reason})' if preset.reason else ''}, {decided.precision}\n"
        f"{settings.epochs} epochs x {schedule.steps} steps of {min(settings.batch_size, plan.num_slots)} views "
        f"({distinct:,} distinct images x {plan.repeats} an epoch{together}); {schedule.cached_epochs} cached epochs: "
        f"{reuse_line(settings.epochs, schedule.cached_epochs)}\n"
        f"{settings.optimizer} lr {settings.scaled_lr:.3g}"
        + (f" (= {settings.lr:g} x {settings.batch_size} / {settings.lr_batch})" if settings.lr_batch else "")
        + f", weight decay {settings.weight_decay:g}, drop path {settings.drop_path:g}, loss {decided.loss.kind}; "
        f"evaluated at crop ratio {facts.crop_ratio:g} (short side {int(facts.image_size / facts.crop_ratio)} px)"
    )
    if not has_two_heads(student) and decided.loss.kind != "none":
        note(f"note: {facts.model} has no distillation head: both losses go to its only head")
