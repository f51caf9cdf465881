"""Where a teacher's network comes from: timm's hub, a weights file, a folder, or somebody's function."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from deit_pipe.stages.console.command_lines import command_line
from deit_pipe.stages.console.errors import Mismatch, UsageProblem
from deit_pipe.stages.networks.factory import is_factory
from deit_pipe.stages.networks.file_names import RUN_FACTS, RUN_WEIGHTS, STUDENT_FACTS
from deit_pipe.stages.networks.naming.model_names import timms_name
from deit_pipe.stages.networks.naming.timm_names import fit_positions, in_timms_names
from deit_pipe.stages.networks.own_networks import of_folder, of_function, stated_names
from deit_pipe.stages.networks.starting_weights import find_start, is_run
from deit_pipe.stages.networks.sums import check_sums
from deit_pipe.stages.networks.teacher_network import TeacherNetwork, sized_model
from deit_pipe.stages.networks.weights import (
    count_classes,
    digest,
    hub_weights,
    load_into,
    normalisation,
    published_size,
    read_teacher_run,
    read_weights,
    resolve_tag,
)
from deit_pipe.stages.options.train_teacher import TrainTeacherOptions

RANDOM = "random"
TEACHER_RUN = Path("teacher-run")

OF_FOLDERS = ("run, ", "export, ", "Hugging Face, ")  # how the model of a folder that describes itself is recorded


def is_folder(name: str) -> bool:
    """Whether a teacher's name is meant as a folder that says itself what it is: a run, an export."""
    if timm.is_model(name.partition(".")[0]) or timms_name(name) or is_factory(name):
        return False
    return bool(name) and ("/" in name or Path(name).exists())


def is_timms(name: str) -> bool:
    """Whether a teacher's name, typed or recorded, is one of timm's."""
    return not (is_factory(name) or is_folder(name) or name.startswith(OF_FOLDERS))


def find_network(
    name: str, weights: str | None, *, num_classes: int, class_names: tuple[str, ...], size: int | None, seed: int
) -> TeacherNetwork:
    """The network that a name, and where given its weights, stand for.

    Args:
        name: timm model, with or without tag; a folder; `package.module:function`.
        weights: a file, a folder, `random`, or None: `./teacher-run` when it holds it, else the hub.
        num_classes: of the data.
        class_names: of the data, taken for those of weights that name none.
        size: side of what it is to be given; None: what it was made for.
        seed: of random weights.

    Raises:
        UsageProblem: no such model. Missing: no weights. Mismatch: weights of another model.
    """
    if not is_timms(name):
        if weights is not None:
            raise UsageProblem(
                f"--teacher-weights {weights} goes with a timm model, and --teacher {name} brings its own weights",
                cure="leave --teacher-weights out" + ("; load them in the function" if is_factory(name) else ""),
            )
        return of_function(name, num_classes, size) if is_factory(name) else of_folder(name, class_names, size)
    tag = resolve_tag(name)
    if weights == RANDOM:
        model = _random(tag, num_classes, size, seed)
        mean, std = normalisation(tag)
        return TeacherNetwork(
            model=model,
            tag=tag,
            head=RANDOM,
            source=f"random weights, seed {seed}",
            weights_sha256=digest(model.state_dict()),
            mean=mean,
            std=std,
            num_classes=int(model.num_classes),  # type: ignore[arg-type]
        )
    folder = find_teacher_run(tag) if weights is None else _described(Path(weights))
    facts = read_teacher_run(folder) if folder is not None else None
    if facts is not None and folder is not None:
        _check_same_model(facts.model, tag, str(folder))
        check_sums(folder, [RUN_WEIGHTS])
        found = _built(tag, read_weights(folder / RUN_WEIGHTS), str(folder), size)
        known: dict[str, Any] = {"mean": facts.mean, "std": facts.std, "class_names": facts.class_names}
        return replace(found, head=facts.head, facts=facts, trained_size=facts.image_size, **known)
    if weights is not None:
        return _of_file(name, tag, weights, size)
    model = hub_weights(tag)
    network = _built(tag, model.state_dict(), f"timm hub, {tag}", size, model)
    return replace(network, trained_size=published_size(tag))


