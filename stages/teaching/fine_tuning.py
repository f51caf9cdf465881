"""A supervised fine-tune of a timm CNN: AdamW, one epoch of warm-up, a cosine to zero."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deit_pipe.pipeline.compose import compose, mixed_labels, normalise
from deit_pipe.pipeline.loader import load_views
from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.pipeline.recipe import load_recipe
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.errors import Mismatch, Missing, TrainingDiverged
from deit_pipe.stages.console.progress import note, progress
from deit_pipe.stages.networks.naming.timm_names import fit_positions, in_timms_names
from deit_pipe.stages.networks.teacher import Teacher
from deit_pipe.stages.networks.teacher_network import sized_model
from deit_pipe.stages.networks.teacher_sources import at_size
from deit_pipe.stages.networks.weights import digest, hub_weights, normalisation, read_weights
from deit_pipe.stages.opened.plain_views import is_small
from deit_pipe.stages.options.train_teacher import TrainTeacherOptions

FEWEST_STEPS = 4  # an epoch; fewer hardly train


def initial_model(tag: str, init: str, num_classes: int, image_size: int) -> nn.Module:
    """The network to start from, with a fresh classifier."""
    if init == "scratch":
        model = sized_model(tag, image_size, num_classes=num_classes)
    elif init in ("auto", "pretrained"):
        try:
            model = hub_weights(tag)
        except Missing as error:
            if init == "pretrained":
                raise
            note(f"{str(error).splitlines()[0]}: training {tag} from scratch")
            return initial_model(tag, "scratch", num_classes, image_size)
        model = at_size(model, tag, image_size)
        model.reset_classifier(num_classes)  # type: ignore[operator]
    else:
        model = sized_model(tag, image_size, num_classes=num_classes)
        own = model.state_dict()
        state = in_timms_names(read_weights(Path(init)), model)
        fit_positions(state, model)
        fits = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
        if len(fits) < len(own) // 2:
            raise Mismatch(
                f"{init} does not fit {tag}",
                expected=f"{len(own)} tensors",
                got=f"{len(fits)} that fit",
                cure="give weights of this model with --init",
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
    model = initial_model(tag, options.init, classes, image_size).to(device).train()
    mean, std = normalisation(tag)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    plan = ViewPlan.for_recipe(len(table), recipe, options.seed)
    asked = min(options.batch_size, max(8, len(table) // FEWEST_STEPS))
    if asked < options.batch_size:
        note(f"note: batches of {asked} instead of {options.batch_size}: there are {len(table):,} labelled images")
    batch_size = max(recipe.mix_group, asked // recipe.mix_group * recipe.mix_group)
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
                    f"the loss is not finite in epoch {views.epoch + 1}", cure="lower --lr and run again"
                )
            shown.advance(1, f"epoch {views.epoch + 1}/{options.epochs}, loss {value:.3f}")
    model.eval().requires_grad_(False)
    return Teacher(
        model=model,
        tag=tag,
        weights_sha256=digest(model.state_dict()),
        head="trained",
        mean=mean,
        std=std,
        num_classes=classes,
        class_names=table.class_names,
        precision="fp32",
        device=device,
        source=options.out,
        fitted_on=table.digest,
    )


def learning_rate_factor(step: int, warmup: int, steps: int) -> float:
    """Linear from 0 over `warmup` steps, then a half cosine to 0 at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
