"""Options of `deit-pipe export`."""

from dataclasses import dataclass

from deit_pipe.stages.options.fields import CheckedOptions, argument, option


@dataclass(frozen=True, kw_only=True)
class ExportOptions(CheckedOptions):
    """Write a trained student for use elsewhere, and check the copy's answers against the run's.

    timm: a safetensors file that timm.create_model(NAME, checkpoint_path=FILE) loads, with its configuration beside
    it. onnx: a single-output graph of the fused heads (mean of logits), normalisation not included. FILE.sums beside it
    holds their SHA-256, for sha256sum -c.

    Examples:
      deit-pipe export ./student-run --out student.safetensors
      deit-pipe export runs/ti --format onnx --out ti.onnx
    """

    run: str = argument("./student-run", "A run folder of train-student.", metavar="[RUN]")
    format: str = option("timm", "What to write.", choices=("timm", "onnx"))
    out: str | None = option(None, "File to write.  [default: RUN/export/student.safetensors or .onnx]", flags=("-o",))
    weights: str = option("result", "Which of the run's weights.", choices=("result", "best", "last"))
