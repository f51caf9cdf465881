"""Options of `deit-pipe train-teacher`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from deit_pipe.stages.options.data import DataOptions
from deit_pipe.stages.options.fields import option, setting

# Headings of the help.
TEACHER, RUN, MACHINE = "Teacher", "Run", "Machine"


@dataclass(frozen=True, kw_only=True)
class TrainTeacherOptions(DataOptions):
    """Fine-tune a timm CNN on your classes, for use as a teacher.

    A teacher that does not know the classes is worth nothing. The folder it writes is what cache-teacher takes as
    --teacher-weights, and finds by itself as ./teacher-run.

    Examples:
      deit-pipe train-teacher --teacher resnet10t --init scratch
      deit-pipe train-teacher --teacher regnety_160 --data photos/ --epochs 20 --device cuda
      deit-pipe train-teacher --teacher regnety_160 --data photos/ --fit-head
    """

    RENAMED: ClassVar[Mapping[str, str]] = {"head_only": "--fit-head"}

    teacher: str = option("regnety_160", "A timm model.", metavar="T", group=TEACHER)
    data: str = option(
        "digits",
        "Images, as in cache-teacher; its accuracy is measured on the val split, else on test.",
        metavar="D",
        group=TEACHER,
    )
    out: str = option("./teacher-run", "Folder for the trained teacher.", metavar="DIR", flags=("-o",), group=TEACHER)
    init: str = option(
        "auto",
        "Starting weights: pretrained, scratch, a file, or auto (pretrained if reachable, else scratch; said).",
        metavar="auto|pretrained|scratch|FILE",
        group=TEACHER,
    )
    fit_head: bool = option(False, "Keep the network frozen and fit a new classifier on its features.", group=TEACHER)
    epochs: int = option(10, "Passes over the data (not with --fit-head).", minimum=1, group=RUN)
    recipe: str | None = option(None, "Views.  [default: basic; small up to 64 px]", metavar="R", group=RUN)
    img_size: int | None = option(
        None, "Side of a view.  [default: 224; 32 where images are at most 64 px]", minimum=8, group=RUN
    )
    batch_size: int = option(64, "Images a step.", minimum=1, metavar="B", group=RUN)
    lr: float = option(1e-3, "Peak learning rate (AdamW, one epoch of warmup, cosine to zero).", minimum=0.0, group=RUN)
    seed: int = option(0, "Seed of weights and views.", minimum=0, group=RUN)
    weight_decay: float = setting(0.05, "Weight decay.  [default: 0.05]", minimum=0.0)
    smoothing: float = setting(0.1, "Label smoothing, on true labels only.  [default: 0.1]", minimum=0.0, maximum=0.9)
    device: str = option("auto", "auto, cpu, cuda, cuda:1, ...", group=MACHINE)
    workers: int | None = option(
        None,
        "Threads that make views; processes without the native engine.  [default: one per core, at most 16]",
        minimum=0,
        group=MACHINE,
    )
    precision: str = option("fp32", "Arithmetic of the forward pass.", choices=("fp32", "bf16"), group=MACHINE)
