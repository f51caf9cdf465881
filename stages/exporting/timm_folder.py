"""A folder that `timm.create_model("local-dir:FOLDER", pretrained=True)` loads."""

import json
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from deit_pipe.stages.networks.custom_student import CUSTOM
from deit_pipe.stages.networks.starting_weights import TIMM_CONFIG, TIMM_WEIGHTS, USUAL
from deit_pipe.stages.networks.student import StudentFacts, takes
from deit_pipe.stages.networks.tensor_file import save_tensors

# of what timm says of a model: how its weights are adapted to other classes, sizes and channels
KEPT = ("fixed_input_size", "min_input_size", "first_conv", "classifier")


def write_timm(model: nn.Module, facts: StudentFacts, folder: Path, pixels: Tensor, expected: Tensor) -> float:
    """Write weights under timm's names and what timm needs to build the network; load them as it is printed.

    Args:
        model: the student.
        facts: of it.
        folder: existing, empty.
        pixels: float32 [B, 3, S, S], what it is asked.
        expected: float32 [B, C], what it answers.

    Returns:
        The largest difference of a logit.
    """
    save_tensors(model.state_dict(), folder / TIMM_WEIGHTS)
    said = timm_config(model, facts)
    (folder / TIMM_CONFIG).write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    copy: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    with torch.inference_mode():
        answers: Tensor = copy.eval()(pixels)
    return float((answers - expected).abs().max())


def timm_config(model: nn.Module, facts: StudentFacts) -> dict[str, Any]:
    """What stands in `config.json`.

    A student of own sizes is timm's distilled DeiT with these sizes: its function takes them.
    """
    size = {"img_size": facts.image_size}  # convolutional ones take any image, and no size of it
    sized = size if takes(facts.model, **size) else {}
    known: Any = timm.get_pretrained_cfg(USUAL).to_dict() if facts.model == CUSTOM else model.pretrained_cfg
    return {
        "architecture": USUAL if facts.model == CUSTOM else facts.model,
        "num_classes": facts.num_classes,
        "label_names": list(facts.class_names),
        "model_args": {**sized, **facts.sizes},
        "pretrained_cfg": {
            **{name: known[name] for name in KEPT if known.get(name) is not None},
            "num_classes": facts.num_classes,
            "input_size": [3, facts.image_size, facts.image_size],
            "mean": list(facts.mean),
            "std": list(facts.std),
            "crop_pct": facts.crop_ratio,
            "crop_mode": "center",
            "interpolation": "bicubic",
        },
    }


def timm_line(out: Path) -> str:
    """Python that loads it."""
    return f"import timm; model = timm.create_model({f'local-dir:{out}'!r}, pretrained=True).eval()"
