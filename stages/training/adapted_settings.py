"""Settings made possible for the images there are: a batch that exists, a warm-up that ends. No torch.

What a preset says is adapted, with a line that says so; what was asked for by name is adapted only where its meaning is
plain (a batch larger than the data is all of them), else refused.
"""

from dataclasses import replace

from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.training.published import TrainingSettings

# Kept with a run, which goes on with the rules it was begun with. 2: what the images cannot serve is adapted.
SETTINGS_RULES = 3
BY_SIZE = 3  # from these rules on, published numbers are taken by the student's size and start


def adapt_settings(
    settings: TrainingSettings, options: TrainStudentOptions, preset: str, plan: ViewPlan, world: int
) -> tuple[TrainingSettings, list[str]]:
    """Settings that the plan can serve, and a line for each that was changed.

    Raises:
        UsageProblem: a warm-up that was asked for does not end; processes cannot share so few images.
        PlanError: a batch that was asked for cuts mix groups apart.
    """
    batched, batch_lines = adapt_batch(settings, options, preset, plan, world)
    warmed, warmup_lines = adapt_warmup(batched, options, preset)
    return warmed, batch_lines + warmup_lines


def adapt_batch(
    settings: TrainingSettings, options: TrainStudentOptions, preset: str, plan: ViewPlan, world: int
) -> tuple[TrainingSettings, list[str]]:
    """A batch of whole groups for every process that an epoch can fill; all views where they are less than a group.

    The learning rate scales with the views that are really in a step, since it follows `batch_size`.
    """
    asked, views = options.batch_size is not None, plan.num_slots
    unit = world * plan.mix_group
    parts = unit * options.accumulate
    size = settings.batch_size
    if size <= views and not (size == views < unit and world == 1):
        if asked:
            plan.check_batch(size, world * options.accumulate)
        if size % parts == 0:
            return settings, []
        fitting = max(parts, size // parts * parts)
        why = f"is not a multiple of {parts} (processes x parts x mix group)"
    else:
        fitting, why = views + 1, f"is more than the {views:,} views of an epoch"
    if fitting > views:
        fitting = views // parts * parts or views // unit * unit or (views if world == 1 else 0)
    if not fitting:  # unequal shares would weigh unequally
        raise UsageProblem(
            f"{world} processes cannot share {views} views an epoch evenly",
            expected=f"at least {unit} (processes x mix group)",
            cure="start fewer processes",
        )
    changed = replace(settings, batch_size=fitting)
    if fitting == size:
        return changed, []
    rate = (
        f"the learning rate is {changed.scaled_lr:.3g} (= {settings.lr:g} x {fitting} / {settings.lr_batch})"
        if settings.lr_batch
        else f"the learning rate stays {settings.lr:g}"
    )
    source = "--batch-size" if asked else f"the batch of preset {preset},"
    return changed, [f"note: {source} {size:,} {why}: a step has {fitting:,}, {rate}"]


def adapt_warmup(
    settings: TrainingSettings, options: TrainStudentOptions, preset: str
) -> tuple[TrainingSettings, list[str]]:
    """A warm-up that ends before the run does: a preset's is cut to a fifth of the run."""
    warmup, epochs = settings.warmup_epochs, settings.epochs
    if not warmup or warmup < epochs:
        return settings, []
    if options.warmup_epochs is not None:
        raise UsageProblem(
            f"warmup-epochs {warmup} is not shorter than the run of {epochs} epochs: "
            f"its peak learning rate would never be reached; use at most {epochs - 1}"
        )
    short = max(1, epochs // 5) if epochs > 1 else 0
    line = f"note: the warm-up of preset {preset}, {warmup} epochs, is cut to {short}: the run has {epochs}"
    return replace(settings, warmup_epochs=short), [line]


def step_slots(batch_size: int, plan: ViewPlan) -> int:
    """The global batch as the plan takes it: whole groups; more than there are where the views are less than one."""
    return -(-batch_size // plan.mix_group) * plan.mix_group
