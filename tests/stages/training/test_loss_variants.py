"""Logit matching, the label term on the distillation head, averaged weights as published, what a cache can serve."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stage_fakes import cache_options, student_options

from deit_pipe.stages import cache_teacher, train_student
from deit_pipe.stages.console.errors import Mismatch, UsageProblem
from deit_pipe.stages.networks.student import build_student, describe_student
from deit_pipe.stages.training.evaluation import best_answer
from deit_pipe.stages.training.losses import DistillationLoss, label_term, mse_term, soft_term
from deit_pipe.stages.training.targets import TensorTargets, on_device
from deit_pipe.stages.training.trainer import Trainer
from deit_pipe.store.formats import TargetFormat, decode, encode

BATCH, CLASSES = 9, 17


def logits(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 3, (BATCH, CLASSES)).astype(np.float32))


def answers(text: str = "dense", seed: int = 3) -> TensorTargets:
    fmt = TargetFormat.parse(text, (1.0, 3.0), CLASSES)
    return on_device(decode(encode(logits(seed).numpy(), fmt), fmt), torch.device("cpu"))


def soft_labels() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(4).dirichlet(np.full(CLASSES, 0.1), BATCH).astype(np.float32))


def test_mse_is_of_centred_logits_whatever_the_height_of_a_row() -> None:
    student, targets = logits(1), answers()
    a = student.numpy().astype(np.float64)
    b = logits(3).numpy().astype(np.float16).astype(np.float64)
    expected = (((a - a.mean(1, keepdims=True)) - (b - b.mean(1, keepdims=True))) ** 2).sum() / (BATCH * CLASSES)
    assert mse_term(student, targets).item() == pytest.approx(expected, rel=1e-5)
    assert mse_term(student + 100, targets).item() == pytest.approx(expected, rel=1e-4)
    assert mse_term(student, answers("dense8")).item() == pytest.approx(expected, rel=5e-3)
    parts = DistillationLoss(kind="mse", alpha=0.25)(logits(0), student, soft_labels(), [targets])
    label = label_term(logits(0), soft_labels(), "ce").item()
    assert parts.total.item() == pytest.approx(0.75 * label + 0.25 * expected, rel=1e-5)


def test_soft_tends_to_half_of_mse_with_the_temperature() -> None:
    student, targets = logits(1).double(), answers()
    assert soft_term(student, targets, 3000.0, "deit").item() * CLASSES == pytest.approx(
        mse_term(student, targets).item() / 2, rel=0.01
    )


@pytest.mark.parametrize("kind", ["hard", "soft", "mse"])
def test_with_dist_label_the_distillation_head_has_hintons_loss(kind: str) -> None:
    found = {}
    for dist_label in (False, True):
        z, d = logits(0).requires_grad_(), logits(1).requires_grad_()
        loss = DistillationLoss(kind=kind, alpha=0.3, tau=3.0, dist_label=dist_label)
        parts = loss(z, d, soft_labels(), [answers()])
        parts.total.backward()
        found[dist_label] = (z.grad, d.grad, parts)
    assert torch.equal(found[True][0], found[False][0])  # type: ignore[arg-type]
    d = logits(1).requires_grad_()
    alone = DistillationLoss(kind=kind, alpha=0.3, tau=3.0)(d, d, soft_labels(), [answers()])
    alone.total.backward()
    torch.testing.assert_close(found[True][1], d.grad)
    parts = found[True][2]
    assert parts.total.item() == pytest.approx((0.7 * parts.label + 0.3 * parts.distillation).item(), rel=1e-6)


def test_dist_label_alone_trains_two_class_heads() -> None:
    z, d = logits(0).requires_grad_(), logits(1).requires_grad_()
    DistillationLoss(kind="none", alpha=0.0, dist_label=True)(z, d, soft_labels(), []).total.backward()
    assert z.grad is not None
    assert d.grad is not None
    assert (d.grad.abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize(
    ("kind", "alpha", "dist_label", "labelled", "answer"),
    [
        ("none", 0.0, False, True, "class"),
        ("none", 0.0, True, True, "fused"),
        ("hard", 0.0, False, True, "class"),
        ("hard", 0.0, True, True, "fused"),
        ("mse", 0.5, False, True, "fused"),
        ("hard", 1.0, True, True, "dist"),
        ("hard", 0.5, True, False, "dist"),
    ],
)
def test_the_answer_is_of_the_heads_that_are_trained(
    kind: str, alpha: float, dist_label: bool, labelled: bool, answer: str
) -> None:
    facts = describe_student("custom", image_size=32, class_names=tuple("ab"), crop_ratio=1.0, drop_path=0.0)
    loss = DistillationLoss(kind=kind, alpha=alpha, dist_label=dist_label)
    assert best_answer(build_student(facts), loss, labelled) == answer


def test_dist_label_is_refused_for_a_student_with_one_head(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="dist-label needs a distillation head, which test_vit has not"):
        train_student.run(student_options(cache, tmp_path / "run", student="test_vit", dist_label=True))


@pytest.mark.parametrize("loss", ["soft", "mse"])
def test_a_dense8_cache_trains_as_with_the_teacher_in_the_loop(
    loss: str, data: Path, recipe: Path, tmp_path: Path
) -> None:
    planned, made = tmp_path / "planned", tmp_path / "made"
    cache_teacher.run(cache_options(data, planned, recipe=str(recipe), logits="dense8", plan_only=True))
    cache_teacher.run(cache_options(data, made, recipe=str(recipe), logits="dense8"))
    settings: dict[str, Any] = {"loss": loss, "epochs": 2, "batch_size": 16, "dist_label": True}
    train_student.run(student_options(made, tmp_path / "cached", **settings))
    train_student.run(student_options(planned, tmp_path / "online", online_teacher=True, **settings))
    one, two = (load_file(tmp_path / name / "student.safetensors") for name in ("cached", "online"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture
def topk(data: Path, recipe: Path, tmp_path: Path) -> Path:
    place = tmp_path / "topk"
    cache_teacher.run(cache_options(data, place, recipe=str(recipe), logits="topk:2@1,3"))
    return place


def test_top_k_at_a_temperature_above_1_warns_with_the_number(
    topk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_student.run(student_options(topk, tmp_path / "warned", loss="soft", tau=3.0, epochs=1))
    said = capsys.readouterr().err
    kept = float(said.partition("keeps hold ")[2].partition("%")[0])
    assert "at temperature 3 the 2 of 4 classes that test_resnet" in said
    assert 50 <= kept < 100  # two of four classes, the likelier ones
    assert "0.67 to 0.81" in said
    assert "--logits dense8" in said
    train_student.run(student_options(topk, tmp_path / "quiet", loss="soft", tau=1.0, epochs=1))
    train_student.run(student_options(topk, tmp_path / "hard", loss="hard", epochs=1))
    assert "keeps hold" not in capsys.readouterr().err


def test_mse_needs_all_logits(topk: Path, tmp_path: Path) -> None:
    with pytest.raises(Mismatch, match=r"cannot serve the loss mse .*\n.*\n  got       topk:2\n.*--logits dense8"):
        train_student.run(student_options(topk, tmp_path / "run", loss="mse"))


@pytest.mark.parametrize("warmup", [True, False])
def test_averaged_weights_are_the_published_ones_without_warm_up(
    warmup: bool, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decay, seen, averaged = 0.7, [], []
    update = Trainer.update_ema

    def watched(trainer: Trainer, step: int) -> None:
        name = "blocks.0.attn.qkv.weight"
        if not seen:  # the untrained weights, which the average begins with
            averaged.append(dict(trainer.ema.module.named_parameters())[name].clone())  # type: ignore[union-attr]
        seen.append(dict(trainer.student.named_parameters())[name].detach().clone())
        update(trainer, step)
        averaged.append(dict(trainer.ema.module.named_parameters())[name].clone())  # type: ignore[union-attr]

    monkeypatch.setattr(Trainer, "update_ema", watched)
    train_student.run(student_options(cache, tmp_path / "run", epochs=1, ema=decay, ema_warmup=warmup))
    assert len(seen) == 6
    by_hand = averaged[0].double()
    for step, weight in enumerate(seen):
        now = decay if not warmup else max(0.0, min(1 - (1 + step) ** (-2 / 3), decay))
        by_hand = now * by_hand + (1 - now) * weight.double()
        torch.testing.assert_close(averaged[step + 1].double(), by_hand, rtol=1e-5, atol=1e-7)


def test_warm_up_without_an_average_is_refused(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="ema-warmup needs averaged weights"):
        train_student.run(student_options(cache, tmp_path / "run", ema_warmup=False))


@pytest.mark.parametrize("model", ["swin_tiny_patch4_window7_224", "vgg11", "deit_tiny_distilled_patch16_224"])
@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_drop_path_is_what_was_asked_for_in_every_model(model: str, rate: float) -> None:
    facts = describe_student(model, image_size=224, class_names=tuple("ab"), crop_ratio=1.0, drop_path=rate)
    with torch.device("meta"):
        if model == "vgg11" and rate:
            with pytest.raises(UsageProblem, match="drop_path_rate"):
                build_student(facts)
            return
        rates = [getattr(module, "drop_prob", 0.0) or 0.0 for module in build_student(facts).modules()]
    assert max(rates) == pytest.approx(rate)


def test_what_is_trained_says_how_many_copies_meet(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_student.run(student_options(cache, tmp_path / "run", epochs=1, batch_size=48))
    assert (
        "(32 distinct images x 3 an epoch, 100.0% of them with all their views in one step)" in capsys.readouterr().err
    )
    train_student.run(student_options(cache, tmp_path / "small", epochs=1, batch_size=8))
    said = capsys.readouterr().err
    assert float(said.partition("x 3 an epoch, ")[2].partition("%")[0]) < 20
