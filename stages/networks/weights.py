"""Weights of timm models: what a name means, where its weights come from, and their digest."""

import argparse
import hashlib
import json
import math
import os
import pickle
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from deit_pipe.stages.console.errors import Corrupt, Mismatch, Missing, UsageProblem
from deit_pipe.stages.networks.durable_files import open_regular, partial_of, write_partial
from deit_pipe.stages.networks.file_names import RUN_FACTS, RUN_WEIGHTS
from deit_pipe.stages.networks.naming.model_names import timms_name
from deit_pipe.stages.networks.sums import check_sums, commit
from deit_pipe.stages.networks.tensor_file import save_tensors
from deit_pipe.stages.networks.two_heads import head_names

MOST_BYTES = 64_000_000  # of teacher.json, whose class names may be many

# `regnety_160` is what the DeiT paper and code call their teacher; timm's own default tag of that name is another
# network, pretrained on ImageNet-12k.
PUBLISHED_TAGS = {"regnety_160": "regnety_160.deit_in1k"}


@dataclass(frozen=True, kw_only=True)
class TeacherRun:
    """What `train-teacher` leaves beside the weights, as `teacher.json`.

    Attributes:
        model: full timm tag.
        head: `trained` (all weights) or `fitted` (a new classifier on frozen features).
        image_size: side of the views it was trained on.
        mean: normalisation, RGB, in 0..1 units; `std` likewise.
        class_names: in the order of its outputs.
        val_top1: fraction of its validation images it gets right, or None without any.
        body: of a fitted one: where the weights below the head came from, such as `random weights, seed 0`.
        body_sha256: of a fitted one: digest of those weights, with the head they came with.
        fitted_on: digest of the samples that it, or its fitted head, was trained on.
    """

    model: str
    head: str
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    val_top1: float | None = None
    body: str | None = None
    body_sha256: str | None = None
    fitted_on: str | None = None


def resolve_tag(name: str) -> str:
    """The full timm tag of a model name, such as `regnety_160.deit_in1k`; without a tag where timm has no weights.

    Names of papers and of torchvision, such as `RegNetY-16GF`, are understood; `alias_line` says that they were.

    Raises:
        UsageProblem: timm knows no such model; the nearest names are given.
    """
    name = timms_name(name) or name
    name = PUBLISHED_TAGS.get(name, name)
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = get_close_matches(architecture, timm.list_models(), n=4, cutoff=0.5)
        raise UsageProblem(
            f"timm {timm.__version__} has no model {architecture!r}",
            details=[f"nearest: {', '.join(near) or 'none'}"],
            cure="list names with: deit-pipe list-models",
        )
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise UsageProblem(
            f"timm {timm.__version__} has no weights {tag!r} of {architecture}",
            details=[f"it has: {', '.join(tags) or 'none'}"],
            cure=f"name one of them, or only {architecture}",
        )
    if tag:
        return name
    default: Any = timm.get_pretrained_cfg(architecture)
    return str(f"{architecture}.{default.tag}") if default is not None and default.tag else architecture


def alias_line(name: str) -> list[str]:
    """What is said of a model that timm calls otherwise; nothing where the name is timm's."""
    ours = timms_name(name)
    return [] if ours is None else [f"{name} is timm's {ours}, {resolve_tag(name)}"]


def normalisation(tag: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A model's own mean and std, RGB in 0..1 units, from its timm configuration (ImageNet's where it has none)."""
    config = timm.get_pretrained_cfg(tag)
    if config is None:
        return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return tuple(config.mean), tuple(config.std)


def published_size(tag: str) -> int | None:
    """Side of the images that timm's weights of a tag were trained on; None where there are none."""
    config = timm.get_pretrained_cfg(tag)
    return None if config is None or not config.has_weights else int(config.input_size[1])


