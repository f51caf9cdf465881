"""`deit-pipe export`: a trained student for timm, transformers or ONNX, checked against the run's own answers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from deit_pipe.stages.console.errors import Corrupt
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.console.words import human_bytes
from deit_pipe.stages.exporting.card import CARD, card
from deit_pipe.stages.exporting.folder import check_out, whole_folder
from deit_pipe.stages.exporting.hugging_face_folder import has_transformers, hugging_face_line, write_hugging_face
from deit_pipe.stages.exporting.onnx_folder import onnx_line, outputs_of, write_onnx
from deit_pipe.stages.exporting.timm_folder import timm_line, write_timm
from deit_pipe.stages.networks.student import StudentFacts, load_student
from deit_pipe.stages.networks.sums import SUMS
from deit_pipe.stages.options.export import ExportOptions
from deit_pipe.stages.training.run_folder import finished, read_config, weights_file

CHECKED = 4
TOLERANCE = {"timm": 0.0, "huggingface": 1e-4, "onnx": 1e-4}
Writer = Callable[[nn.Module, StudentFacts, Path, Tensor, Tensor], float]
WRITERS: dict[str, Writer] = {"timm": write_timm, "huggingface": write_hugging_face, "onnx": write_onnx}
LINES = {"timm": timm_line, "huggingface": hugging_face_line, "onnx": onnx_line}


@dataclass(frozen=True)
class ExportedStudent(Facts):
    """What was written.

    Attributes:
        out, format, model: folder; timm, huggingface or onnx; the student's model.
        files, bytes, sums: names in the folder, their size together, the file with their SHA-256.
        largest_difference, checked: of a logit, between copy and run, on so many random inputs.
        use: the line that loads it.
    """

    out: str
    format: str
    model: str
    files: list[str]
    bytes: int
    sums: str
    largest_difference: float
    checked: int
    use: str


def run(options: ExportOptions) -> CommandResult[ExportedStudent]:
    """Write, load back, compare on random pixels.

    Raises:
        Missing: no student, or onnx is not installed. Corrupt: the copy answers otherwise. Mismatch: another
        architecture than the format knows. UsageProblem: something else is where it is to be written.
    """
    folder = Path(options.run)
    out = Path(options.out) if options.out else folder / "export" / options.format
    check_out(out)
    facts, model = load_student(folder, torch.device("cpu"), weights_file(folder, options.weights))
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(CHECKED, 3, facts.image_size, facts.image_size, generator=generator)
    with torch.inference_mode():
        expected: Tensor = model(pixels)
    use = LINES[options.format](out)
    with whole_folder(out) as aside:
        difference = WRITERS[options.format](model, facts, aside, pixels, expected)
        if not difference <= TOLERANCE[options.format]:  # NaN too
            raise Corrupt(
                f"{out} answers otherwise than {folder}",
                details=[f"largest difference of a logit {difference:.3g}, allowed {TOLERANCE[options.format]:g}"],
                cure="nothing was kept; report this with the output of: deit-pipe --version",
            )
        about = card(
            facts,
            kind=options.format,
            weights=options.weights,
            parameters=sum(one.numel() for one in model.parameters()),
            use=LINES[options.format](Path(out.name)).split("; "),
            config=read_config(folder),
            result=finished(folder),
        )
        (aside / CARD).write_text(about, encoding="utf-8")
    size = sum(path.stat().st_size for path in out.iterdir())
    written = ExportedStudent(
        out=str(out),
        format=options.format,
        model=facts.model,
        files=sorted(path.name for path in out.iterdir()),
        bytes=size,
        sums=str(out / SUMS),
        largest_difference=difference,
        checked=CHECKED,
        use=use,
    )
    return CommandResult("\n".join(lines_of(written, model, facts)), written)


def lines_of(written: ExportedStudent, model: nn.Module, facts: StudentFacts) -> list[str]:
    """What was written, how near it is, how to load it."""
    lines = [
        f"{written.out}: {facts.model} {facts.image_size} px, {human_bytes(written.bytes)}; "
        f"largest difference of a logit on {CHECKED} inputs: {written.largest_difference:.2g}"
    ]
    if written.format == "huggingface" and not has_transformers():
        lines.append("transformers is not installed: the copy was checked by reading it back")
    if written.format == "onnx":
        lines.append(
            f"input pixels [batch, 3, {facts.image_size}, {facts.image_size}], normalised; outputs "
            f"{', '.join(outputs_of(model))} [batch, {facts.num_classes}]; its metadata has class names, mean and std"
        )
    return [*lines, f"use: {written.use}"]
