"""The student: a timm model, usually a ViT with a class and a distillation token, and what a run keeps of it."""

import json
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers import DropPath, to_2tuple
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn

from deit_pipe.stages.console.errors import Corrupt, Missing, UsageProblem
from deit_pipe.stages.networks.begun_command import begun_command
from deit_pipe.stages.networks.custom_student import CUSTOM
from deit_pipe.stages.networks.durable_files import open_regular
from deit_pipe.stages.networks.file_names import STUDENT_FACTS, STUDENT_WEIGHTS
from deit_pipe.stages.networks.sums import check_sums
from deit_pipe.stages.networks.two_heads import has_two_heads
from deit_pipe.stages.networks.weights import load_into, normalisation, resolve_tag

MOST_BYTES = 64_000_000  # of student.json, whose class names may be many
DEIT3_LAYER_SCALE = 1e-4  # facebookresearch/deit models_v2.py; timm's deit3 models begin at 1e-6


@dataclass(frozen=True, kw_only=True)
class StudentFacts:
    """All that is needed to build the network again; written as `student.json` beside the weights.

    Attributes:
        model: timm name without tag, or `custom`.
        image_size: side of its input in pixels.
        num_classes: C.
        class_names: in the order of its outputs.
        mean: normalisation, RGB, 0..1 units; `std` likewise.
        crop_ratio: evaluation: input side / resized short side.
        drop_path: stochastic depth rate it was trained with.
        sizes: custom only: patch_size, embed_dim, depth, num_heads.
    """

    model: str
    image_size: int
    num_classes: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_ratio: float
    drop_path: float = 0.0
    sizes: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "StudentFacts":
        """Inverse of `to_json`."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        return cls(**values)


def describe_student(
    model: str,
    *,
    image_size: int,
    class_names: tuple[str, ...],
    crop_ratio: float,
    drop_path: float,
    patch_size: int | None = None,
    width: int = 64,
    depth: int = 3,
    heads: int = 2,
) -> StudentFacts:
    """Facts of a new student.

    Raises:
        UsageProblem: unknown model, or sizes that the image or each other do not allow.
    """
    common: dict[str, Any] = {
        "image_size": image_size,
        "num_classes": len(class_names),
        "class_names": class_names,
        "crop_ratio": crop_ratio,
        "drop_path": drop_path,
    }
    if model != CUSTOM:
        tag = resolve_tag(model)
        mean, std = normalisation(tag)
        return StudentFacts(model=tag.partition(".")[0], mean=mean, std=std, **common)
    patch = patch_size or max(1, image_size // 4)
    if image_size % patch:
        raise UsageProblem(
            f"a student with {patch} px patches cannot see {image_size} px images",
            expected=f"patches whose side divides {image_size}",
            got=patch,
            cure=(
                f"give behind the slash of --student custom:{width}x{depth}x{heads}/PATCH one of "
                f"{', '.join(str(p) for p in range(2, image_size + 1) if image_size % p == 0)}"
            ),
        )
    if width % heads:
        raise UsageProblem(
            f"a width of {width} cannot be shared by {heads} heads",
            expected=f"a multiple of {heads}",
            cure=f"use --student custom:{-(-width // heads) * heads}x{depth}x{heads}",
        )
    mean, std = normalisation("deit_tiny_distilled_patch16_224")
    sizes = {"patch_size": patch, "embed_dim": width, "depth": depth, "num_heads": heads}
    return StudentFacts(model=CUSTOM, mean=mean, std=std, sizes=sizes, **common)


def build_student(facts: StudentFacts) -> nn.Module:
    """The network with fresh weights, drawn from torch's global generator (seed it right before).

    One with two heads is set to return both in training.

    Raises:
        UsageProblem: the model does not fit the image size.
    """
    if facts.model == CUSTOM:
        model: nn.Module = VisionTransformerDistilled(
            img_size=facts.image_size,
            num_classes=facts.num_classes,
            drop_path_rate=facts.drop_path,
            **facts.sizes,
        )
    else:
        settings: dict[str, Any] = {"num_classes": facts.num_classes, "drop_path_rate": facts.drop_path}
        if facts.model.startswith("deit3_"):
            settings["init_values"] = DEIT3_LAYER_SCALE
        model = _create(facts, settings)
        if facts.model.startswith("deit3_") and facts.drop_path:
            _constant_drop_path(model, facts.drop_path)
    patch = to_2tuple(getattr(getattr(model, "patch_embed", None), "patch_size", 1))[0]
    if facts.image_size % patch:  # timm would leave out the rest of the image without a word
        raise UsageProblem(
            f"{facts.model} cannot be built for {facts.image_size} px images",
            expected=f"a multiple of its {patch} px patches",
            cure="choose another --student, or a cache with another --img-size",
        )
    if has_two_heads(model):
        model.set_distilled_training(True)  # type: ignore[operator]
    return model


def _constant_drop_path(model: nn.Module, rate: float) -> None:
    """DeiT III drops every block at one rate (models_v2.py); timm's rates grow from 0 to it over the depth."""
    for block in model.blocks:  # type: ignore[union-attr]
        block.drop_path1, block.drop_path2 = DropPath(rate), DropPath(rate)


