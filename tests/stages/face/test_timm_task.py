"""timm's own distillation tasks with a live teacher, and ours with its cached answers: the same losses."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

import deit_pipe
from deit_pipe.stages.networks.teacher import load_teacher

tasks = pytest.importorskip("timm.task")

QUICK: dict[str, Any] = {"device": "cpu", "workers": 0}


class Rounded(nn.Module):
    """A teacher whose logits are as exact as a dense cache keeps them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.pretrained_cfg = model, model.pretrained_cfg

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.model(pixels)
        return logits.half().float()


@pytest.fixture(scope="module")
def live(cache: Path) -> nn.Module:
    """The cached teacher itself."""
    names = deit_pipe.open_cache(str(cache)).class_names
    return load_teacher(
        "test_resnet", weights="random", num_classes=4, class_names=names, device=torch.device("cpu")
    ).model


def student(model: str) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = timm.create_model(model, num_classes=4, img_size=32)
    return network


def gradients(task: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in task.trainable_module.parameters() if p.grad is not None]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("model", "kind", "weights"),
    [
        ("deit_tiny_distilled_patch16_224", "hard", {"task_loss_weight": 0.5}),
        ("deit_tiny_distilled_patch16_224", "soft", {"task_loss_weight": 0.3}),
        ("deit_tiny_distilled_patch16_224", "soft", {"distill_loss_weight": 2.0}),
        ("deit_tiny_distilled_patch16_224", "soft", {}),
        ("test_vit", "soft", {"task_loss_weight": 0.3}),
    ],
)
def test_losses_and_gradients_are_those_of_timms_task(
    model: str, kind: str, weights: dict[str, float], cache: Path, live: nn.Module
) -> None:
    opened, one = deit_pipe.open_cache(str(cache)), student(model)
    how: dict[str, Any] = {"criterion": SoftTargetCrossEntropy(), "temperature": 3.0, "verbose": False, **weights}
    ours = deit_pipe.CachedDistillationTask(deepcopy(one), distill_type=kind, **how).train()
    teacher = tasks.DistillationTeacher(Rounded(live))
    if model == "test_vit":
        theirs = tasks.LogitDistillationTask(one, teacher, **how).train()
    else:
        theirs = tasks.TokenDistillationTask(one, teacher, distill_type=kind, **how).train()
    names = {"loss": "loss", "output": "output", "task_loss": "task_loss"}
    names["distill_loss"] = "kd_loss" if model == "test_vit" else "distill_loss"
    own = {name: one.pretrained_cfg[name] for name in ("mean", "std")}  # timm's task takes its input to have these
    for batch in opened.batches(16, **own, **QUICK):
        cached, online = ours(batch.images, batch), theirs(batch.images, batch.labels)
        for mine, other in names.items():
            torch.testing.assert_close(cached[mine], online[other], rtol=2e-5, atol=2e-5)
        for task, result in ((ours, cached), (theirs, online)):
            task.zero_grad()
            result["loss"].backward()
        for mine, other in zip(gradients(ours), gradients(theirs), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=2e-5)


def test_another_teacher_has_another_loss(cache: Path) -> None:
    """Guards the test above."""
    opened, one = deit_pipe.open_cache(str(cache)), student("deit_tiny_distilled_patch16_224")
    torch.manual_seed(1)
    other = timm.create_model("test_resnet", num_classes=4).eval()
    ours = deit_pipe.CachedDistillationTask(deepcopy(one), task_loss_weight=0.5)
    theirs = tasks.TokenDistillationTask(
        one, tasks.DistillationTeacher(other), criterion=SoftTargetCrossEntropy(), task_loss_weight=0.5, verbose=False
    )
    batch = next(opened.batches(16, **QUICK))
    cached, online = ours(batch.images, batch)["loss"], theirs(batch.images, batch.labels)["loss"]
    assert abs(float(cached.detach() - online.detach())) > 1e-3


def test_it_is_one_of_timms_tasks(cache: Path) -> None:
    """What timm's train.py does with a task: average, checkpoint, evaluate."""
    task = deit_pipe.CachedDistillationTask(student("deit_tiny_distilled_patch16_224"), task_loss_weight=0.5)
    assert isinstance(task, tasks.TrainingTask)
    task.setup_ema(decay=0.9)
    batch = next(deit_pipe.open_cache(str(cache)).batches(16, **QUICK))
    optimizer = torch.optim.SGD(task.parameters(), lr=0.1)
    task.train()(batch.images, batch)["loss"].backward()
    optimizer.step()
    task.update_ema(step=1)
    state = task.get_checkpoint_state()
    assert set(state) == {"state_dict"}
    again = student("deit_tiny_distilled_patch16_224")
    again.load_state_dict(state["state_dict"])
    model = task.get_eval_model().eval()
    assert torch.equal(model(batch.images), again.eval()(batch.images))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"distill_type": "firm"}, "distill_type cannot be 'firm': expected one of soft, hard"),
        ({"temperature": 0.0}, "--tau cannot be 0.0"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(deit_pipe.DeitPipeError) as error:
        deit_pipe.CachedDistillationTask(student("test_vit"), **given)
    assert str(error.value).startswith(says)