def _described(weights: Path) -> Path:
    """The folder whose teacher.json describes this file; else the path itself."""
    return weights.parent if weights.name == RUN_WEIGHTS and (weights.parent / RUN_FACTS).is_file() else weights


def find_teacher_run(tag: str) -> Path | None:
    """`./teacher-run`, or `./teacher-run-MODEL` beside it, when it holds this teacher."""
    for folder in (TEACHER_RUN, own_teacher_run(tag)):
        facts = read_teacher_run(folder)
        if facts is not None and facts.model == tag:
            return folder
    return None


def own_teacher_run(tag: str) -> Path:
    """The folder for this teacher where `./teacher-run` holds another."""
    return Path(f"{TEACHER_RUN}-{tag.partition('.')[0]}")


def _random(tag: str, num_classes: int, size: int | None, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return sized_model(tag, size, num_classes=num_classes)


def _built(
    tag: str, state: Mapping[str, Tensor], source: str, size: int | None, model: nn.Module | None = None
) -> TeacherNetwork:
    """The timm model of a tag with these weights, named as they may be; `model`: one that has them already.

    Raises:
        Mismatch: they do not fit.
    """
    probe = model or timm.create_model(tag, pretrained=False)
    named = in_timms_names(state, probe)
    classes = count_classes(probe, named, source)
    has_size = any(name.rpartition(".")[2] == "pos_embed" for name in probe.state_dict())
    if model is None or has_size:
        model = probe if classes == probe.num_classes and not has_size else sized_model(tag, size, num_classes=classes)
        own = model.state_dict()
        sha256 = digest({name: value.to(own[name].dtype) for name, value in named.items() if name in own})
        lines = fit_positions(named, model)
        load_into(model, named, source)
    else:
        sha256, lines = digest(model.state_dict()), []
    mean, std = normalisation(tag)
    return TeacherNetwork(
        model=model,
        tag=tag,
        head="pretrained",
        source=source,
        weights_sha256=sha256,
        mean=mean,
        std=std,
        num_classes=classes,
        lines=tuple(f"teacher {tag}: {line}" for line in lines),
    )


def at_size(model: nn.Module, tag: str, size: int) -> nn.Module:
    """A timm model with its weights, made for another size of images where it has only one."""
    return _built(tag, model.state_dict(), tag, size, model).model


def _of_file(name: str, tag: str, weights: str, size: int | None) -> TeacherNetwork:
    """A timm model with the weights of a file or folder; what lies beside them may say the normalisation."""
    path = Path(weights)
    if not path.exists() and is_factory(weights):
        raise UsageProblem(
            f"{weights} is no weights file", cure=f"give the function as the teacher: --teacher {weights}"
        )
    if path.is_dir() and is_run(weights) and not (path / STUDENT_FACTS).is_file():
        following = command_line("train-teacher", TrainTeacherOptions, teacher=name, out=weights)
        raise UsageProblem(
            f"{path} is not a finished train-teacher folder",
            expected=f"{RUN_WEIGHTS} and teacher.json in it",
            cure=f"make one with: {following}",
        )
    if not path.exists():
        read_weights(path)  # raises
    start = find_start(weights, tag.partition(".")[0])
    _check_same_model(start.model, tag, weights)
    network = _built(tag, start.read(), weights, size)
    stated = start.mean is not None and start.std is not None
    return replace(
        network,
        mean=start.mean if stated else network.mean,
        std=start.std if stated else network.std,
        stated=stated,
        class_names=stated_names(start),
    )


def _check_same_model(theirs: str, tag: str, source: str) -> None:
    if theirs.partition(".")[0] != tag.partition(".")[0]:
        raise Mismatch(
            f"{source} holds another teacher", expected=tag, got=theirs, cure=f"use it with: --teacher {theirs}"
        )
