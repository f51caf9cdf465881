"""Options of `deit-pipe evaluate`."""

from dataclasses import dataclass

from deit_pipe.stages.options.fields import CheckedOptions, argument, option


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(CheckedOptions):
    """Accuracy of a trained student: class head, distillation head, and both fused.

    Fused by the mean of logits (what timm and the official code do) and by the sum of softmaxes (what the paper says).
    Images without a label are skipped. Published weights, and a run that started from other weights, are measured at
    both published crop ratios, 0.875 and 1, unless one is asked for. In --json, top5 is null where there are no more
    than 5 classes, and by_crop_ratio where one ratio was measured. per_class and confusion are there with --per-class,
    --confusion or --csv, knn, linear_probe and speed with these options. Neighbours and probe compare the student's
    vectors (see deit-pipe features) with those of the training images.

    Examples:
      deit-pipe evaluate ./student-run
      deit-pipe evaluate runs/ti --split test
      deit-pipe evaluate runs/ti --data imagenet/val --device cuda --json
      deit-pipe evaluate runs/ti --teacher-weights teacher-run
      deit-pipe evaluate runs/ti --per-class --confusion --csv pairs.csv --knn 20 --speed
      deit-pipe evaluate deit_small_distilled_patch16_224 --data imagenet/ --device cuda
    """

    run: str = argument(
        "./student-run",
        "A run folder of train-student; or, with --data, an export, a weights file, a Hugging Face folder, a timm tag.",
        metavar="[RUN]",
    )
    data: str | None = option(None, "Other images to evaluate on.  [default: the run's own]", metavar="D")
    student: str | None = option(
        None, "Whose weights a file holds that does not say so: a timm model or custom:WIDTHxDEPTHxHEADS.", metavar="M"
    )
    split: str | None = option(
        None,
        "Which split.  [default: val, else test; of other images without either: all]",
        choices=("train", "val", "test"),
    )
    weights: str = option("result", "Which of the run's weights.", choices=("result", "best", "last"))
    teacher_weights: str | None = option(
        None,
        "Also run this teacher (train-teacher folder) on the images and report agreement with it.",
        metavar="DIR",
    )
    eval_crop_ratio: float | None = option(None, "Crop ratio.  [default: the run's]", minimum=0.1, maximum=1.0)
    per_class: bool = option(False, "Accuracy of every class, and what it is taken for.")
    confusion: bool = option(False, "What is taken for what: a table of up to 20 classes, the commonest of more.")
    csv: str | None = option(
        None, "Write how often each class is taken for each: class, said, images.", metavar="FILE.csv"
    )
    knn: int | None = option(
        None, "Also the accuracy of the K nearest training images (cosine).", metavar="K", minimum=1
    )
    linear_probe: bool = option(False, "Also the accuracy of a linear classifier fitted to the training images.")
    speed: bool = option(False, "Also milliseconds for one image, images a second, multiply-adds, bytes.")
    batch_size: int = option(128, "Images at once.", minimum=1)
    workers: int | None = option(None, "Processes that decode.  [default: one per core, at most 16]", minimum=0)
    device: str = option("auto", "auto, cpu, cuda, cuda:1, ...")
