"""Options of `deit-pipe list-teachers` and `deit-pipe list-students`."""

from dataclasses import dataclass

from deit_pipe.stages.options.fields import CheckedOptions, argument, option

MEASURE = "Also measure images per second here (forward passes without gradients, random weights)."


@dataclass(frozen=True, kw_only=True)
class ListTeachersOptions(CheckedOptions):
    """List models that can teach, with parameters, GMACs, input size and the tags of published weights.

    Without a pattern: networks that are proven teachers. A pattern searches all timm models; * and ? are wildcards,
    and a word finds every name that holds it. The weights of the first tag are the default ones of `--teacher NAME`.

    --json has the key models, each with name, parameters, gmacs, image_size, tags, images_per_second (or null).

    Examples:
      deit-pipe list-teachers
      deit-pipe list-teachers 'regnety*'
      deit-pipe list-teachers convnext --limit 0
      deit-pipe list-teachers resnet50 --measure --device cuda
    """

    pattern: str | None = argument(None, "Which models.  [default: proven teachers]", metavar="[PATTERN]")
    measure: bool = option(False, MEASURE)
    img_size: int | None = option(
        None, "Input size to count and measure at.  [default: the model's own]", minimum=8
    )
    batch_size: int = option(64, "Images at once, for --measure.", minimum=1)
    device: str = option("auto", "For --measure: auto, cpu, cuda, ...")
    limit: int = option(30, "Most models to list; 0: all.", minimum=0)


@dataclass(frozen=True, kw_only=True)
class ListStudentsOptions(CheckedOptions):
    """List students: timm's distilled vision transformers, with parameters, GMACs, input size and tags.

    --measure times the forward and backward pass of a training step. Any other timm model can be a student too;
    without a distillation head the one head learns from the label and from the teacher.

    --json has the key models, each with name, parameters, gmacs, image_size, tags, images_per_second (or null).

    Examples:
      deit-pipe list-students
      deit-pipe list-students --measure --batch-size 16
      deit-pipe list-students 'vit_tiny*'
    """

    pattern: str | None = argument(None, "Which models.  [default: distilled students]", metavar="[PATTERN]")
    measure: bool = option(
        False, "Also measure images per second here (forward and backward, random weights)."
    )
    img_size: int | None = option(
        None, "Input size to count and measure at.  [default: the model's own]", minimum=8
    )
    batch_size: int = option(64, "Images at once, for --measure.", minimum=1)
    device: str = option("auto", "For --measure: auto, cpu, cuda, ...")
    limit: int = option(30, "Most models to list; 0: all.", minimum=0)
