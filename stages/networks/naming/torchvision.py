"""Weights as torchvision names them, under timm's names: RegNet, EfficientNet b0-b4, ConvNeXt, vision transformers.

torchvision's ResNet, ResNeXt, Wide ResNet and DenseNet have timm's names already.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from deit_pipe.stages.console.errors import Mismatch

Rules = tuple[tuple[str, str], ...]

REGNET: Rules = (
    (r"stem\.0\.", "stem.conv."),
    (r"stem\.1\.", "stem.bn."),
    (r"fc\.", "head.fc."),
)
REGNET_BLOCK = re.compile(r"trunk_output\.block(\d+)\.block\d+-(\d+)\.(.+)")
REGNET_PART: Rules = (
    (r"proj\.0\.", "downsample.conv."),
    (r"proj\.1\.", "downsample.bn."),
    (r"f\.a\.0\.", "conv1.conv."),
    (r"f\.a\.1\.", "conv1.bn."),
    (r"f\.b\.0\.", "conv2.conv."),
    (r"f\.b\.1\.", "conv2.bn."),
    (r"f\.se\.", "se."),
    (r"f\.c\.0\.", "conv3.conv."),
    (r"f\.c\.1\.", "conv3.bn."),
)
CONVNEXT: Rules = (
    (r"features\.0\.(\d)\.", r"stem.\1."),
    (r"classifier\.0\.", "head.norm."),
    (r"classifier\.2\.", "head.fc."),
)
CONVNEXT_BLOCK = re.compile(r"features\.([1357])\.(\d+)\.(.+)")
CONVNEXT_DOWN = re.compile(r"features\.([246])\.(.+)")
CONVNEXT_PART: Rules = (
    (r"layer_scale$", "gamma"),
    (r"block\.0\.", "conv_dw."),
    (r"block\.2\.", "norm."),
    (r"block\.3\.", "mlp.fc1."),
    (r"block\.5\.", "mlp.fc2."),
)
VIT: Rules = (
    (r"class_token$", "cls_token"),
    (r"conv_proj\.", "patch_embed.proj."),
    (r"encoder\.pos_embedding$", "pos_embed"),
    (r"encoder\.ln\.", "norm."),
    (r"heads\.head\.", "head."),
)
VIT_BLOCK = re.compile(r"encoder\.layers\.encoder_layer_(\d+)\.(.+)")
VIT_PART: Rules = (
    (r"ln_([12])\.", r"norm\1."),
    (r"self_attention\.in_proj_", "attn.qkv."),
    (r"self_attention\.out_proj\.", "attn.proj."),
    (r"mlp\.(0|linear_1)\.", "mlp.fc1."),
    (r"mlp\.(3|linear_2)\.", "mlp.fc2."),
)
EFFICIENTNET: Rules = (
    (r"features\.0\.0\.", "conv_stem."),
    (r"features\.0\.1\.", "bn1."),
    (r"features\.8\.0\.", "conv_head."),
    (r"features\.8\.1\.", "bn2."),
    (r"classifier\.1\.", "classifier."),
)
EFFICIENTNET_BLOCK = re.compile(r"features\.([1-7])\.(\d+)\.block\.(\d)\.(.+)")
SQUEEZE: Rules = ((r"fc1\.", "se.conv_reduce."), (r"fc2\.", "se.conv_expand."))
# timm's other names of this shape (b5 to b8, tf_, lite) have another epsilon, padding or activation: the weights would
# load and answer otherwise
ALIKE = re.compile(r"efficientnet_b[0-4]")


def is_torchvisions(state: Mapping[str, Tensor]) -> bool:
    """Whether these names are torchvision's, of a family whose names are not timm's too."""
    return (
        any(name.startswith("trunk_output.") for name in state)
        or "conv_proj.weight" in state
        or {"features.0.0.weight", "features.1.0.block.0.weight"} <= state.keys()  # ConvNeXt
        or {"features.0.0.weight", "features.1.0.block.0.0.weight"} <= state.keys()  # EfficientNet
    )


def from_torchvision(state: Mapping[str, Tensor], architecture: str) -> dict[str, Tensor]:
    """The same tensors under timm's names; a name without a place there is left as it is, for the loader to refuse.

    Args:
        state: of which `is_torchvisions` is true.
        architecture: timm's name, without tag, of the model they are for.

    Raises:
        Mismatch: a network that timm's of this name computes otherwise.
    """
    if any(name.startswith("trunk_output.") for name in state):
        return {_regnet(name): value for name, value in state.items()}
    if "conv_proj.weight" in state:
        return {_vit(name): value for name, value in state.items()}
    if "features.1.0.layer_scale" in state:
        return {
            _convnext(name): value.flatten() if name.endswith("layer_scale") else value for name, value in state.items()
        }
    if not ALIKE.fullmatch(architecture):
        raise Mismatch(
            f"torchvision's weights are for another epsilon, padding or activation than timm's {architecture} has",
            expected="--teacher efficientnet_b0 to efficientnet_b4, or timm's own weights",
            cure="build torchvision's network in a function, and give it as --teacher package.module:function",
        )
    return {_efficientnet(name, state): value for name, value in state.items()}


def _renamed(name: str, rules: Rules) -> str:
    for pattern, ours in rules:
        found, count = re.subn(rf"^{pattern}", ours, name)
        if count:
            return found
    return name


def _regnet(name: str) -> str:
    if block := REGNET_BLOCK.fullmatch(name):
        return f"s{block[1]}.b{int(block[2]) + 1}.{_renamed(block[3], REGNET_PART)}"
    return _renamed(name, REGNET)


def _vit(name: str) -> str:
    if block := VIT_BLOCK.fullmatch(name):
        return f"blocks.{block[1]}.{_renamed(block[2], VIT_PART)}"
    return _renamed(name, VIT)


def _convnext(name: str) -> str:
    if block := CONVNEXT_BLOCK.fullmatch(name):
        return f"stages.{int(block[1]) // 2}.blocks.{block[2]}.{_renamed(block[3], CONVNEXT_PART)}"
    if down := CONVNEXT_DOWN.fullmatch(name):
        return f"stages.{int(down[1]) // 2}.downsample.{down[2]}"
    return _renamed(name, CONVNEXT)


def _efficientnet(name: str, state: Mapping[str, Tensor]) -> str:
    block = EFFICIENTNET_BLOCK.fullmatch(name)
    if block is None:
        return _renamed(name, EFFICIENTNET)
    stage, number, part, rest = block.groups()
    below = f"blocks.{int(stage) - 1}.{number}"
    if rest.startswith("fc"):
        return f"{below}.{_renamed(rest, SQUEEZE)}"
    expands = f"features.{stage}.{number}.block.3.0.weight" in state  # the first stage does not
    layers = {"0": "pw", "1": "dw", "3": "pwl"} if expands else {"0": "dw", "2": "pw"}
    norms = {"0": "bn1", "1": "bn2", "3": "bn3"} if expands else {"0": "bn1", "2": "bn2"}
    if part not in layers:
        return name
    kind, _, end = rest.partition(".")
    return f"{below}.conv_{layers[part]}.{end}" if kind == "0" else f"{below}.{norms[part]}.{end}"
