"""Options of `deit-pipe export`."""

from dataclasses import dataclass

from deit_pipe.stages.options.fields import CheckedOptions, argument, option


@dataclass(frozen=True, kw_only=True)
class ExportOptions(CheckedOptions):
    """Write a trained student as a folder that others load with the line that is printed.

    timm: timm.create_model("local-dir:FOLDER", pretrained=True), at any image size, students of own sizes too.
    huggingface: AutoModelForImageClassification.from_pretrained("FOLDER"), with its image processor; students with
    DeiT's architecture. onnx: model.onnx with the outputs fused, class and dist, normalisation not included; class
    names, mean and std are in its metadata. The copy's answers are compared with the run's. README.md is a model card,
    SUMS holds the SHA-256 of the files, for sha256sum -c.

    Examples:
      deit-pipe export ./student-run --out student
      deit-pipe export runs/ti --format huggingface
      deit-pipe export runs/ti --format onnx --out ti-onnx
    """

    run: str = argument("./student-run", "A run folder of train-student.", metavar="[RUN]")
    format: str = option("timm", "What to write.", choices=("timm", "huggingface", "onnx"))
    out: str | None = option(
        None,
        "Folder to write; an earlier export in it is replaced.  [default: RUN/export/FORMAT]",
        metavar="DIR",
        flags=("-o",),
    )
    weights: str = option("result", "Which of the run's weights.", choices=("result", "best", "last"))
