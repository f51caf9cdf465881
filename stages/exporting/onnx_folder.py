"""A folder with an ONNX graph that answers with every head, and says of itself what whoever uses it must know."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deit_pipe.stages.console.errors import Missing
from deit_pipe.stages.networks.student import StudentFacts
from deit_pipe.stages.networks.two_heads import has_two_heads, heads

GRAPH = "model.onnx"
OPSET = 18
OUTPUTS = ("fused", "class", "dist")


class Answers(nn.Module):
    """A student as a graph: pixels [B, 3, S, S], normalised, to logits [B, C] of both heads fused and of each."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """(fused, class, dist); with a single head (class,)."""
        own, dist = heads(self.model, pixels)
        return (own,) if dist is None else ((own + dist) / 2, own, dist)


def outputs_of(model: nn.Module) -> tuple[str, ...]:
    """Names of the graph's outputs."""
    return OUTPUTS if has_two_heads(model) else ("class",)


def write_onnx(model: nn.Module, facts: StudentFacts, folder: Path, pixels: Tensor, expected: Tensor) -> float:
    """Write the graph, run it; the largest difference of a logit of its first output.

    Raises:
        Missing: onnx is not installed.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch's exporter needs it, and says so late
    except ImportError as error:
        raise Missing(
            f"the ONNX export needs {error.name}", cure="install it with: pip install 'deit-pipe[onnx]'"
        ) from error
    names = outputs_of(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        program: Any = torch.onnx.export(
            Answers(model).eval(),
            (pixels[:2],),
            input_names=["pixels"],
            output_names=list(names),
            dynamo=True,
            dynamic_shapes={"pixels": {0: torch.export.Dim("batch", min=1, max=65536)}},
            opset_version=OPSET,
            verbose=False,
        )
    program.model.metadata_props.update(metadata(facts))
    program.save(str(folder / GRAPH), external_data=False)
    session = onnxruntime.InferenceSession(str(folder / GRAPH), providers=["CPUExecutionProvider"])
    answers = session.run([names[0]], {"pixels": pixels.numpy()})[0]
    return float((torch.from_numpy(answers) - expected).abs().max())


def metadata(facts: StudentFacts) -> dict[str, str]:
    """What the file says of itself, each value as JSON."""
    values = {
        "class_names": facts.class_names,
        "mean": facts.mean,
        "std": facts.std,
        "image_size": facts.image_size,
        "crop_ratio": facts.crop_ratio,
        "interpolation": "bicubic",
        "model": facts.model,
    }
    return {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}


def onnx_line(out: Path) -> str:
    """Python that loads it."""
    return f"import onnxruntime; session = onnxruntime.InferenceSession({str(out / GRAPH)!r})"
