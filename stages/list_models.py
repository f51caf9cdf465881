"""`deit-pipe list-models`: which timm models can teach or learn, how large they are, how fast."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Any

import timm
import torch
from rich.text import Text
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.console.progress import progress
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.machine.distributed import choose_device
from deit_pipe.stages.networks.weights import PUBLISHED_TAGS
from deit_pipe.stages.options.list_models import ListModelsOptions

# DeiT's own teacher first, then networks that distillation papers use, from large to small.
TEACHERS = (
    "regnety_160",
    "regnety_080",
    "regnety_040",
    "resnet152",
    "resnet101",
    "resnet50",
    "resnet18",
    "resnet10t",
    "efficientnet_b3",
    "efficientnet_b0",
    "convnext_base",
    "convnext_tiny",
    "seresnext50_32x4d",
    "densenet121",
)
STUDENTS = (
    "deit_tiny_distilled_patch16_224",
    "deit_small_distilled_patch16_224",
    "deit_base_distilled_patch16_224",
    "deit_base_distilled_patch16_384",
    "levit_256",
    "pit_s_distilled_224",
    "efficientformerv2_s1",
    "repvit_m1_0",
    "swiftformer_s",
)
TEACHER, STUDENT = "teacher", "student"
USUAL = {TEACHER: TEACHERS, STUDENT: STUDENTS}
MEASURED_SECONDS = 1.5
SHOWN_TAGS = 3


@dataclass(frozen=True)
class ModelFacts(Facts):
    """One timm model.

    Attributes:
        name: without tag.
        parameters, gmacs: None if it cannot be built; multiply-adds of one image, in units of 1e9.
        image_size: side of its input in pixels.
        tags: of published weights, the one that the bare name means first.
        images_per_second: None where it was not measured.
        role: whose list it is in; None for a search.
    """

    name: str
    parameters: int | None
    gmacs: float | None
    image_size: int
    tags: Sequence[str]
    images_per_second: float | None = None
    role: str | None = None


@dataclass(frozen=True)
class ListedModels(Facts):
    """The `models` that are shown, and how many match."""

    models: list[ModelFacts]
    matches: int


def run(options: ListModelsOptions) -> CommandResult[ListedModels]:
    """Facts of the chosen models, as a table for each role.

    Raises:
        UsageProblem: no model matches.
    """
    chosen = [(role, name) for role in roles_of(options) for name in choose_models(options.pattern, USUAL[role])]
    shown = chosen[: options.limit or None]
    device = choose_device(options.device) if options.measure else None
    models: list[ModelFacts] = []
    with progress(
        "measuring" if device else "counting", len(shown), "models", quiet=len(shown) < 4 and not device
    ) as bar:
        for role, name in shown:
            facts = model_facts(name, options.img_size)
            facts = replace(facts, role=role if options.pattern is None or options.role else None)
            if device is not None and facts.gmacs is not None:
                rate = measure(name, facts.image_size, options.batch_size, device, role == STUDENT)
                facts = replace(facts, images_per_second=rate)
            models.append(facts)
            bar.advance(1, name)
    text = tables_text(models, measured=device is not None)
    if len(shown) < len(chosen):
        text.append(f"\nand {len(chosen) - len(shown)} more; list them with --limit 0", "dim")
    return CommandResult(text, ListedModels(models, len(chosen)))


def roles_of(options: ListModelsOptions) -> tuple[str, ...]:
    """The roles whose lists are shown; a pattern has one list, whose models are measured as teachers unless asked."""
    if options.role is not None:
        return (options.role,)
    return (TEACHER, STUDENT) if options.pattern is None else (TEACHER,)


def choose_models(pattern: str | None, usual: Sequence[str]) -> list[str]:
    """The usual models, or all timm models that match a pattern.

    Raises:
        UsageProblem: none does.
    """
    known = timm.list_models()
    if pattern is None:
        return [name for name in usual if name in known]
    wild = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    found = [name for name in known if fnmatch(name, wild)]
    if not found:
        raise UsageProblem(
            f"timm {timm.__version__} has no model like {pattern!r}",
            cure="search with a part of a name, such as 'resnet'",
        )
    return found


def model_facts(name: str, image_size: int | None = None) -> ModelFacts:
    """What a model is; nothing is measured."""
    config: Any = timm.get_pretrained_cfg(PUBLISHED_TAGS.get(name, name))
    size = image_size or (config.input_size[-1] if config is not None else 224)
    facts = ModelFacts(name, parameters=None, gmacs=None, image_size=size, tags=published_tags(name))
    try:
        with torch.device("meta"):  # shapes only: no memory, no arithmetic
            model = build(name, size).eval()
            with FlopCounterMode(display=False) as counter:
                model(torch.empty(1, 3, size, size))
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError):
        return facts
    count = sum(parameter.numel() for parameter in model.parameters())
    return replace(facts, parameters=count, gmacs=counter.get_total_flops() / 2e9)


def build(name: str, size: int) -> nn.Module:
    """A model without weights, for images of `size`."""
    settings = {"img_size": size} if "patch" in name else {}
    model: nn.Module = timm.create_model(name, pretrained=False, **settings)
    return model


def published_tags(name: str) -> list[str]:
    """Tags of published weights, the one that the bare name means first."""
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
    first = PUBLISHED_TAGS.get(name, "").partition(".")[2]
    config: Any = timm.get_pretrained_cfg(name)
    default = first or (config.tag if config is not None and config.tag in tags else "")
    return sorted(tags, key=lambda tag: (tag != default, tags.index(tag)))


def measure(name: str, size: int, batch_size: int, device: torch.device, training: bool) -> float:
    """Images per second: forward, and backward too where the model is to be trained."""
    model = build(name, size).to(device).train(training)
    pixels = torch.rand(batch_size, 3, size, size, device=device)

    def step() -> None:
        with torch.inference_mode(not training):
            out = model(pixels)
        if training:
            (out[0] if isinstance(out, tuple) else out).float().sum().backward()
            model.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    step()  # warm-up
    started, steps = time.perf_counter(), 0
    while not steps or time.perf_counter() - started < MEASURED_SECONDS:
        step()
        steps += 1
    return steps * batch_size / (time.perf_counter() - started)


def images_per_second(rate: float | None) -> str:
    """Whole images; with a decimal where they are few."""
    return "-" if rate is None else f"{rate:,.0f}" if rate >= 20 else f"{rate:.1f}"


def tables_text(models: Sequence[ModelFacts], *, measured: bool) -> Text:
    """A table of each role, under its name where there are two."""
    roles = list(dict.fromkeys(facts.role for facts in models))
    tables = [table_text([facts for facts in models if facts.role == role], measured=measured) for role in roles]
    if len(roles) < 2:
        return tables[0]
    return Text("\n\n").join(
        Text.assemble((f"{role}s\n", "bold"), table) for role, table in zip(roles, tables, strict=True)
    )


def table_text(models: Sequence[ModelFacts], *, measured: bool) -> Text:
    """The models as aligned lines."""
    rows = [("model", "parameters", "GMACs", "px", *(("img/s",) if measured else ()), "weights")]
    for facts in models:
        tags = facts.tags
        more = f" and {len(tags) - SHOWN_TAGS} more" if len(tags) > SHOWN_TAGS else ""
        speed = images_per_second(facts.images_per_second)
        rows.append(
            (
                facts.name,
                "-" if facts.parameters is None else f"{facts.parameters / 1e6:,.1f} M",
                "-" if facts.gmacs is None else f"{facts.gmacs:,.2f}",
                str(facts.image_size),
                *((speed,) if measured else ()),
                ", ".join(tags[:SHOWN_TAGS]) + more if tags else "none published",
            )
        )
    last = len(rows[0]) - 1
    widths = [max(len(row[column]) for row in rows) for column in range(last)]
    lines = []
    for place, row in enumerate(rows):
        cells = [
            f"{row[0]:<{widths[0]}}",
            *(f"{cell:>{width}}" for cell, width in zip(row[1:last], widths[1:], strict=True)),
        ]
        lines.append(Text("  ".join([*cells, row[last]]), style="" if place else "dim"))
    return Text("\n").join(lines)
