"""Networks that are not timm's by name: a folder that says what it is, and what somebody's function returns."""

from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from deit_pipe.stages.console.errors import Mismatch, Missing, UsageProblem
from deit_pipe.stages.networks.adapted_weights import start_from
from deit_pipe.stages.networks.custom_student import custom_sizes
from deit_pipe.stages.networks.factory import FACTORY, factory_module
from deit_pipe.stages.networks.naming.timm_names import in_timms_names
from deit_pipe.stages.networks.starting_weights import StartingWeights, find_start
from deit_pipe.stages.networks.student import build_student, describe_student
from deit_pipe.stages.networks.teacher_network import (
    USUAL_SIZE,
    TeacherNetwork,
    probe_pixels,
    same_answers,
    wrong_size,
)
from deit_pipe.stages.networks.weights import digest, read_teacher_run

IMAGENET = 1000


def of_folder(name: str, class_names: tuple[str, ...], size: int | None) -> TeacherNetwork:
    """What train-student, export, timm or transformers wrote: the folder says what it is."""
    if not Path(name).exists():
        raise Missing(
            f"no teacher {name}: there is no such folder",
            expected="a folder of train-student or export, a timm model, or package.module:function",
            cure="give an existing folder, or list timm's models with: deit-pipe list-models",
        )
    if (facts := read_teacher_run(Path(name))) is not None:
        raise UsageProblem(
            f"{name} is a train-teacher folder",
            expected="the model with --teacher, its folder with --teacher-weights",
            cure=f"use --teacher {facts.model} --teacher-weights {name}",
        )
    start = find_start(name)
    count = start.count()
    if not count:
        raise Mismatch(f"{name} has no head: it answers nothing", cure="give a folder of a finished train-student run")
    names = stated_names(start) or (class_names if count == len(class_names) else tuple(map(str, range(count))))
    shown = size or start.image_size or USUAL_SIZE
    described = describe_student(
        start.model,
        image_size=start.image_size or shown,
        class_names=names,
        crop_ratio=1.0,
        drop_path=0.0,
        **asdict(custom_sizes(start.sizes)),
    )
    try:
        described = replace(described, image_size=shown)
        model = build_student(described)
    except UsageProblem as error:
        raise wrong_size(name, shown, error, start.image_size) from error
    taken = start_from(model, described, replace(start, class_names=names))
    stated = start.mean is not None and start.std is not None
    return TeacherNetwork(
        model=model,
        tag=start.tag,
        head="trained",
        source=name,
        weights_sha256=digest(in_timms_names(start.read(), model)),
        mean=start.mean if stated else described.mean,
        std=start.std if stated else described.std,
        stated=stated,
        num_classes=count,
        class_names=stated_names(start),
        trained_size=start.image_size,
        lines=taken.lines,
    )


def of_function(name: str, num_classes: int, size: int | None) -> TeacherNetwork:
    """What somebody's function returned, tried on two images.

    Raises:
        UsageProblem: it cannot take the size, gives no logits, or others every time.
    """
    model = factory_module(name, num_classes).cpu().eval()
    shown = size or USUAL_SIZE
    pixels = probe_pixels(shown)
    try:
        with torch.inference_mode():
            logits = model(pixels[:1])
    except Exception as error:  # it is their code
        raise wrong_size(name, shown, f"{type(error).__name__}: {error}") from error
    good = isinstance(logits, Tensor) and logits.ndim == 2 and len(logits) == 1 and logits.is_floating_point()
    if not good:
        got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UsageProblem(
            f"--teacher {name} gives no logits",
            expected=f"a tensor [1, {num_classes}] for an image [1, 3, {shown}, {shown}]",
            got=got,
            cure="let the function return a network whose forward gives one row of logits an image",
        )
    check_repeatable(name, model, pixels, logits)
    config = getattr(model, "pretrained_cfg", None) or {}
    stated = bool(config.get("mean") and config.get("std"))
    return TeacherNetwork(
        model=model,
        tag=name,
        head="pretrained",
        source=f"{FACTORY}, {name}",
        weights_sha256=digest(model.state_dict()),
        mean=tuple(config["mean"]) if stated else None,
        std=tuple(config["std"]) if stated else None,
        num_classes=int(logits.shape[1]),
        whole=True,
    )


def check_repeatable(name: str, model: nn.Module, pixels: Tensor, logits: Tensor) -> None:
    """Refuse a network whose answer to an image is not the image's own: it must not be cached.

    Args:
        name: of the function.
        model: in eval mode, as far as it obeys.
        pixels: two images.
        logits: of the first alone.

    Raises:
        UsageProblem: it answers otherwise when asked again, or beside another image.
    """
    with torch.inference_mode():
        again, beside = model(pixels[:1]), model(pixels)
    if not same_answers(again, logits):
        why = "the same image twice gives two answers"
        cure = "let eval() turn off what is random, such as dropout: nn.Dropout, or F.dropout(x, p, self.training)"
    elif beside.shape != (2, logits.shape[1]) or not same_answers(beside[:1], logits):
        why = "an image beside another one gets another answer than alone"
        cure = "let the network give one row an image, and eval() keep the statistics of batch normalisation"
    else:
        return
    raise UsageProblem(
        f"--teacher {name} does not answer to the image alone",
        details=[why],
        expected="in eval mode, the same logits for the same image",
        cure=cure,
    )


def stated_names(start: StartingWeights) -> tuple[str, ...] | None:
    """Names of the classes where the weights say them; not ImageNet's."""
    names = start.class_names
    return None if names is None or len(names) == IMAGENET else names
