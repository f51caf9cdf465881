"""`deit-pipe train-teacher`: a supervised fine-tune of a timm CNN on the user's classes."""

import math
import os
from dataclasses import fields
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deit_pipe.pipeline.compose import compose, mixed_labels, normalise
from deit_pipe.pipeline.loader import load_views
from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.pipeline.recipe import load_recipe
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.command_lines import command_line
from deit_pipe.stages.console.errors import Mismatch, Missing, TrainingDiverged, UsageProblem
from deit_pipe.stages.console.progress import note, progress
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.machine.distributed import choose_device
from deit_pipe.stages.machine.workers import choose_workers
from deit_pipe.stages.networks.teacher import Teacher, facts_of, load_teacher
from deit_pipe.stages.networks.weights import (
    digest,
    hub_weights,
    normalisation,
    read_teacher_run,
    read_weights,
    resolve_tag,
    write_teacher_run,
)
from deit_pipe.stages.opened.images import given_choice, labelled_part, open_images
from deit_pipe.stages.opened.plain_views import default_image_size, is_small
from deit_pipe.stages.opened.same_samples import check_same_classes
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.data import DataOptions
from deit_pipe.stages.options.train_teacher import TrainTeacherOptions
from deit_pipe.stages.teaching.answers import ask
from deit_pipe.stages.teaching.head_fit import fit_head
from deit_pipe.stages.teaching.plain_images import PlainImages

DATA_FIELDS = tuple(field.name for field in fields(DataOptions))