def published_classes(tag: str) -> int:
    """How many classes a tag's weights know."""
    config = timm.get_pretrained_cfg(tag)
    return int(config.num_classes) if config is not None else 1000


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 hex of a state dict: names, dtypes, shapes and bytes, in the order of names."""
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """State dict of a `.safetensors` file or a torch checkpoint (`model`, `state_dict` or plain), without pickled code.

    Raises:
        Missing: no such file. Mismatch: it holds no state dict.
    """
    if not path.is_file():
        raise Missing(
            f"no weights file {path}", cure="give an existing .safetensors, .pth or .pt file with --teacher-weights"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # the official DeiT and timm checkpoints carry their command line in one
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise Mismatch(
            f"the weights in {path} cannot be read: {reason}",
            expected="safetensors, or a torch file of tensors only",
            cure='write it again with: torch.save(model.state_dict(), "weights.pth")',
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise Mismatch(
            f"{path} holds no state dict",
            expected="names mapped to tensors, plain or under 'model'",
            cure='write it again with: torch.save(model.state_dict(), "weights.pth")',
        )
    return {name.removeprefix("module."): tensor for name, tensor in loaded.items()}


def load_into(
    model: nn.Module,
    state: Mapping[str, Tensor],
    source: str,
    cure: str = "name the model they were made for with --teacher",
) -> None:
    """Load all weights, strictly.

    Raises:
        Mismatch: names or shapes differ; the first few are named.
    """
    own = model.state_dict()
    problems = [f"missing {name}" for name in own if name not in state]
    problems += [f"unknown {name}" for name in state if name not in own]
    problems += [
        f"{name}: expected {list(own[name].shape)}, got {list(state[name].shape)}"
        for name in own
        if name in state and own[name].shape != state[name].shape
    ]
    if problems:
        more = [f"and {len(problems) - 4} more"] if len(problems) > 4 else []
        raise Mismatch(f"the weights in {source} do not fit the model", details=[*problems[:4], *more], cure=cure)
    model.load_state_dict(state)


def count_classes(model: nn.Module, state: Mapping[str, Tensor], source: str) -> int:
    """Number of outputs of the classifier in a state dict made for this architecture.

    Raises:
        Mismatch: the state dict has no such classifier.
    """
    name = classifier_name(model)
    if f"{name}.weight" not in state:
        raise Mismatch(
            f"{source} has no classifier {name}.weight",
            details=["they are the weights of another model, or of a network without its classifier"],
            cure="name the model they were made for with --teacher, or fit a new classifier with --fit-head",
        )
    return int(state[f"{name}.weight"].shape[0])


def classifier_name(model: nn.Module) -> str:
    """Dotted name of the module that makes the logits, such as `fc` or `head.fc`; of two heads, the class head."""
    return head_names(model)[0]


def hub_weights(tag: str, cure: str | None = None) -> nn.Module:
    """The timm model with its published weights, from the hub or the local hub cache.

    Args:
        tag: full timm tag.
        cure: what to say where they cannot be had; None: what a teacher's user can do.

    Raises:
        Missing: no weights are published, or they cannot be fetched; the cures are named.
    """
    config = timm.get_pretrained_cfg(tag)
    cures = cure or (
        "give a weights file with --teacher-weights FILE, or make a teacher for your classes with:\n"
        f"  deit-pipe train-teacher --teacher {tag.partition('.')[0]}"
    )
    if config is None or not config.has_weights:
        raise Missing(f"timm publishes no weights of {tag}", cure=cures)
    if not _can_fetch(config.hf_hub_id):
        raise Missing(f"the weights of {tag} are not here and the hub cannot be reached", cure=cures)
    try:
        model = timm.create_model(tag, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:160]
        raise Missing(
            f"the weights of {tag} cannot be fetched", details=[f"{type(error).__name__}: {reason}"], cure=cures
        ) from error
    assert isinstance(model, nn.Module)
    return model


def _can_fetch(hub_id: str | None) -> bool:
    """False when the hub would certainly fail: its client retries for most of a minute before it says so."""
    from huggingface_hub import constants, try_to_load_from_cache

    if hub_id is not None and any(
        isinstance(try_to_load_from_cache(hub_id, name), str)
        for name in ("model.safetensors", "pytorch_model.bin", "timm_model.safetensors")
    ):
        return True
    if constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # names are resolved by the proxy
    try:
        socket.getaddrinfo(urlparse(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def write_teacher_run(folder: Path, facts: TeacherRun, model: nn.Module) -> None:
    """Write weights and facts at once, with their SHA-256 in SUMS: a folder with facts is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUN_FACTS).unlink(missing_ok=True)
    save_tensors(model.state_dict(), partial_of(folder / RUN_WEIGHTS))
    write_partial(folder / RUN_FACTS, (json.dumps(asdict(facts), indent=2) + "\n").encode())
    commit(folder, [RUN_WEIGHTS, RUN_FACTS], fresh=True)


def read_teacher_run(folder: Path) -> TeacherRun | None:
    """The facts of a `train-teacher` folder; None where there is no finished one. Unknown keys are left out.

    Raises:
        Corrupt: there is a file, and it does not say what it must.
    """
    path = folder / RUN_FACTS
    if not path.is_file():
        return None
    check_sums(folder, [RUN_FACTS])
    known = {field.name for field in fields(TeacherRun)}
    try:
        with open_regular(path) as file:
            facts: dict[str, Any] = json.loads(file.read(MOST_BYTES))
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items() if k in known}
        run = TeacherRun(**values)
        for name in ("mean", "std"):
            numbers = getattr(run, name)
            if len(numbers) != 3 or not all(math.isfinite(number) for number in numbers):
                raise ValueError(f"{name} is no list of three numbers")
        if run.val_top1 is not None and not 0 <= run.val_top1 <= 1:
            raise ValueError("val_top1 is not in 0..1")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Corrupt(
            f"{path} cannot be read: {str(error).splitlines()[0]}",
            expected="what train-teacher writes: model, head, image_size, mean, std, class_names",
            cure="correct it, or make the teacher again with deit-pipe train-teacher",
        ) from error
    return run
