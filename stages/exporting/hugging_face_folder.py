"""A folder that transformers' `AutoModelForImageClassification.from_pretrained` loads, with its image processor."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.networks.adapted_weights import start_from
from deit_pipe.stages.networks.hugging_face import CONFIG, PROCESSOR, WEIGHTS
from deit_pipe.stages.networks.naming.hugging_face import in_their_names
from deit_pipe.stages.networks.student import StudentFacts, build_student
from deit_pipe.stages.networks.tensor_file import save_tensors

NORM_EPS = 1e-6  # timm's DeiT; what transformers would take by itself is 1e-12
BICUBIC = 3  # as Pillow numbers it


def write_hugging_face(model: nn.Module, facts: StudentFacts, folder: Path, pixels: Tensor, expected: Tensor) -> float:
    """Write weights under transformers' names, config and processor; the largest difference of a logit.

    The copy answers through transformers where that is installed, else it is read back as --init-from reads it.

    Raises:
        Mismatch: another architecture than DeiT's.
    """
    said = hugging_face_config(model, facts)
    state = in_their_names(model.state_dict(), two_heads=isinstance(model, VisionTransformerDistilled))
    save_tensors(state, folder / WEIGHTS[0])
    for name, data in ((CONFIG, said), (PROCESSOR, processor_config(facts))):
        (folder / name).write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    with torch.inference_mode():
        answers = _through_transformers(folder, pixels) if has_transformers() else _read_back(folder, facts, pixels)
    return float((answers - expected).abs().max())


def has_transformers() -> bool:
    """Whether transformers is installed."""
    return find_spec("transformers") is not None


def _through_transformers(folder: Path, pixels: Tensor) -> Tensor:
    from transformers import AutoModelForImageClassification

    copy: Any = AutoModelForImageClassification.from_pretrained(str(folder))
    logits: Tensor = copy.eval()(pixel_values=pixels).logits
    return logits


def _read_back(folder: Path, facts: StudentFacts, pixels: Tensor) -> Tensor:
    copy = build_student(facts)
    start_from(copy, facts, folder)
    logits: Tensor = copy.eval()(pixels)
    return logits


def hugging_face_config(model: nn.Module, facts: StudentFacts) -> dict[str, Any]:
    """What stands in `config.json`.

    Raises:
        Mismatch: transformers' DeiT, or ViT, is another network.
    """
    distilled = isinstance(model, VisionTransformerDistilled)
    if not (distilled or (isinstance(model, VisionTransformer) and facts.model.startswith("deit_"))):
        raise Mismatch(
            f"{facts.model} cannot be exported for transformers",
            expected="a student with DeiT's architecture: deit_*, or one of own sizes",
            cure="use --format timm, or --format onnx",
        )
    width = int(model.embed_dim)  # type: ignore[arg-type]
    return {
        "architectures": ["DeiTForImageClassificationWithTeacher" if distilled else "ViTForImageClassification"],
        "model_type": "deit" if distilled else "vit",
        "hidden_size": width,
        "num_hidden_layers": len(model.blocks),  # type: ignore[arg-type]
        "num_attention_heads": model.blocks[0].attn.num_heads,  # type: ignore[index,union-attr]
        "intermediate_size": 4 * width,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.02,
        "layer_norm_eps": NORM_EPS,
        "image_size": facts.image_size,
        "patch_size": model.patch_embed.patch_size[0],  # type: ignore[index,union-attr]
        "num_channels": 3,
        "qkv_bias": True,
        "encoder_stride": 16,
        "id2label": {str(number): name for number, name in enumerate(facts.class_names)},
        "label2id": {name: number for number, name in enumerate(facts.class_names)},
        "torch_dtype": "float32",
    }


def processor_config(facts: StudentFacts) -> dict[str, Any]:
    """What stands in `preprocessor_config.json`: the short side resized, the centre cut out, as it was evaluated.

    The processor is CLIP's, because DeiT's own squeezes an image into a square.
    """
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": int(facts.image_size / facts.crop_ratio)},
        "resample": BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": facts.image_size, "width": facts.image_size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(facts.mean),
        "image_std": list(facts.std),
    }


def hugging_face_line(out: Path) -> str:
    """Python that loads it."""
    place = repr(str(out))
    return (
        "from transformers import AutoImageProcessor, AutoModelForImageClassification; "
        f"processor = AutoImageProcessor.from_pretrained({place}); "
        f"model = AutoModelForImageClassification.from_pretrained({place}).eval()"
    )
