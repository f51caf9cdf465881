"""Options of `deit-pipe predict`."""

from dataclasses import dataclass

from deit_pipe.stages.options.fields import REQUIRED, CheckedOptions, argument, option


@dataclass(frozen=True, kw_only=True)
class PredictOptions(CheckedOptions):
    """What a student says of images: the likeliest classes of each head, and of both fused (mean of logits).

    Images are seen as in evaluation: short side resized, centre cut out. One that cannot be read is named after all
    others were answered, and the exit code is 6.

    --json has the keys run, model, image_size, images (image, and for each head a list of class, label, probability)
    and unreadable (image, why).

    Examples:
      deit-pipe predict ./student-run photo.jpg
      deit-pipe predict runs/ti photos/ --top-k 1 --csv answers.csv
      find . -name '*.jpg' | deit-pipe predict runs/ti/export/timm - --json
      deit-pipe predict deit_tiny_distilled_patch16_224 photos/ --picture answers.png
    """

    run: str = argument(
        REQUIRED,
        "A run folder of train-student, an export, a weights file, a Hugging Face folder, or a timm tag.",
        metavar="RUN",
    )
    images: tuple[str, ...] = argument(
        REQUIRED, "Files, folders (all images below them), or - for a list of them on stdin.", metavar="IMAGES..."
    )
    top_k: int = option(3, "Classes to name for each head.", minimum=1)
    csv: str | None = option(None, "Write a row for every image, head and class.", metavar="FILE.csv")
    picture: str | None = option(None, "Write the images with what is said of them.", metavar="FILE.png")
    student: str | None = option(
        None, "Whose weights a file holds that does not say so: a timm model or custom:WIDTHxDEPTHxHEADS.", metavar="M"
    )
    weights: str = option("result", "Which of the run's weights.", choices=("result", "best", "last"))
    batch_size: int = option(16, "Images at once.", minimum=1)
    device: str = option("auto", "auto, cpu, cuda, cuda:1, ...")
