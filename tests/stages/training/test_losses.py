"""Losses against the paper's equations written out in NumPy, and against timm's own token distillation loss."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deit_pipe.stages.training.losses import DistillationLoss, label_term, soft_term
from deit_pipe.stages.training.targets import TensorTargets, on_device
from deit_pipe.store.formats import TargetFormat, decode, encode

BATCH, CLASSES = 12, 17
CPU = torch.device("cpu")
Array = NDArray[np.float64]


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.fixture
def logits() -> dict[str, Array]:
    random = np.random.default_rng(3)
    return {name: random.normal(0, 3, (BATCH, CLASSES)) for name in ("class", "dist", "teacher")}


@pytest.fixture
def labels() -> Array:
    random = np.random.default_rng(4)
    mixed: Array = random.dirichlet(np.full(CLASSES, 0.1), BATCH)
    return mixed


def targets(teacher: Array, text: str, taus: tuple[float, ...] = (1.0,)) -> TensorTargets:
    fmt = TargetFormat.parse(text, taus, CLASSES)
    return on_device(decode(encode(teacher.astype(np.float32), fmt), fmt), CPU)


def tensor(values: Array) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def kl(p: Array, q: Array) -> float:
    return float((p * (np.log(p) - np.log(q))).sum(axis=1).mean())


@pytest.mark.parametrize("text", ["dense", "topk:3", "none"])
def test_hard_loss_is_equation_3(logits: dict[str, Array], labels: Array, text: str) -> None:
    loss = DistillationLoss(kind="hard", alpha=0.5)
    parts = loss(tensor(logits["class"]), tensor(logits["dist"]), tensor(labels), [targets(logits["teacher"], text)])
    rows = np.arange(BATCH)
    label = -(labels * np.log(softmax(logits["class"]))).sum(axis=1).mean()
    dist = -np.log(softmax(logits["dist"])[rows, logits["teacher"].argmax(axis=1)]).mean()
    assert parts.total.item() == pytest.approx(0.5 * label + 0.5 * dist, abs=1e-6)
    assert parts.label.item() == pytest.approx(label, abs=1e-6)
    assert parts.distillation.item() == pytest.approx(dist, abs=1e-6)


@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_soft_loss_is_equation_2(logits: dict[str, Array], labels: Array, tau: float) -> None:
    loss = DistillationLoss(kind="soft", alpha=0.1, tau=tau)
    stored = logits["teacher"].astype(np.float16).astype(np.float64)
    parts = loss(tensor(logits["class"]), tensor(logits["dist"]), tensor(labels), [targets(logits["teacher"], "dense")])
    expected = tau**2 * kl(softmax(stored / tau), softmax(logits["dist"] / tau))
    assert parts.distillation.item() == pytest.approx(expected, rel=1e-5)
    label = -(labels * np.log(softmax(logits["class"]))).sum(axis=1).mean()
    assert parts.total.item() == pytest.approx(0.9 * label + 0.1 * expected, rel=1e-5)


def test_deit_reduction_is_smaller_by_the_number_of_classes(logits: dict[str, Array]) -> None:
    dense = targets(logits["teacher"], "dense")
    batchmean = soft_term(tensor(logits["dist"]), dense, 3.0, "batchmean")
    official = soft_term(tensor(logits["dist"]), dense, 3.0, "deit")
    assert official.item() == pytest.approx(batchmean.item() / CLASSES, rel=1e-6)


@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_topk_loss_lumps_the_tail_into_one_bin(logits: dict[str, Array], tau: float) -> None:
    k = 5
    p, q = softmax(logits["teacher"] / tau), softmax(logits["dist"] / tau)
    top = np.argsort(-logits["teacher"], axis=1)[:, :k]
    kept_p, kept_q = np.take_along_axis(p, top, 1), np.take_along_axis(q, top, 1)
    binned_p = np.concatenate([kept_p, 1 - kept_p.sum(1, keepdims=True)], axis=1)
    binned_q = np.concatenate([kept_q, 1 - kept_q.sum(1, keepdims=True)], axis=1)
    stored = targets(logits["teacher"], f"topk:{k}", (1.0, 3.0))
    measured = soft_term(tensor(logits["dist"]), stored, tau, "batchmean").item()
    # what is stored is float16
    assert measured == pytest.approx(tau**2 * kl(binned_p, binned_q), rel=3e-3)
    full = tau**2 * kl(p, q)
    assert measured <= full * 1.003


def test_topk_of_all_classes_is_the_dense_loss(logits: dict[str, Array]) -> None:
    everything = targets(logits["teacher"], f"topk:{CLASSES}")
    dense = targets(logits["teacher"], "dense")
    for one, other in ((everything, dense),):
        a = soft_term(tensor(logits["dist"]), one, 1.0, "batchmean").item()
        assert np.isfinite(a)
        assert a == pytest.approx(soft_term(tensor(logits["dist"]), other, 1.0, "batchmean").item(), rel=3e-3)


def test_gradient_of_a_topk_loss_is_finite_when_the_teacher_is_certain() -> None:
    certain = np.full((2, CLASSES), -50.0)
    certain[:, 3] = 50.0
    student = torch.zeros(2, CLASSES, requires_grad=True)
    soft_term(student, targets(certain, "topk:2"), 1.0, "batchmean").backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_bce_is_deit_threes_on_binarised_targets(logits: dict[str, Array], labels: Array) -> None:
    hot = np.where(labels > 0.2, labels, 0.0)
    z = logits["class"]
    p = 1 / (1 + np.exp(-z))
    y = hot > 0
    expected = -(np.where(y, np.log(p), np.log(1 - p))).mean()
    assert label_term(tensor(z), tensor(hot), "bce").item() == pytest.approx(expected, abs=1e-6)


def test_two_teachers_are_averaged_with_their_weights(logits: dict[str, Array], labels: Array) -> None:
    one, two = targets(logits["teacher"], "none"), targets(-logits["teacher"], "none")
    args = tensor(logits["class"]), tensor(logits["dist"]), tensor(labels)

    def distillation(weights: tuple[float, ...], answers: list[TensorTargets]) -> float:
        loss = DistillationLoss(kind="hard", alpha=0.5, teacher_weights=weights)
        return loss(*args, answers).distillation.item()

    both = distillation((0.75, 0.25), [one, two])
    assert both == pytest.approx(0.75 * distillation((1.0,), [one]) + 0.25 * distillation((1.0,), [two]), rel=1e-6)


def test_agrees_with_timms_token_distillation_loss(logits: dict[str, Array], labels: Array) -> None:
    task = pytest.importorskip("timm.task.token_distillation")
    assert task is not None
    tau, dense = 3.0, targets(logits["teacher"], "dense")
    assert dense.logits is not None
    student, teacher = tensor(logits["dist"]), dense.logits
    # timm/task/token_distillation.py, soft: batchmean and tau^2
    theirs = (
        torch.nn.functional.kl_div(
            torch.log_softmax(student / tau, 1),
            torch.log_softmax(teacher / tau, 1),
            reduction="batchmean",
            log_target=True,
        )
        * tau**2
    )
    assert soft_term(student, dense, tau, "batchmean").item() == pytest.approx(theirs.item(), rel=1e-6)


def test_losses_are_computed_in_float32_from_bfloat16_logits(logits: dict[str, Array], labels: Array) -> None:
    loss = DistillationLoss(kind="soft", alpha=0.5, tau=3.0)
    half = tensor(logits["class"]).bfloat16(), tensor(logits["dist"]).bfloat16()
    parts = loss(*half, tensor(labels), [targets(logits["teacher"], "dense")])
    wide = loss(half[0].float(), half[1].float(), tensor(labels), [targets(logits["teacher"], "dense")])
    assert parts.total.dtype == torch.float32
    assert parts.total.item() == wide.total.item()


def test_the_tail_pulls_an_over_confident_student_back() -> None:
    """A teacher with 0.4 in the tail, a student with none: the gradient of the lumped bin must not vanish."""
    teacher = np.log(np.array([[0.6, *([0.4 / 16] * 16)]]))
    student = torch.zeros(1, CLASSES, requires_grad=True)
    with torch.no_grad():
        student[0, 0] = 30.0
    soft_term(student, targets(teacher, "topk:1"), 1.0, "batchmean").backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert student.grad[0, 0].item() == pytest.approx(0.4, abs=2e-3)
    assert student.grad[0, 1:].sum().item() == pytest.approx(-0.4, abs=2e-3)


# -- unlabelled images: label -1, a view's labelled share below 1


@pytest.mark.parametrize("kind", ["ce", "bce"])
def test_a_view_counts_in_the_label_term_by_its_labelled_share(
    kind: str, logits: dict[str, Array], labels: Array
) -> None:
    share = np.array([1.0, 0.0, 0.25, 0.75] * 3)
    hot = np.where(labels > 0.2, labels, 0.0) if kind == "bce" else labels
    soft = hot * share[:, None]
    z = logits["class"]
    if kind == "ce":
        each = -(labels * np.log(softmax(z))).sum(axis=1)
    else:
        p = 1 / (1 + np.exp(-z))
        each = -np.where(hot > 0, np.log(p), np.log(1 - p)).mean(axis=1)
    measured = label_term(tensor(z), tensor(soft), kind, tensor(share)).item()
    assert measured == pytest.approx((share * each).mean(), rel=1e-5)  # the mean is over all views


@pytest.mark.parametrize("kind", ["ce", "bce"])
def test_an_unlabelled_view_pushes_no_class_of_the_class_head(kind: str, logits: dict[str, Array]) -> None:
    loss = DistillationLoss(kind="hard", alpha=0.5, label=kind)
    share = torch.zeros(BATCH)
    share[0] = 1.0
    soft = torch.zeros(BATCH, CLASSES)
    soft[0, 3] = 1.0
    z = tensor(logits["class"]).requires_grad_()
    d = tensor(logits["dist"]).requires_grad_()
    loss(z, d, soft, [targets(logits["teacher"], "none")], share).total.backward()
    assert z.grad is not None
    assert d.grad is not None
    assert z.grad[0].abs().sum() > 0
    assert not z.grad[1:].any()
    assert (d.grad.abs().sum(dim=1) > 0).all()  # the teacher teaches every view


@pytest.mark.parametrize("kind", ["ce", "bce"])
def test_all_labelled_has_the_bits_of_a_loss_that_knows_no_shares(
    kind: str, logits: dict[str, Array], labels: Array
) -> None:
    soft = tensor(np.where(labels > 0.2, labels, 0.0))
    found = []
    for share in (None, torch.ones(BATCH)):
        z = tensor(logits["class"]).requires_grad_()
        term = label_term(z, soft, kind, share)
        term.backward()  # type: ignore[no-untyped-call]
        found.append((term.item(), z.grad))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])  # type: ignore[arg-type]
