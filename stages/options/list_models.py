"""Options of `deit-pipe list-models`."""

from dataclasses import dataclass

from deit_pipe.stages.options.fields import CheckedOptions, argument, option


@dataclass(frozen=True, kw_only=True)
class ListModelsOptions(CheckedOptions):
    """List models that can teach or learn, with parameters, GMACs, input size and the tags of published weights.

    Without a pattern: networks that are proven teachers, and students with a distillation head. A pattern searches
    all timm models; * and ? are wildcards, and a word finds every name that holds it. The weights of the first tag are
    the default ones of `--teacher NAME`. Any timm model can be a student; without a distillation head the one head
    learns from the label and from the teacher.

    --measure times a teacher's forward passes, and a student's forward and backward passes.

    --json has the keys models and matches; each model has name, role (teacher, student, or null under a pattern),
    parameters, gmacs, image_size, tags, images_per_second (or null).

    Examples:
      deit-pipe list-models
      deit-pipe list-models --role student
      deit-pipe list-models 'regnety*'
      deit-pipe list-models convnext --limit 0
      deit-pipe list-models resnet50 --measure --device cuda
      deit-pipe list-models deit_tiny --role student --measure --batch-size 16
    """

    pattern: str | None = argument(
        None, "Which models.  [default: proven teachers and distilled students]", metavar="[PATTERN]"
    )
    role: str | None = option(
        None,
        "Only the usual models of this role; with a pattern, the passes that --measure times.  [default: both; "
        "a pattern's models as teachers]",
        choices=("teacher", "student"),
    )
    measure: bool = option(False, "Also measure images per second here, with random weights.")
    img_size: int | None = option(None, "Input size to count and measure at.  [default: the model's own]", minimum=8)
    batch_size: int = option(64, "Images at once, for --measure.", minimum=1)
    device: str = option("auto", "For --measure: auto, cpu, cuda, ...")
    limit: int = option(30, "Most models to list; 0: all.", minimum=0)