def _create(facts: StudentFacts, settings: dict[str, Any]) -> nn.Module:
    """A timm model for the facts' image size.

    Convolutional ones take any size and no such argument; a rate of 0 is said too, since some drop paths by default,
    and left out for those that cannot drop any.
    """
    sized = {"img_size": facts.image_size}
    tries = [{**settings, **sized}, settings]
    if not facts.drop_path:
        plain = {name: value for name, value in settings.items() if name != "drop_path_rate"}
        tries += [{**plain, **sized}, plain]
    try:
        for place, given in enumerate(tries):
            try:
                model = timm.create_model(facts.model, pretrained=False, **given)
                break
            except TypeError:
                if place == len(tries) - 1:
                    raise
        _check_size(model, facts.image_size)
    except (AssertionError, TypeError, ValueError) as error:
        raise UsageProblem(
            f"{facts.model} cannot be built for {facts.image_size} px images",
            details=[str(error)],
            cure="choose another --student, or a cache with another --img-size",
        ) from error
    assert isinstance(model, nn.Module)
    return model


def takes(model: str, **settings: Any) -> bool:
    """Whether a student, by timm's name or `custom`, is built with these settings, such as `drop_path_rate`."""
    if model == CUSTOM:
        return True
    try:
        with torch.device("meta"):
            timm.create_model(resolve_tag(model).partition(".")[0], pretrained=False, **settings)
    except TypeError:
        return False
    except RuntimeError:  # it took them, and then asked for numbers that are not there
        return True
    return True


def _check_size(model: nn.Module, image_size: int) -> None:
    """Raises ValueError: a model made for one size of images, which timm builds for any, cannot see another."""
    config: Any = model.pretrained_cfg
    if not config.get("fixed_input_size") or image_size == config["input_size"][1]:
        return
    shapes = deepcopy(model).to("meta").eval()  # shapes alone: no arithmetic, no random numbers
    try:
        shapes(torch.empty(1, 3, image_size, image_size, device="meta"))
    except NotImplementedError:  # an operation without shapes; then the first step tells
        return
    except RuntimeError as error:
        raise ValueError(f"it takes images of {config['input_size'][1]} px only") from error


def read_facts(folder: Path) -> StudentFacts:
    """What a run folder says of its student.

    Raises:
        Missing: it holds none. Corrupt: it is not what was written.
    """
    path = folder / STUDENT_FACTS
    if not path.is_file():
        raise Missing(
            f"{folder} holds no trained student: {path.name} is not there",
            cure=f"train one with: {begun_command(folder)}",
        )
    check_sums(folder, [STUDENT_FACTS])
    try:
        with open_regular(path) as file:
            return StudentFacts.from_json(json.loads(file.read(MOST_BYTES)))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Corrupt(
            f"{path} cannot be read: {str(error).splitlines()[0]}",
            expected="what train-student writes of its student",
            cure="restore it from a copy, or train again with a new --out",
        ) from error


def read_student(folder: Path, weights: str = STUDENT_WEIGHTS) -> tuple[StudentFacts, dict[str, Tensor]]:
    """Facts and state dict of a run folder.

    Raises:
        Missing: it holds no finished student. Corrupt: it is not what was written.
    """
    facts = read_facts(folder)
    if not (folder / weights).is_file():
        raise Missing(
            f"{folder} holds no trained student: {weights} is not there",
            cure=f"finish the run with: {begun_command(folder)}",
        )
    check_sums(folder, [weights])
    try:
        return facts, load_file(folder / weights)
    except SafetensorError as error:
        raise Corrupt(
            f"{folder / weights} cannot be read: {error}", cure=f"write it again: {begun_command(folder)}"
        ) from error


def load_student(folder: Path, device: torch.device, weights: str = STUDENT_WEIGHTS) -> tuple[StudentFacts, nn.Module]:
    """A trained student in eval mode."""
    facts, state = read_student(folder, weights)
    model = build_student(replace(facts, drop_path=0.0))
    load_into(model, state, str(folder / weights))
    return facts, model.to(device).eval()
