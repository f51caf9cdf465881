"""`deit-pipe export`: a trained student as a timm file or an ONNX graph, each checked against the run's own answers."""

import json
import warnings
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn

from deit_pipe.stages.console.errors import Corrupt, Missing, UsageProblem
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.console.words import human_bytes
from deit_pipe.stages.networks.custom_student import CUSTOM
from deit_pipe.stages.networks.durable_files import PARTIAL, replace_durably, sync_file, write_partial
from deit_pipe.stages.networks.student import StudentFacts, load_student, takes
from deit_pipe.stages.networks.sums import write_beside
from deit_pipe.stages.networks.tensor_file import save_tensors
from deit_pipe.stages.options.export import ExportOptions
from deit_pipe.stages.training.run_folder import weights_file

CHECKED = 4
TOLERANCE = {"timm": 0.0, "onnx": 1e-4}
OPSET = 18


def run(options: ExportOptions) -> CommandResult:
    """Write, load back, compare on random pixels.

    Raises:
        Missing: no student, or onnx is not installed. Corrupt: the copy answers otherwise.
    """
    folder = Path(options.run)
    facts, model = load_student(folder, torch.device("cpu"), weights_file(folder, options.weights))
    name = "student.safetensors" if options.format == "timm" else "student.onnx"
    out = Path(options.out) if options.out else folder / "export" / name
    if out.suffix != Path(name).suffix:
        raise UsageProblem(f"--out {out} does not end in {Path(name).suffix}", cure=f"use for example --out {name}")
    out.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(CHECKED, 3, facts.image_size, facts.image_size, generator=generator)
    with torch.inference_mode():
        expected: Tensor = model(pixels)
    aside = out.with_name(f"{out.stem}{PARTIAL}{out.suffix}")  # libraries go by the suffix
    difference = (write_timm if options.format == "timm" else write_onnx)(model, facts, aside, pixels, expected)
    if not difference <= TOLERANCE[options.format]:  # NaN too
        aside.unlink(missing_ok=True)
        raise Corrupt(
            f"{out} answers otherwise than {folder}",
            details=[f"largest difference of a logit {difference:.3g}, allowed {TOLERANCE[options.format]:g}"],
            cure="nothing was kept; report this with the output of: deit-pipe --version",
        )
    sync_file(aside)
    aside.replace(out)
    described = [describe(facts, out)] if options.format == "timm" else []
    sums = write_beside(out, described)
    size = out.stat().st_size
    data: dict[str, Any] = {
        "out": str(out),
        "format": options.format,
        "model": facts.model,
        "bytes": size,
        "sums": str(sums),
        "largest_difference": difference,
        "checked": CHECKED,
    }
    text = (
        f"{out}: {facts.model} {facts.image_size} px, {human_bytes(size)}; "
        f"largest difference of a logit on {CHECKED} inputs: {difference:.2g}\n" + usage(facts, options.format, out)
    )
    return CommandResult(text, data)


def write_timm(model: nn.Module, facts: StudentFacts, out: Path, pixels: Tensor, expected: Tensor) -> float:
    """Weights under timm's names; the largest difference of a logit."""
    save_tensors(model.state_dict(), out)
    copy: nn.Module
    if facts.model == CUSTOM:
        copy = VisionTransformerDistilled(**settings_of(facts))
        timm.models.load_checkpoint(copy, str(out))
    else:
        copy = timm.create_model(facts.model, checkpoint_path=str(out), **settings_of(facts))
    with torch.inference_mode():
        answers: Tensor = copy.eval()(pixels)
    return float((answers - expected).abs().max())


def settings_of(facts: StudentFacts) -> dict[str, Any]:
    """What timm builds the network with; convolutional ones take any image and no size of it."""
    sized = {"img_size": facts.image_size}
    return {"num_classes": facts.num_classes, **(sized if takes(facts.model, **sized) else {}), **facts.sizes}


def describe(facts: StudentFacts, out: Path) -> Path:
    """Write what timm needs to build the network beside its weights, as `.json`; the path of that."""
    described = out.with_suffix(".json")
    data = {
        "architecture": "VisionTransformerDistilled" if facts.model == CUSTOM else facts.model,
        "model_args": settings_of(facts),
        "image_size": facts.image_size,
        "class_names": facts.class_names,
        "mean": facts.mean,
        "std": facts.std,
        "crop_ratio": facts.crop_ratio,
        "interpolation": "bicubic",
    }
    write_partial(described, (json.dumps(data, indent=2) + "\n").encode())
    replace_durably(described)
    return described


def write_onnx(model: nn.Module, facts: StudentFacts, out: Path, pixels: Tensor, expected: Tensor) -> float:
    """A graph with input `pixels` [B, 3, S, S], normalised, and output `logits` [B, C]; the largest difference."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch's exporter needs it, and says so late
    except ImportError as error:
        raise Missing(
            f"the ONNX export needs {error.name}", cure="install it with: pip install 'deit-pipe[onnx]'"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        torch.onnx.export(
            model,
            (pixels[:2],),
            str(out),
            input_names=["pixels"],
            output_names=["logits"],
            dynamo=True,
            dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1, max=65536)}},
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    answers = session.run(["logits"], {"pixels": pixels.numpy()})[0]
    return float((torch.from_numpy(answers) - expected).abs().max())


def usage(facts: StudentFacts, kind: str, out: Path) -> str:
    """How to load the file."""
    if kind == "onnx":
        return f'use: onnxruntime.InferenceSession("{out}").run(["logits"], {{"pixels": ...}})'
    settings = ", ".join(f"{name}={value}" for name, value in settings_of(facts).items())
    if facts.model == CUSTOM:
        return (
            f"use: timm.models.deit.VisionTransformerDistilled({settings}), "
            f'then timm.models.load_checkpoint(model, "{out}")'
        )
    return f'use: timm.create_model("{facts.model}", {settings}, checkpoint_path="{out}")'
