"""Published training settings, as a function of the recipe, the student's size and where it starts from.

Sources: DeiT arXiv 2012.12877 table 9 and facebookresearch/deit main.py, README_deit.md; DeiT III arXiv 2204.07118 and
README_revenge.md. Each number stands beside theirs in pipeline/RECIPES.md. `small` was tuned here, on the embedded
digits; `few` and `transfer` follow from it, with epochs and rate by images and width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

Size = Literal["Ti", "S", "B", "L", "H"]

LR_BATCH = 512
# `few`: as many epochs as the published presets where that is not too many steps, more where it is too few
FEW_STEPS, MOST_STEPS = 3_000, 30_000
FEWEST_EPOCHS, MOST_EPOCHS = 30, 600
FEW_LR, FEW_WIDTH = 3e-3, 64  # of `small`; AdamW's best rate falls with the width of what it trains
# Of `transfer`: gentler to what is there already. At DeiT-B's width it is 8.3e-5; DeiT's for iNaturalist is 7.5e-5.
TRANSFER_LR = 1e-3


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

PRESETS: Mapping[str, TrainingSettings] = MappingProxyType(
    {
        "deit": DEIT,
        # 800 epochs of LAMB, not scaled; apex's LAMB clips the global gradient norm to 1. Of S; see DEIT3.
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
        # 224 -> 384: 30 epochs at a constant 5e-6 for 512 images, almost no weight decay. README_deit.md names no drop
        # path, which leaves main.py's 0.1.
        "finetune": replace(DEIT, epochs=30, batch_size=512, lr=5e-6, min_lr=5e-6, weight_decay=1e-8),
        # 20 epochs at a constant 1e-5, not scaled. Of S; see DEIT3_FINETUNE.
        "deit3-finetune": replace(
            DEIT, epochs=20, batch_size=512, lr=1e-5, lr_batch=0, weight_decay=0.1, drop_path=0.0
        ),
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
        # for less data than the published settings need; epochs and rate follow from images and width: see few_images
        "few": replace(DEIT, batch_size=64, lr=FEW_LR, lr_batch=0, drop_path=0.0),
        # new heads on a trained student: see few_images
        "transfer": replace(DEIT, batch_size=64, lr=TRANSFER_LR, lr_batch=0, drop_path=0.0),
    }
)

# DeiT III: peak rate and drop path by size. Ti is not published; it has S's.
DEIT3: Mapping[Size, tuple[float, float]] = MappingProxyType(
    {"Ti": (4e-3, 0.05), "S": (4e-3, 0.05), "B": (3e-3, 0.2), "L": (3e-3, 0.45), "H": (3e-3, 0.6)}
)
# Its fine-tuning: drop path by size, at 224 px and at 384 px. Ti has S's; S at 224 and H at 384 are not published.
DEIT3_FINETUNE: Mapping[Size, tuple[float, float]] = MappingProxyType(
    {"Ti": (0.0, 0.0), "S": (0.0, 0.0), "B": (0.2, 0.15), "L": (0.45, 0.4), "H": (0.55, 0.55)}
)
BY_NAME: Mapping[str, Size] = MappingProxyType({"tiny": "Ti", "small": "S", "base": "B", "large": "L", "huge": "H"})


def size_of(student: str) -> Size:
    """The published size that a student's name says; S for any other."""
    return next((size for word, size in BY_NAME.items() if word in student.split("_")), "S")


def published(preset: str, size: Size = "S", image_size: int = 224) -> TrainingSettings:
    """A preset for a student of this size and views of this side; DeiT's own are the same for all."""
    settings = PRESETS[preset]
    if preset == "deit3":
        lr, drop_path = DEIT3[size]
        return replace(settings, lr=lr, drop_path=drop_path)
    if preset == "deit3-finetune":
        return replace(settings, drop_path=DEIT3_FINETUNE[size][image_size >= 384])
    return settings


def few_images(num_samples: int, width: int, epochs: int | None = None, preset: str = "few") -> TrainingSettings:
    """Preset `few` or `transfer` for this many images and a student of this token width.

    Unless they are given, the epochs make 3,000 to 30,000 steps where 30 to 600 of them can. A twentieth of them is
    warm-up; the rate falls with the width, from the preset's at 64.
    """
    settings = PRESETS[preset]
    per_epoch = max(1, num_samples // settings.batch_size)
    if epochs is None:
        epochs = min(max(DEIT.epochs, -(-FEW_STEPS // per_epoch)), MOST_STEPS // per_epoch)
        epochs = min(max(epochs, FEWEST_EPOCHS), MOST_EPOCHS)
    lr = float(f"{settings.lr * FEW_WIDTH / max(FEW_WIDTH, width):.2g}")
    return replace(settings, epochs=epochs, lr=lr, warmup_epochs=max(1, epochs // 20))
