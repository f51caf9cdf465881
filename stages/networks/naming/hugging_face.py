"""DeiT and ViT as Hugging Face names their tensors, under timm's names and back."""

from collections.abc import Mapping

import torch
from torch import Tensor

from deit_pipe.stages.console.errors import Mismatch

# their name of a part of a block -> timm's; query, key and value are one matrix there
BLOCK = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
WHOLE = {
    "embeddings.cls_token": "cls_token",
    "embeddings.distillation_token": "dist_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
HEADS = {"cls_classifier": "head", "classifier": "head", "distillation_classifier": "head_dist"}
QKV = ("query", "key", "value")


def is_hugging_faces(state: Mapping[str, Tensor]) -> bool:
    """Whether these names are those of a DeiT or ViT of transformers."""
    return any(name.endswith("embeddings.patch_embeddings.projection.weight") for name in state)


def from_hugging_face(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors of a DeiT or ViT under timm's names; what no head needs (a pooler) is left out.

    Args:
        state: under their names, with `deit.` or `vit.` before those of the body or without.
        source: for messages.

    Raises:
        Mismatch: a tensor without a place in DeiT.
    """
    plain = {name.removeprefix("deit.").removeprefix("vit."): value for name, value in state.items()}
    found: dict[str, Tensor] = {}
    for name, value in plain.items():
        if name in WHOLE:
            found[WHOLE[name]] = value
        elif name.startswith("encoder.layer."):
            _, _, number, part = name.split(".", 3)
            _add_of_block(found, plain, int(number), part, value)
        elif name.rpartition(".")[0] in HEADS:
            module, _, kind = name.rpartition(".")
            found[f"{HEADS[module]}.{kind}"] = value
        elif not name.startswith("pooler."):
            raise Mismatch(f"{source} holds {name}, which DeiT has not", cure="give a folder of DeiT, or a timm tag")
    return found


def _add_of_block(found: dict[str, Tensor], plain: Mapping[str, Tensor], number: int, part: str, value: Tensor) -> None:
    """Add one tensor of a block; of query, key and value the first brings all three."""
    module, _, kind = part.rpartition(".")
    if module in BLOCK:
        found[f"blocks.{number}.{BLOCK[module]}.{kind}"] = value
        return
    names = [f"encoder.layer.{number}.attention.attention.{one}.{kind}" for one in QKV]
    if f"encoder.layer.{number}.{part}" not in names or not all(name in plain for name in names):
        raise Mismatch(f"encoder.layer.{number}.{part} has no place in DeiT", cure="give a folder of DeiT")
    found[f"blocks.{number}.attn.qkv.{kind}"] = torch.cat([plain[name] for name in names])


def in_their_names(state: Mapping[str, Tensor], *, two_heads: bool) -> dict[str, Tensor]:
    """Timm's state dict under the names of transformers: inverse of `from_hugging_face`.

    Args:
        state: of a DeiT.
        two_heads: whether it has a distillation token; without, it is their ViT.
    """
    body = "deit" if two_heads else "vit"
    whole = {ours: theirs for theirs, ours in WHOLE.items()}
    block = {ours: theirs for theirs, ours in BLOCK.items()}
    head = {"head": "cls_classifier" if two_heads else "classifier", "head_dist": "distillation_classifier"}
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        module, _, kind = name.rpartition(".")
        if name in whole:
            found[f"{body}.{whole[name]}"] = value
        elif module in head:
            found[f"{head[module]}.{kind}"] = value
        else:
            _, number, part = module.split(".", 2)
            layer = f"{body}.encoder.layer.{number}"
            if part == "attn.qkv":
                for one, rows in zip(QKV, value.chunk(3), strict=True):
                    found[f"{layer}.attention.attention.{one}.{kind}"] = rows.clone()
            else:
                found[f"{layer}.{block[part]}.{kind}"] = value
    return found
