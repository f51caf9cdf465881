import json

import pytest
import timm
import torch
from click.testing import CliRunner

from deit_pipe.cli import main
from deit_pipe.stages import list_models
from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.list_models import (
    STUDENTS,
    TEACHERS,
    choose_models,
    measure,
    model_facts,
    published_tags,
)
from deit_pipe.stages.options.list_models import ListModelsOptions


def test_parameters_are_those_of_the_model_and_macs_those_of_its_layers() -> None:
    """A direct count over convolutions and linear layers, on real tensors."""
    model = timm.create_model("resnet18").eval()
    macs = 0

    def count(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal macs
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        macs += output.numel() * weight[0].numel()

    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        model(torch.zeros(1, 3, 64, 64))
    facts = model_facts("resnet18", 64)
    assert facts.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert facts.gmacs == pytest.approx(macs / 1e9)


def test_attention_is_counted() -> None:
    """12 blocks of a 192-wide ViT on 198 tokens: 12 (12 d^2 n + 2 n^2 d), patches and two heads."""
    facts = model_facts("deit_tiny_distilled_patch16_224")
    tokens, width = 198, 192
    blocks = 12 * (12 * width**2 * tokens + 2 * tokens**2 * width)
    ends = 196 * width * 3 * 16 * 16 + 2 * width * 1000
    assert facts.gmacs == pytest.approx((blocks + ends) / 1e9, rel=1e-3)
    assert facts.image_size == 224


def test_the_bare_name_means_the_first_tag() -> None:
    assert published_tags("regnety_160")[0] == "deit_in1k"
    assert published_tags("resnet18")[0] == timm.get_pretrained_cfg("resnet18").tag


def test_patterns_find_names_and_a_miss_is_a_usage_error() -> None:
    assert choose_models(None, TEACHERS) == list(TEACHERS)
    assert choose_models(None, STUDENTS) == list(STUDENTS)
    assert choose_models("regnety_16?", ()) == ["regnety_160"]
    assert "resnet50" in choose_models("resnet50", ())
    with pytest.raises(UsageProblem, match="no model like"):
        choose_models("no such thing", ())


def test_a_pattern_lists_and_measures() -> None:
    done = CliRunner().invoke(main, ["list-models", "test_resnet*", "--measure", "--batch-size", "2", "--json"])
    assert done.exit_code == 0, done.output
    (facts,) = json.loads(done.stdout)["models"]
    assert (facts["name"], facts["role"]) == ("test_resnet", None)
    assert facts["images_per_second"] > 1
    done = CliRunner().invoke(main, ["list-models", "deit_tiny_dist*"])
    assert done.exit_code == 0, done.output
    assert "deit_tiny_distilled_patch16_224" in done.stdout
    done = CliRunner().invoke(main, ["list-models", "resnet1*", "--limit", "1"])
    assert "more; list them with --limit 0" in done.stdout
    assert CliRunner().invoke(main, ["list-models", "nothing like it"]).exit_code == 2


def test_without_a_pattern_both_roles_are_listed_or_the_one_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(list_models, "USUAL", {"teacher": ("test_resnet",), "student": ("test_vit",)})
    both = list_models.run(ListModelsOptions())
    assert [(facts["role"], facts["name"]) for facts in both.data["models"]] == [
        ("teacher", "test_resnet"),
        ("student", "test_vit"),
    ]
    lines = str(both.text).splitlines()
    assert lines[0] == "teachers"
    assert lines[2].startswith("test_resnet")
    assert lines[4] == "students"
    for role, name in (("teacher", "test_resnet"), ("student", "test_vit")):
        one = list_models.run(ListModelsOptions(role=role))
        assert [facts["name"] for facts in one.data["models"]] == [name]
        assert str(one.text).startswith("model")


@pytest.mark.parametrize(("role", "training"), [(None, False), ("teacher", False), ("student", True)])
def test_the_role_says_which_passes_are_timed(
    role: str | None, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    monkeypatch.setattr(list_models, "measure", lambda *given: said.append(given[-1]) or 1.0)
    list_models.run(ListModelsOptions(pattern="test_vit3", role=role, measure=True, device="cpu"))
    assert set(said) == {training}


def test_measuring_a_student_runs_backwards_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deit_pipe.stages.list_models.MEASURED_SECONDS", 0.0)
    assert measure("test_vit", 160, 2, torch.device("cpu"), True) > 0
