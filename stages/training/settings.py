"""Published training settings, and what a run really uses: a preset overlaid with the options that were given.

Sources: DeiT arXiv 2012.12877 table 9 and facebookresearch/deit main.py, README_deit.md; DeiT III arXiv 2204.07118 and
README_revenge.md. `small` was tuned here, on the embedded digits, and `few` follows from it.
"""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple

from deit_pipe.pipeline.recipe import Recipe, preset_name
from deit_pipe.stages.options.set_values import settable
from deit_pipe.stages.options.train_student import TrainStudentOptions

LR_BATCH = 512
# AdamW's second moments remember 1,000 steps (beta2 0.999). A run of less than ten such memories is over before the
# rates have settled: then smaller batches, which make more steps of the same views, are better.
ENOUGH_STEPS = 10_000
# `few`: as many epochs as the published presets where that is not too many steps, more where it is too few
FEW_STEPS, MOST_STEPS = 3_000, 30_000
FEWEST_EPOCHS, MOST_EPOCHS = 30, 600
FEW_LR, FEW_WIDTH = 3e-3, 64  # of `small`; AdamW's best rate falls with the width of what it trains


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Values that a preset decides; names and units as the options of train-student."""

    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    lr_batch: int
    warmup_epochs: int
    warmup_lr: float
    min_lr: float
    weight_decay: float
    clip_grad: float
    drop_path: float
    label_loss: str
    smoothing: float

    @property
    def scaled_lr(self) -> float:
        """Peak learning rate really used: lr x batch / lr_batch, or lr itself where lr_batch is 0."""
        return self.lr * self.batch_size / self.lr_batch if self.lr_batch else self.lr


DEIT = TrainingSettings(
    epochs=300,
    batch_size=1024,
    optimizer="adamw",
    lr=5e-4,
    lr_batch=LR_BATCH,
    warmup_epochs=5,
    warmup_lr=1e-6,
    min_lr=1e-5,
    weight_decay=0.05,
    clip_grad=0.0,
    drop_path=0.1,
    label_loss="ce",
    smoothing=0.1,
)

PRESETS: dict[str, TrainingSettings] = {
    "deit": DEIT,
    # 800 epochs of LAMB with unscaled 4e-3 (S; 3e-3 for B, L, H: see resolve_settings); apex's LAMB clips the global
    # gradient norm to 1
    "deit3": replace(
        DEIT,
        epochs=800,
        batch_size=2048,
        optimizer="lamb",
        lr=4e-3,
        lr_batch=0,
        clip_grad=1.0,
        drop_path=0.05,
        label_loss="bce",
        smoothing=0.0,
    ),
    # 224 -> 384: 30 epochs at a constant 5e-6 for 512 images, almost no weight decay
    "finetune": replace(DEIT, epochs=30, batch_size=512, lr=5e-6, min_lr=5e-6, weight_decay=1e-8),
    "small": replace(
        DEIT,
        epochs=45,
        batch_size=64,
        lr=3e-3,
        lr_batch=0,
        warmup_epochs=3,
        min_lr=1e-5,
        drop_path=0.0,
        smoothing=0.1,
    ),
    # for less data than the published settings need; epochs and rate are decided by images and width: see few_images
    "few": replace(DEIT, batch_size=64, lr=1e-3, lr_batch=0, drop_path=0.0),
}

BY_RECIPE = {"deit": "deit", "deit3": "deit3", "small": "small"}


class ChosenPreset(NamedTuple):
    """A preset's name, and why it was taken; no reason where it was asked for."""

    name: str
    reason: str = ""


def choose_preset(
    options: TrainStudentOptions, recipe: Recipe, image_size: int, num_samples: int | None
) -> ChosenPreset:
    """The asked preset; else `finetune` when starting from a run, else the one that goes with recipe and images.

    Published settings are for a million images. Where they would make too few steps of the images there are, `few` is
    taken instead; `num_samples` None leaves that out.
    """
    if options.preset:
        return ChosenPreset(options.preset)
    if options.init_from:
        return ChosenPreset("finetune", "it starts from another run")
    by_recipe = BY_RECIPE.get(preset_name(recipe))
    if by_recipe is None:
        by_recipe = "small" if image_size < 160 else "deit"
        reason = f"views of {image_size} px"
    else:
        reason = f"the cache's recipe is {by_recipe}"
    if by_recipe != "small" and num_samples is not None:
        published = PRESETS[by_recipe]
        steps = published.epochs * max(1, num_samples // published.batch_size)
        if steps < ENOUGH_STEPS:
            return ChosenPreset(
                "few",
                f"preset {by_recipe} would make {steps:,} steps of {num_samples:,} images, fewer than {ENOUGH_STEPS:,}",
            )
    return ChosenPreset(by_recipe, reason)


def few_images(num_samples: int, width: int, epochs: int | None = None) -> TrainingSettings:
    """Preset `few` for this many images and a student of this token width.

    Unless they are given, the epochs make 3,000 to 30,000 steps where 30 to 600 of them can. A twentieth of them is
    warm-up; the rate is that of `small` by width.
    """
    preset = PRESETS["few"]
    per_epoch = max(1, num_samples // preset.batch_size)
    if epochs is None:
        epochs = min(max(DEIT.epochs, -(-FEW_STEPS // per_epoch)), MOST_STEPS // per_epoch)
        epochs = min(max(epochs, FEWEST_EPOCHS), MOST_EPOCHS)
    lr = float(f"{FEW_LR * FEW_WIDTH / max(FEW_WIDTH, width):.2g}")
    return replace(preset, epochs=epochs, lr=lr, warmup_epochs=max(1, epochs // 20))


def resolve_settings(
    options: TrainStudentOptions,
    preset: str,
    student: str = "",
    *,
    num_samples: int = 1,
    width: int = FEW_WIDTH,
) -> TrainingSettings:
    """The preset for this student (and, for `few`, these images), with every option that was given in its place."""
    published = few_images(num_samples, width, options.epochs) if preset == "few" else PRESETS[preset]
    if preset == "deit3" and any(size in student for size in ("base", "large", "huge")):
        published = replace(published, lr=3e-3)
    given: dict[str, Any] = {
        item.name: getattr(options, item.name)
        for item in fields(TrainingSettings)
        if getattr(options, item.name) is not None
    }
    return replace(published, **given)


def resolve_alpha(options: TrainStudentOptions) -> float:
    """As given; else the paper's: 1/2 for hard (eq. 3), 0.1 for soft (section 6.1: lambda 0.1, tau 3)."""
    if options.alpha is not None:
        return options.alpha
    return {"none": 0.0, "hard": 0.5, "soft": 0.1}[options.loss]


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
