"""Options of `deit-pipe features`."""

from dataclasses import dataclass

from deit_pipe.stages.options.fields import REQUIRED, CheckedOptions, argument, option


@dataclass(frozen=True, kw_only=True)
class FeaturesOptions(CheckedOptions):
    """Write what a student sees in images as vectors: for search, clustering, classifiers of your own.

    A Parquet file with a row for every image: key, split, label, class, and the columns class_token, dist_token and
    patch_mean (mean of the patches), each a float32 list of fixed size, after the last norm. A student without tokens
    has one column, pooled. Images are seen as in evaluation.

    Examples:
      deit-pipe features ./student-run --out features.parquet
      deit-pipe features runs/ti photos/ --out photos.parquet
      deit-pipe features deit_tiny_distilled_patch16_224 imagenet/ --split val --out val.parquet --device cuda
    """

    run: str = argument(
        REQUIRED,
        "A run folder of train-student, an export, a weights file, a Hugging Face folder, or a timm tag.",
        metavar="RUN",
    )
    data: str | None = argument(
        None, "Images, in any form that cache-teacher takes.  [default: the run's own]", metavar="[DATA]"
    )
    out: str = option(REQUIRED, "File to write.", metavar="FILE.parquet", flags=("-o",))
    split: str | None = option(None, "Only this split.  [default: all]", choices=("train", "val", "test"))
    student: str | None = option(
        None, "Whose weights a file holds that does not say so: a timm model or custom:WIDTHxDEPTHxHEADS.", metavar="M"
    )
    weights: str = option("result", "Which of the run's weights.", choices=("result", "best", "last"))
    batch_size: int = option(128, "Images at once.", minimum=1)
    workers: int | None = option(None, "Processes that decode.  [default: one per core, at most 16]", minimum=0)
    device: str = option("auto", "auto, cpu, cuda, cuda:1, ...")
