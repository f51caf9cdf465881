"""What a run really uses: a published preset, chosen by recipe, images and start, overlaid with what was given."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple

from deit_pipe.pipeline.recipe import Recipe, preset_name
from deit_pipe.stages.options.set_values import settable
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.training.published import FEW_WIDTH, PRESETS, TrainingSettings, few_images, published, size_of

# AdamW's second moments remember 1,000 steps (beta2 0.999). A run of less than ten such memories is over before the
# rates have settled: then smaller batches, which make more steps of the same views, are better.
ENOUGH_STEPS = 10_000
BY_RECIPE = {"deit": "deit", "deit3": "deit3", "small": "small"}
# Beyer et al., arXiv 2106.05237: a student that is to match its teacher's function needs the teacher's views, its
# probabilities, and patience. Values measured here: tests/benchmarks/RESULTS.md, "Reuse".
PATIENT, PATIENCE, PATIENT_ALPHA = "patient", 4, 0.9
BY_IMAGES = ("few", "transfer")  # presets whose epochs and rate follow from images and width


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a student starts from.

    Attributes:
        tuned: whether it starts from trained weights.
        new_heads: whether those knew other classes, so that its heads are replaced.
        by_size: whether published numbers are taken by size and start, as they are since settings rules 3.
    """

    tuned: bool = False
    new_heads: bool = False
    by_size: bool = True


class ChosenPreset(NamedTuple):
    """A preset's name, and why it was taken; no reason where it was asked for.

    `values` is the preset whose numbers are used: its own, or those of the one that preset patient prolongs.
    """

    name: str
    reason: str = ""
    prolonged: str = ""

    @property
    def values(self) -> str:
        """Key of `PRESETS`."""
        return self.prolonged or self.name


def choose_preset(
    options: TrainStudentOptions,
    recipe: Recipe,
    image_size: int,
    num_samples: int | None,
    start: Start | None = None,
) -> ChosenPreset:
    """The asked preset; else one of fine-tuning when starting from a run, else the one of recipe and images.

    Published settings are for a million images. Where they would make too few steps of the images there are, `few` is
    taken instead; `num_samples` None leaves that out.
    """
    start = start or Start(tuned=bool(options.init_from))
    if options.preset == PATIENT:
        usual = choose_preset(replace(options, preset=None), recipe, image_size, num_samples, start)
        return ChosenPreset(PATIENT, f"{PATIENCE} times the epochs of {usual.name}: {usual.reason}", usual.name)
    if options.preset:
        return ChosenPreset(options.preset)
    family = preset_name(recipe).partition("-")[0]
    if start.tuned and start.by_size:
        if start.new_heads:
            return ChosenPreset("transfer", "it starts from trained weights of other classes: its heads are new")
        if family == "deit3":
            return ChosenPreset("deit3-finetune", "it starts from trained weights, with a recipe of DeiT III")
    if start.tuned:
        return ChosenPreset("finetune", "it starts from trained weights")
    by_recipe = BY_RECIPE.get(family)
    if by_recipe is None:
        by_recipe = "small" if image_size < 160 else "deit"
        reason = f"views of {image_size} px"
    else:
        reason = f"the cache's recipe is {preset_name(recipe)}"
    if by_recipe != "small" and num_samples is not None:
        settings = PRESETS[by_recipe]
        steps = settings.epochs * max(1, num_samples // settings.batch_size)
        if steps < ENOUGH_STEPS:
            return ChosenPreset(
                "few",
                f"preset {by_recipe} would make {steps:,} steps of {num_samples:,} images, fewer than {ENOUGH_STEPS:,}",
            )
    return ChosenPreset(by_recipe, reason)


def resolve_settings(
    options: TrainStudentOptions,
    preset: str,
    student: str = "",
    *,
    num_samples: int = 1,
    width: int = FEW_WIDTH,
    image_size: int = 224,
    by_size: bool = True,
) -> TrainingSettings:
    """The preset for this student (and, for some, these images), with every option that was given in its place."""
    if preset in BY_IMAGES:
        settings = few_images(num_samples, width, options.epochs, preset)
    else:
        settings = published(preset, size_of(student), image_size)
    if preset == "deit3" and not by_size:  # a run that an older version began
        settings = replace(settings, drop_path=PRESETS["deit3"].drop_path)
    if options.preset == PATIENT:
        settings = replace(settings, epochs=PATIENCE * settings.epochs)
    given: dict[str, Any] = {
        item.name: getattr(options, item.name)
        for item in fields(TrainingSettings)
        if getattr(options, item.name) is not None
    }
    return replace(settings, **given)


def loss_kind(options: TrainStudentOptions) -> str:
    """As given; else soft for preset patient, hard for any other."""
    return options.loss or ("soft" if options.preset == PATIENT else "hard")


def resolve_alpha(options: TrainStudentOptions) -> float:
    """As given; else the paper's: 1/2 for hard (eq. 3), 0.1 for soft (section 6.1: lambda 0.1, tau 3); 1/2 for mse.

    Preset patient is about the teacher's function: 0.9 for any distillation; the rest keeps the class head in training.
    """
    if options.alpha is not None:
        return options.alpha
    kind = loss_kind(options)
    if options.preset == PATIENT and kind != "none":
        return PATIENT_ALPHA
    return {"none": 0.0, "hard": 0.5, "soft": 0.1, "mse": 0.5}[kind]


def resolved_config(options: TrainStudentOptions, settings: TrainingSettings, **decided: Any) -> dict[str, Any]:
    """Every option with the value that is used; what is decided elsewhere (alpha, student, precision...) as given."""
    config = {**asdict(options), **asdict(settings), **decided}
    for name in ("print_config", "seeds"):  # of the call, not of the run
        config.pop(name)
    return config


def config_as_toml(config: dict[str, Any]) -> str:
    """A `[train-student]` table that deit-pipe.toml takes as it is; options without a value are left as comments.

    What is no option of its own on the command line is explained beside its value.
    """
    helps = {key: item.metadata["help"].partition("[default")[0] for key, item in settable(TrainStudentOptions).items()}
    lines = ["[train-student]"]
    for name, value in config.items():
        key = name.replace("_", "-")
        meaning = helps.get(key, "").strip().removesuffix(".")
        if value is None:
            lines.append(f"# {key} is not set" + (f": {meaning}" if meaning else ""))
            continue
        if isinstance(value, bool):
            said = str(value).lower()
        elif isinstance(value, str):
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            said = f'"{escaped}"'
        else:
            said = repr(value)
        lines.append(f"{key} = {said}" + (f"  # {meaning}" if meaning else ""))
    return "\n".join(lines)