def run(options: TrainTeacherOptions) -> CommandResult:
    """Train or fit, measure, write the folder."""
    tag = resolve_tag(options.teacher)
    out = Path(options.out)
    there = read_teacher_run(out)
    if there is not None and there.model != tag:
        raise Mismatch(
            f"{out} already holds another teacher\n  expected {tag}\n  got      {there.model}\n"
            "give another folder with --out"
        )
    if there is not None:
        right = "" if there.val_top1 is None else f", {there.val_top1:.2%} of the validation images"
        text = (
            f"nothing to do: {out} holds {tag} ({there.head}{right})\n"
            f"to train it again, remove {out} or give another folder with --out"
        )
        return CommandResult(
            text, {"model": tag, "head": there.head, "val_top1": there.val_top1, "out": str(out)}
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageProblem("train-teacher runs in one process\n  start it without torchrun")
    found = open_images(options.data, given_choice(options))
    table = labelled_part(found.train)
    split, validation = ("val", found.val) if found.val is not None else ("test", found.test)
    if validation is not None:
        check_same_classes(validation, table.class_names, f"the training images {table.name}")
    image_size = options.img_size or default_image_size(table)
    device, workers = choose_device(options.device), choose_workers(options.workers)
    if options.fit_head:
        weights = (
            None if options.init in ("auto", "pretrained") else options.init.replace("scratch", "random")
        )
        body = load_teacher(
            tag, weights=weights, num_classes=len(table.class_names), class_names=table.class_names, device=device,
            seed=options.seed, any_head=True,
        )  # fmt: skip
        teacher = fit_head(
            body,
            table,
            image_size=image_size,
            batch_size=options.batch_size,
            workers=workers,
        )
    else:
        teacher = fine_tune(options, tag, table, image_size, device, workers)
    top1 = None
    if validation is not None:
        answers = ask(teacher, PlainImages(validation, options.batch_size, workers), image_size)
        top1 = None if answers is None else answers.accuracy.value
    write_teacher_run(out, facts_of(teacher, image_size, top1), teacher.model)
    accuracy = "not measured (no val or test images)" if top1 is None else f"{top1:.2%} of the {split} images"
    following = command_line(
        "cache-teacher", CacheTeacherOptions, teacher=tag, teacher_weights=str(out), data=options.data,
        img_size=options.img_size, **{name: getattr(options, name) for name in DATA_FIELDS},
    )  # fmt: skip
    text = (
        f"teacher {tag}, {teacher.head}, {image_size} px: {accuracy}\n"
        f"weights sha256 {teacher.weights_sha256[:16]}, in {out}\n"
        f"next: {following}"
    )
    data = {
        "model": tag, "head": teacher.head, "image_size": image_size, "val_top1": top1, "split": split,
        "weights_sha256": teacher.weights_sha256, "out": str(out),
    }  # fmt: skip
    return CommandResult(text, data)


def initial_model(tag: str, init: str, num_classes: int) -> nn.Module:
    """The network to start from, with a fresh classifier."""
    if init == "scratch":
        model = timm.create_model(tag, pretrained=False, num_classes=num_classes)
    elif init in ("auto", "pretrained"):
        try:
            model = hub_weights(tag)
        except Missing as error:
            if init == "pretrained":
                raise
            note(f"{str(error).splitlines()[0]}: training {tag} from scratch")
            return initial_model(tag, "scratch", num_classes)
        model.reset_classifier(num_classes)  # type: ignore[operator]
    else:
        model = timm.create_model(tag, pretrained=False, num_classes=num_classes)
        own = model.state_dict()
        state = read_weights(Path(init))
        fits = {
            name: value for name, value in state.items() if name in own and own[name].shape == value.shape
        }
        if len(fits) < len(own) // 2:
            raise Mismatch(
                f"{init} does not fit {tag}\n  expected {len(own)} tensors, {len(fits)} fit\n"
                "give weights of this model with --init"
            )
        model.load_state_dict(fits, strict=False)
        note(f"{len(fits)} of {len(own)} tensors taken from {init}")
    assert isinstance(model, nn.Module)
    return model


def fine_tune(
    options: TrainTeacherOptions,
    tag: str,
    table: SampleTable,
    image_size: int,
    device: torch.device,
    workers: int,
) -> Teacher:
    """AdamW with one epoch of warmup and a cosine to zero, cross entropy with label smoothing."""
    recipe = load_recipe(options.recipe or ("small" if is_small(table) else "basic"))
    classes = len(table.class_names)
    torch.manual_seed(options.seed)
    model = initial_model(tag, options.init, classes).to(device).train()
    mean, std = normalisation(tag)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    plan = ViewPlan.for_recipe(len(table), recipe, options.seed)
    batch_size = max(recipe.mix_group, options.batch_size // recipe.mix_group * recipe.mix_group)
    cells = [cell for epoch in range(options.epochs) for cell in plan.batches(epoch, batch_size)]
    warmup = max(1, len(cells) // options.epochs)
    with progress(f"training {tag}", len(cells), "steps") as shown:
        views_in_order = load_views(table, recipe, plan, cells, image_size=image_size, workers=workers)
        for step, views in enumerate(views_in_order):
            for group in optimizer.param_groups:
                group["lr"] = options.lr * learning_rate_factor(step, warmup, len(cells))
            on_device = views.to(device)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.precision == "bf16"):
                logits: Tensor = model(normalise(compose(on_device, recipe), mean, std))
            labels = mixed_labels(on_device, classes, options.smoothing)
            loss = -(labels * F.log_softmax(logits.float(), dim=-1)).sum(dim=-1).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if not math.isfinite(value := loss.item()):
                raise TrainingDiverged(
                    f"the loss is not finite in epoch {views.epoch + 1}\n  lower --lr and run again"
                )
            shown.advance(1, f"epoch {views.epoch + 1}/{options.epochs}, loss {value:.3f}")
    model.eval().requires_grad_(False)
    return Teacher(
        model=model, tag=tag, weights_sha256=digest(model.state_dict()), head="trained", mean=mean, std=std,
        num_classes=classes, class_names=table.class_names, precision="fp32", device=device, source=options.out,
    )  # fmt: skip


def learning_rate_factor(step: int, warmup: int, steps: int) -> float:
    """Linear from 0 over `warmup` steps, then a half cosine to 0 at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
