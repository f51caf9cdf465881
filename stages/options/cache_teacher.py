"""Options of `deit-pipe cache-teacher`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from deit_pipe.stages.options.data import DataOptions
from deit_pipe.stages.options.fields import option, setting

# Headings of the help.
TEACHER, CACHE, MACHINE = "Teacher", "Data, views and cache", "Machine"


@dataclass(frozen=True, kw_only=True)
class CacheTeacherOptions(DataOptions):
    """Run a frozen teacher once over seeded views and write its answers to a cache.

    Running the same command again resumes, a larger --epochs extends, and another --teacher joins the same views.
    What is already there is checked first and damaged blocks are made again. Start it under torchrun to use several
    GPUs.

    Which images are which split, and what was left out, is said first and recorded; train-student, evaluate and
    inspect-cache take it from the cache. Before anything is cached the teacher is measured on plain validation images,
    and refused where its answers are worth nothing.

    Examples:
      deit-pipe cache-teacher --teacher regnety_160
      deit-pipe cache-teacher --teacher regnety_160 --data imagenet/ --cache cache/ --epochs 30 --device cuda
      deit-pipe cache-teacher --teacher resnet18 --teacher-weights my.safetensors --data photos/ --logits topk:10@1,3
      deit-pipe cache-teacher --teacher regnet_y_16gf --teacher-weights regnet_y_16gf.pth --data imagenet/
      deit-pipe cache-teacher --teacher my_nets:teacher --teacher-mean 0.5,0.5,0.5 --teacher-std 0.5,0.5,0.5
      deit-pipe cache-teacher --teacher vit_base_patch16_384 --teacher-img-size 384 --data imagenet/
      deit-pipe cache-teacher --teacher student-run --cache second-cache/
      deit-pipe cache-teacher --teacher regnety_160 --data imagenet/ --estimate
      deit-pipe cache-teacher --teacher regnety_160 --estimate --samples 1281167
      deit-pipe cache-teacher --teacher resnet18 --data photos/ --labelled-fraction 0.1
    """

    RENAMED: ClassVar[Mapping[str, str]] = {
        "taus": "--logits topk:K@T,T, such as topk:10@1,3",
        "head_only": "--fit-head",
    }

    teacher: str = option(
        "regnety_160",
        "A timm model (regnety_160 means DeiT's own teacher, regnety_160.deit_in1k), a folder of train-student or "
        "export, or package.module:function, which runs that code.",
        metavar="T",
        group=TEACHER,
    )
    teacher_weights: str | None = option(
        None,
        "Weights of a timm model: a file or folder as timm, torchvision, DeiT or Hugging Face name them, or of "
        "train-teacher; 'random' for untrained ones.  [default: ./teacher-run when it holds it, else the hub]",
        metavar="FILE",
        group=TEACHER,
    )
    teacher_mean: str | None = option(
        None,
        "Mean that the teacher's images were normalised with, red, green, blue in units of 0..1.  [default: as its "
        "weights' folder says; else the model's, which is said]",
        metavar="R,G,B",
        group=TEACHER,
    )
    teacher_std: str | None = option(None, "Standard deviation, likewise.", metavar="R,G,B", group=TEACHER)
    teacher_img_size: int | None = option(
        None,
        "Side to which the views are resized for the teacher alone, bicubic, on the device; recorded.  [default: it "
        "sees them as they are; a transformer's positions are resampled]",
        minimum=8,
        maximum=4096,
        metavar="S",
        group=TEACHER,
    )
    fit_head: bool | None = option(
        None,
        "Fit a new classifier on the frozen teacher for your classes.  [default: on for digits, else off]",
        group=TEACHER,
    )
    accept_teacher: bool = option(
        False,
        "Cache a teacher that hardly knows these classes all the same; recorded in the cache.",
        group=TEACHER,
    )
    name: str | None = option(
        None, "Name of this teacher inside the cache.  [default: from the model's tag]", group=TEACHER
    )
    data: str = option(
        "digits",
        "Images: class folders (or train/ and val/ of them), Parquet, IDX or CIFAR folder; or 'digits'.",
        metavar="D",
        group=CACHE,
    )
    cache: str = option(
        "./teacher-cache", "Where the cache lies: a folder, or a URL (s3://, gs://, az://).", metavar="C", group=CACHE
    )
    recipe: str | None = option(
        None,
        "Views: deit, deit3, small, another preset of show-recipe, or a TOML file.  [default: deit; small up to 64 px]",
        metavar="R",
        group=CACHE,
    )
    epochs: int | None = option(
        None,
        "Passes over the data to cache; longer training reuses them in turn.  [default: those that are there; else a "
        "third of what a student of these images would train]",
        minimum=1,
        group=CACHE,
    )
    img_size: int | None = option(
        None,
        "Side of a view in pixels.  [default: 224; 32 where images are at most 64 px]",
        minimum=8,
        metavar="S",
        group=CACHE,
    )
    logits: str = option(
        "dense",
        "What is kept beside labels: dense (fp16 logits, serves every temperature), dense8 (8 bits a logit, half the "
        "bytes), topk:K, or none. Behind an @ the temperatures a topk cache must serve: topk:10@1,3.",
        metavar="dense|dense8|topk:K[@T,T]|none",
        group=CACHE,
    )
    seed: int = option(0, "Seed of all views; recorded, so that stage two cannot mistype it.", minimum=0, group=CACHE)
    block: int | None = setting(
        None,
        "Slots per block, the unit of commit and repair.  [default: 16 MB an object before compression, at most "
        "an eighth of an epoch, at least 256]",
        minimum=1,
    )
    verify: str | None = setting(
        None,
        "How blocks that are there are checked first: sizes, hash (all), or hashes of a share, such as 5%.  [default: "
        "all hashes; of a teacher above 4 GB a share that is about as much, and all sizes; what was checked is said]",
    )
    plan_only: bool = option(
        False,
        "Write the cache's identity, run nothing: enough for --loss none and for online-teacher baselines.",
        group=CACHE,
    )
    wait: bool = option(
        False,
        "Where other jobs make all that is left: stay until it is there, and take over what a dead job left.",
        group=CACHE,
    )
    estimate: bool = option(False, "Say views, time, bytes and free disk, then stop.", group=CACHE)
    samples: int | None = option(
        None,
        "With --estimate: for so many images of the teacher's classes, none of which is there yet.",
        minimum=1,
        metavar="N",
        group=CACHE,
    )
    teacher_rate: float = setting(1000.0, "With --samples: views a second of the teacher.", minimum=0.001)
    device: str = option("auto", "auto, cpu, cuda, cuda:1, ...", group=MACHINE)
    workers: int | None = option(
        None,
        "Threads that make views, processes without the native engine; 0: the main one does.  [default: one per core, "
        "at most 16]",
        minimum=0,
        group=MACHINE,
    )
    batch_size: int | None = option(
        None,
        "Views the teacher sees at once; a teacher that is there keeps its own.  [default: 64, or a little less where "
        "more than 5 % of the work would be padding]",
        minimum=1,
        metavar="B",
        group=MACHINE,
    )
    precision: str = option(
        "fp32",
        "Of the teacher's body; its head always runs in fp32.",
        choices=("fp32", "bf16"),
        group=MACHINE,
    )
