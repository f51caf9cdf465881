"""DeiT as Hugging Face keeps it: what its config says, its weights under timm's names; without transformers."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from deit_pipe.stages.console.errors import Corrupt, Mismatch, Missing
from deit_pipe.stages.networks.custom_student import CUSTOM
from deit_pipe.stages.networks.naming.hugging_face import from_hugging_face
from deit_pipe.stages.networks.weights import read_weights

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# token width -> size and heads of the published models; all have 12 blocks and patches of 16 px
PUBLISHED = {192: ("tiny", 3), 384: ("small", 6), 768: ("base", 12)}
IMAGENET = 1000


@dataclass(frozen=True, kw_only=True)
class DeitConfig:
    """What a folder says of its network.

    Attributes:
        model: timm's name of the same network, or `custom`.
        sizes: of a custom one: patch_size, embed_dim, depth, num_heads.
        image_size: side in pixels.
        num_classes: C.
        class_names: in the order of its outputs, where they are names of its own.
        mean: normalisation, RGB, 0..1 units, where it is said; `std` likewise.
        crop_ratio: side of the image / what the short side is resized to, where it is said.
    """

    model: str
    sizes: Mapping[str, int]
    image_size: int
    num_classes: int
    class_names: tuple[str, ...] | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    crop_ratio: float | None


def read_config(folder: Path) -> DeitConfig | None:
    """What a folder says; None where it is none of Hugging Face's.

    Raises:
        Mismatch: another network than DeiT. Corrupt: the config lacks what it must say.
    """
    path = folder / CONFIG
    try:
        said = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        return None
    if not isinstance(said, dict) or "model_type" not in said:
        return None
    if said["model_type"] not in ("deit", "vit"):
        raise Mismatch(
            f"{folder} holds no DeiT",
            expected="model_type deit, or vit (a DeiT without distillation token)",
            got=said["model_type"],
            cure="give a folder of DeiT, or a timm tag",
        )
    processor = folder / PROCESSOR
    try:
        pixels = json.loads(processor.read_text(encoding="utf-8")) if processor.is_file() else {}
        labels = {int(number): str(name) for number, name in (said.get("id2label") or {}).items()}
        count = len(labels) or int(said.get("num_labels", 2))
        names = tuple(labels[number] for number in range(count)) if labels else None
        model, sizes = _network(folder, said)
        return DeitConfig(
            model=model,
            sizes=sizes,
            image_size=int(said.get("image_size", 224)),
            num_classes=count,
            # ImageNet's are called otherwise in every copy of it, and LABEL_0 is no name
            class_names=None if names is None or count == IMAGENET or names[0] == "LABEL_0" else names,
            mean=tuple(pixels["image_mean"]) if pixels.get("image_mean") else None,
            std=tuple(pixels["image_std"]) if pixels.get("image_std") else None,
            crop_ratio=_crop_ratio(pixels),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Corrupt(
            f"{path} cannot be read: {type(error).__name__}: {error}",
            expected="what transformers write for DeiT",
            cure="fetch the folder again",
        ) from error


def _crop_ratio(pixels: Mapping[str, Any]) -> float | None:
    """Of a processor that resizes the short side and cuts out the centre; None of any other."""
    resized, cut = pixels.get("size"), pixels.get("crop_size")
    if not (isinstance(resized, dict) and isinstance(cut, dict) and resized.get("shortest_edge") and cut.get("height")):
        return None
    side, short = int(cut["height"]), int(resized["shortest_edge"])
    ratio = side / short
    return min(1.0, ratio if int(side / ratio) == short else math.nextafter(ratio, 0.0))  # 9 / (9 / 14) is below 14


def _network(folder: Path, said: Mapping[str, Any]) -> tuple[str, dict[str, int]]:
    """Timm's name, or `custom` with its sizes."""
    width, depth, heads = (int(said[name]) for name in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    patch, size = int(said.get("patch_size", 16)), int(said.get("image_size", 224))
    distilled = said["model_type"] == "deit"
    if int(said.get("intermediate_size", 4 * width)) == 4 * width and said.get("hidden_act", "gelu") == "gelu":
        name, own_heads = PUBLISHED.get(width, ("", 0))
        if (depth, heads, patch) == (12, own_heads, 16):
            side = 384 if size == 384 and name == "base" else 224
            return f"deit_{name}_{'distilled_' if distilled else ''}patch16_{side}", {}
        if distilled:
            return CUSTOM, {"patch_size": patch, "embed_dim": width, "depth": depth, "num_heads": heads}
    raise Mismatch(
        f"{folder} holds a network that no student can be",
        expected="a published DeiT, or one with a distillation token, gelu and four times its width inside a block",
        got=f"width {width}, {depth} blocks, {heads} heads, inside {said.get('intermediate_size')}",
        cure="start from a timm tag instead",
    )


def read_hugging_face(folder: Path, config: DeitConfig) -> dict[str, Tensor]:
    """The state dict under timm's names; a head that is not there is left out.

    Raises:
        Missing: no weights. Mismatch: a weight without a place in DeiT.
    """
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise Missing(f"{folder} holds no weights", expected=" or ".join(WEIGHTS), cure="fetch the folder again")
    theirs = load_file(path) if path.suffix == ".safetensors" else read_weights(path)
    return from_hugging_face(theirs, str(path))
