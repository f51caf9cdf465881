"""Our recipe beside timm 0.3.2, which DeiT was trained with; its numbers: timm032.json, of regenerate_timm032.py."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from timm.utils import ModelEmaV3

from deit_pipe.pipeline.compose import mixed_labels
from deit_pipe.pipeline.plan import Purpose, ViewPlan
from deit_pipe.pipeline.recipe import PRESETS
from deit_pipe.pipeline.render import FILTERS
from deit_pipe.pipeline.streams import Stream
from deit_pipe.pipeline.views import RAND_OPS, draw_mix, draw_view
from deit_pipe.stages.networks.student import build_student, describe_student
from deit_pipe.stages.training import published
from deit_pipe.stages.training.losses import label_term
from deit_pipe.stages.training.optim import learning_rate, make_optimizer, make_schedule

GOLDEN: dict[str, Any] = json.loads(Path(__file__).with_name("timm032.json").read_text(encoding="utf-8"))
VIEWS, MIXING, OPTIMISATION = GOLDEN["views"], GOLDEN["mixing"], GOLDEN["optimisation"]
DEIT = PRESETS["deit"]
DRAWS = 20_000
SHARES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
MAGNITUDES = [number / 4 for number in range(41)]
PLAN = ViewPlan(DRAWS, seed=31)


class Scripted(Stream):
    """A stream that gives the numbers it is told."""

    def __init__(self, *, uniforms: tuple[float, ...] = (), integers: tuple[int, ...] = (), lam: float = 0.0) -> None:
        super().__init__(0, int(Purpose.MIX), 0, 0)
        self.uniforms, self.integers, self.lam = list(uniforms), list(integers), lam

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * self.uniforms.pop(0)

    def integer(self, stop: int) -> int:
        return self.integers.pop(0)

    def beta(self, a: float, b: float) -> float:
        return self.lam


def student(model: str = "deit_tiny_distilled_patch16_224", drop_path: float = 0.1) -> torch.nn.Module:
    names = tuple(str(number) for number in range(1000))
    facts = describe_student(model, image_size=224, class_names=names, crop_ratio=0.875, drop_path=drop_path)
    with torch.device("meta"):
        return build_student(facts)


def test_colour_jitter_is_not_among_the_transforms_although_it_was_asked_for() -> None:
    assert VIEWS["transforms"] == [
        "RandomResizedCropAndInterpolation",
        "RandomHorizontalFlip",
        "RandAugment",
        "ToTensor",
        "Normalize",
        "RandomErasing",
    ]
    assert (DEIT.jitter, DEIT.three_augment) == (0.0, False)


def test_the_ops_their_number_and_their_chances() -> None:
    ours = [name.lower() for name, _ in RAND_OPS]
    assert ours == [name.replace("_rel", "").replace("_", "") for name in VIEWS["ops"]]
    assert (VIEWS["layers"], VIEWS["weights"]) == (DEIT.rand_layers, None)
    op = VIEWS["op"]
    assert (op["prob"], op["magnitude"], op["std"]) == (DEIT.rand_prob, DEIT.rand_magnitude, DEIT.rand_magnitude_std)
    assert VIEWS["max_level"] == DEIT.rand_magnitude_max
    assert tuple(op["fill"]) == DEIT.fill
    assert op["resample"] == FILTERS[DEIT.resample].value


@pytest.mark.parametrize("place", range(len(RAND_OPS)))
def test_the_argument_of_each_op_at_each_magnitude(place: int) -> None:
    name, argument = RAND_OPS[place]
    theirs = VIEWS["arguments"].get(VIEWS["ops"][place])
    if theirs is None:
        assert argument(5.0, DEIT, Scripted()) == ()
        return
    for sign, uniform in (("plus", 0.1), ("minus", 0.9)):
        for magnitude, expected in zip(MAGNITUDES, theirs[sign], strict=True):
            found = argument(magnitude, DEIT, Scripted(uniforms=(1 - uniform,)))  # which half negates does not matter
            assert found[0] == pytest.approx(expected[0], abs=1e-12), f"{name} {sign} at {magnitude}"


def near(ours: Any, theirs: list[float], rtol: float = 0.035) -> None:
    np.testing.assert_allclose(np.quantile(ours, SHARES), theirs, rtol=rtol)


def test_crops_and_erased_boxes() -> None:
    views = [draw_view(DEIT, PLAN.stream(0, slot, Purpose.VIEW), (500, 375), 224) for slot in range(DRAWS)]
    assert (tuple(VIEWS["crop"]["scale"]), tuple(VIEWS["crop"]["ratio"])) == (DEIT.crop_area, DEIT.crop_aspect)
    near([v.crop.width * v.crop.height / (500 * 375) for v in views], VIEWS["crop"]["area"])
    near([v.crop.width / v.crop.height for v in views], VIEWS["crop"]["aspect"])
    erasing, boxes = VIEWS["erasing"], [v.erase for v in views if v.erase is not None]
    assert (erasing["prob"], erasing["count"]) == (DEIT.erase_prob, [1, 1])
    assert tuple(erasing["area"]) == DEIT.erase_area
    np.testing.assert_allclose(erasing["log_aspect"], np.log(DEIT.erase_aspect))
    assert len(boxes) / DRAWS == pytest.approx(erasing["share"], abs=0.01)
    near([b.width * b.height / 224**2 for b in boxes], erasing["areas"], 0.06)
    near([b.height / b.width for b in boxes], erasing["aspects"], 0.06)
    np.testing.assert_allclose(VIEWS["normalise"], [DEIT.mean, DEIT.std], rtol=1e-6)


def test_cutmix_boxes_and_corrected_lambdas() -> None:
    cutmix = replace(DEIT, mixup_alpha=0.0)
    checked = 0
    for lam, y, x, top, bottom, left, right, corrected in MIXING["boxes"]:
        mix = draw_mix(cutmix, Scripted(uniforms=(0.0,), integers=(y, x), lam=lam), 224)
        assert mix is not None
        assert mix.lam == pytest.approx(corrected, abs=1e-12)
        if mix.box is not None:
            assert tuple(mix.box) == (left, top, right - left, bottom - top)
            checked += 1
    assert checked >= 30


def test_lambdas_and_the_share_of_cutmix() -> None:
    recipe = PRESETS["deit-batch"]
    drawn = [draw_mix(recipe, PLAN.stream(0, slot, Purpose.MIX), 224) for slot in range(DRAWS)]
    cut = [mix for mix in drawn if mix is not None and mix.box is not None]
    assert all(mix is not None for mix in drawn)
    # a box of no pixels counts as Mixup with lambda 1 here
    assert len(cut) / DRAWS == pytest.approx(MIXING["cutmix"], abs=0.012)
    plain = [mix.lam for mix in drawn if mix is not None and mix.box is None and mix.lam < 1]
    np.testing.assert_allclose(np.quantile(plain, SHARES), MIXING["lambdas"]["mixup"], atol=0.02)
    assert (MIXING["mode"], recipe.mixing, DEIT.mixing) == ("batch", "batch", "pair")


def test_targets_are_smoothed_then_mixed_with_the_reversed_batch() -> None:
    labels, lam = torch.tensor([0, 3, 1, 4]), 0.3125
    batch = SimpleNamespace(labels=labels, partner=torch.tensor([3, 2, 1, 0]), lam=torch.full((4,), lam))
    batch = type("Batch", (SimpleNamespace,), {"__len__": lambda self: 4})(**vars(batch))
    ours = mixed_labels(batch, 5, 0.1)  # type: ignore[arg-type]
    np.testing.assert_allclose(ours.numpy(), MIXING["targets"], atol=1e-6)


@pytest.mark.parametrize("name", ["fresh", "finetune"])
def test_the_rate_of_every_epoch(name: str) -> None:
    settings = published.published({"fresh": "deit", "finetune": "finetune"}[name])
    optimizer = make_optimizer(torch.nn.Linear(2, 2), settings)
    schedule = make_schedule(optimizer, settings)
    for epoch, rate in enumerate(OPTIMISATION["rates"][name]):
        schedule.step(epoch)
        assert learning_rate(optimizer) == pytest.approx(rate, rel=1e-9), epoch
    assert epoch + 1 == settings.epochs


def test_what_is_not_decayed() -> None:
    """The same, and the distillation token, which the official code decays for want of an entry."""
    model = student()
    optimizer = make_optimizer(model, published.published("deit"))
    free = {id(p) for group in optimizer.param_groups if group["weight_decay"] == 0 for p in group["params"]}
    ours = {name for name, parameter in model.named_parameters() if id(parameter) in free}
    assert ours == {*OPTIMISATION["not_decayed"], "dist_token", "head_dist.bias"}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.05}


def test_drop_path_grows_over_the_depth() -> None:
    rates = [float(getattr(block.drop_path1, "drop_prob", 0.0)) for block in student().blocks]  # type: ignore[union-attr]
    np.testing.assert_allclose(rates, OPTIMISATION["drop_path"], atol=1e-7)


def test_the_undistilled_model_has_as_many_parameters() -> None:
    model = student("deit_tiny_patch16_224")
    assert sum(parameter.numel() for parameter in model.parameters()) == OPTIMISATION["parameters"]


def test_averages_without_warm_up() -> None:
    weight = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(weight.weight, 1.0)
    average = ModelEmaV3(weight, decay=0.99996, use_warmup=False)
    for value, expected in zip((2.0, 5.0, -3.0), OPTIMISATION["averages"], strict=True):
        torch.nn.init.constant_(weight.weight, value)
        average.update(weight, step=None)
        assert average.module.weight.item() == pytest.approx(expected, abs=2e-7)


def test_the_label_term() -> None:
    logits = torch.linspace(-2, 2, 20).reshape(4, 5) ** 3
    soft = torch.softmax(torch.linspace(0, 3, 20).reshape(4, 5), dim=1)
    assert label_term(logits, soft, "ce").item() == pytest.approx(OPTIMISATION["soft_target_loss"], rel=1e-6)
