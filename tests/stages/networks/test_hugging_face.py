"""DeiT in Hugging Face's layout, written here by hand from timm's weights, is read back as it was."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn

from deit_pipe import DeitPipeError
from deit_pipe.stages.networks.adapted_weights import start_from
from deit_pipe.stages.networks.starting_weights import find_start
from deit_pipe.stages.networks.student import build_student, describe_student

CLASSES = ("cat", "dog", "eel")


def their_names(state: dict[str, Tensor], width: int, *, heads: dict[str, str], prefix: str) -> dict[str, Tensor]:
    """transformers' names (modeling_deit.py), q, k and v apart."""
    named: dict[str, Tensor] = {}
    for name, value in state.items():
        module, _, kind = name.rpartition(".")
        if name in ("cls_token", "dist_token", "pos_embed"):
            plain = {"cls_token": "cls_token", "dist_token": "distillation_token", "pos_embed": "position_embeddings"}
            named[f"{prefix}.embeddings.{plain[name]}"] = value
        elif module == "patch_embed.proj":
            named[f"{prefix}.embeddings.patch_embeddings.projection.{kind}"] = value
        elif module == "norm":
            named[f"{prefix}.layernorm.{kind}"] = value
        elif module in heads:
            named[f"{heads[module]}.{kind}"] = value
        elif module.startswith("blocks."):
            _, number, part = module.split(".", 2)
            block = f"{prefix}.encoder.layer.{number}"
            if part == "attn.qkv":
                for place, one in enumerate(("query", "key", "value")):
                    rows = value[place * width : (place + 1) * width]
                    named[f"{block}.attention.attention.{one}.{kind}"] = rows.clone()
            else:
                theirs = {
                    "norm1": "layernorm_before",
                    "norm2": "layernorm_after",
                    "attn.proj": "attention.output.dense",
                    "mlp.fc1": "intermediate.dense",
                    "mlp.fc2": "output.dense",
                }
                named[f"{block}.{theirs[part]}.{kind}"] = value
    return {name: value.contiguous() for name, value in named.items()}


def write_folder(
    folder: Path, model: nn.Module, width: int, depth: int, heads: int, *, two: bool = True, **changed: Any
) -> Path:
    folder.mkdir()
    said = {
        "architectures": ["DeiTForImageClassificationWithTeacher" if two else "DeiTForImageClassification"],
        "model_type": "deit",
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "image_size": 32,
        "patch_size": 8,
        "hidden_act": "gelu",
        "id2label": {str(number): name for number, name in enumerate(CLASSES)},
    }
    (folder / "config.json").write_text(json.dumps(said | changed))
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]})
    )
    names = {"head": "cls_classifier", "head_dist": "distillation_classifier"} if two else {"head": "classifier"}
    save_file(their_names(model.state_dict(), width, heads=names, prefix="deit"), folder / "model.safetensors")
    return folder


def small(classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return VisionTransformerDistilled(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=classes
    ).eval()


def test_a_small_one_becomes_a_custom_student_with_the_same_answers(tmp_path: Path) -> None:
    old = small()
    start = find_start(str(write_folder(tmp_path / "hf", old, 24, 2, 3)))
    assert (start.model, start.image_size, start.class_names) == ("custom", 32, CLASSES)
    assert (start.mean, start.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    described = describe_student(
        "custom",
        image_size=32,
        class_names=CLASSES,
        crop_ratio=1.0,
        drop_path=0.0,
        patch_size=8,
        width=24,
        depth=2,
        heads=3,
    )
    new = build_student(described)
    taken = start_from(new, described, start)
    assert not taken.new_heads
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(new.eval()(pixels), old(pixels))


def test_a_published_size_is_timms_model(tmp_path: Path) -> None:
    old = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=3, img_size=32)
    folder = write_folder(tmp_path / "hf", old, 192, 12, 3, patch_size=16)
    assert find_start(str(folder)).model == "deit_tiny_distilled_patch16_224"
    (tmp_path / "hf" / "config.json").write_text(
        json.dumps(json.loads((folder / "config.json").read_text()) | {"model_type": "vit"})
    )
    assert find_start(str(folder)).model == "deit_tiny_patch16_224"


def test_a_head_that_is_not_there_is_made_new_and_that_is_said(tmp_path: Path) -> None:
    old = small()
    start = find_start(str(write_folder(tmp_path / "hf", old, 24, 2, 3, two=False)))
    described = describe_student(
        "custom",
        image_size=32,
        class_names=CLASSES,
        crop_ratio=1.0,
        drop_path=0.0,
        patch_size=8,
        width=24,
        depth=2,
        heads=3,
    )
    new = build_student(described)
    fresh = new.state_dict()["head_dist.weight"].clone()
    taken = start_from(new, described, start)
    assert taken.new_heads == ("head_dist",)
    assert "new head_dist: the weights have none" in taken.lines
    assert torch.equal(new.state_dict()["head_dist.weight"], fresh)
    assert torch.equal(new.state_dict()["head.weight"], old.state_dict()["head.weight"])


@pytest.mark.parametrize(
    ("changed", "says", "code"),
    [
        ({"model_type": "swin"}, "holds no DeiT", 4),
        ({"intermediate_size": 60}, "holds a network that no student can be", 4),
        ({"hidden_act": "relu"}, "holds a network that no student can be", 4),
        ({"hidden_size": "wide"}, "cannot be read: ValueError", 5),
        ({"id2label": {"1": "cat"}}, "cannot be read: KeyError", 5),
    ],
)
def test_what_cannot_be_read_is_said(changed: dict[str, Any], says: str, code: int, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "hf", small(), 24, 2, 3, **changed)
    with pytest.raises(DeitPipeError) as error:
        find_start(str(folder))
    assert says in str(error.value)
    assert error.value.exit_code == code


def test_foreign_and_missing_weights_are_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "hf", small(), 24, 2, 3)
    path = folder / "model.safetensors"
    save_file({"deit.embeddings.mask_token": torch.zeros(1)}, path)
    with pytest.raises(DeitPipeError, match=r"holds embeddings\.mask_token, which DeiT has not"):
        find_start(str(folder)).read()
    path.unlink()
    with pytest.raises(DeitPipeError, match="holds no weights"):
        find_start(str(folder)).read()


@pytest.mark.parametrize(("side", "short"), [(224, 256), (9, 14), (48, 60), (32, 32), (384, 438)])
def test_the_processors_sizes_are_the_crop_ratio(side: int, short: int, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "hf", small(), 24, 2, 3)
    assert find_start(str(folder)).crop_ratio is None
    said = {"size": {"shortest_edge": short}, "crop_size": {"height": side, "width": side}}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    ratio = find_start(str(folder)).crop_ratio
    assert ratio is not None
    assert int(side / ratio) == short
