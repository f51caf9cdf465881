"""A run folder that holds a student with random weights and no more."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from deit_pipe.stages.networks.student import build_student, describe_student


def write_student(folder: Path, names: tuple[str, ...], crop_ratio: float = 1.0) -> Path:
    """A custom student for 32 px: patches of 8 px, 24 wide, 3 blocks, 3 heads."""
    facts = describe_student(
        "custom",
        image_size=32,
        class_names=names,
        crop_ratio=crop_ratio,
        drop_path=0.0,
        patch_size=8,
        width=24,
        heads=3,
    )
    torch.manual_seed(3)
    model = build_student(facts).eval()
    state = model.state_dict()
    for value in state.values():
        torch.nn.init.normal_(value, std=0.2)
    with torch.inference_mode():  # logits around 0, so that not all images are of one class
        seen = model.forward_features(torch.randn(32, 3, 32, 32)).mean(dim=0)
        for token, head in enumerate(("head", "head_dist")):
            state[f"{head}.bias"].copy_(-state[f"{head}.weight"] @ seen[token])
    (folder / "student.json").write_text(json.dumps(facts.to_json()))
    save_file(dict(state), folder / "student.safetensors")
    return folder
