"""Names of networks and tensors: what others call otherwise is found, and answers as it does in their code."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn

from deit_pipe.stages.console.errors import Mismatch, UsageProblem
from deit_pipe.stages.networks.naming.model_names import timms_name
from deit_pipe.stages.networks.naming.timm_names import in_timms_names
from deit_pipe.stages.networks.teacher_sources import is_folder
from deit_pipe.stages.networks.weights import alias_line, load_into, resolve_tag

NAMES = {
    "regnet_y_16gf": "regnety_160",
    "RegNetY-16GF": "regnety_160",
    "facebook/regnet-y-160": "regnety_160",
    "RegNetY-1.6GF": "regnety_016",
    "regnet_y_400mf": "regnety_004",
    "regnet_x_400mf": "regnetx_004_tv",  # torchvision's is wider than the paper's
    "RegNetX-400MF": "regnetx_004",
    "vit_b_16": "vit_base_patch16_224",
    "ViT-L/16": "vit_large_patch16_224",
    "DeiT-S": "deit_small_patch16_224",
    "ConvNeXt-T": "convnext_tiny",
    "EfficientNet-B0": "efficientnet_b0",
    "ResNet-50": "resnet50",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_papers_and_other_libraries_are_found(name: str) -> None:
    assert timms_name(name) == NAMES[name]
    assert resolve_tag(name) == resolve_tag(NAMES[name])
    assert NAMES[name] in alias_line(name)[0]


def test_a_name_of_timms_is_not_anothers() -> None:
    assert [timms_name(name) for name in ("regnety_160", "resnet18.tv_in1k", "nothing_at_all", "", "./run")] == [
        None
    ] * 5
    assert alias_line("regnety_160") == []
    assert resolve_tag("regnet_y_16gf") == "regnety_160.deit_in1k"
    with pytest.raises(UsageProblem, match="has no model"):
        resolve_tag("nothing_at_all")


@pytest.mark.parametrize(
    ("theirs", "size"),
    [("regnet_y_400mf", 64), ("regnet_x_400mf", 64), ("efficientnet_b0", 64), ("convnext_tiny", 32), ("vit_b_16", 32)],
)
@torch.inference_mode()
def test_torchvisions_weights_answer_in_timms_network_as_in_their_own(theirs: str, size: int) -> None:
    sized = {"image_size": size} if theirs.startswith("vit") else {}
    net = getattr(torchvision.models, theirs)(num_classes=5, **sized).eval()
    moved(net)
    settings = {"img_size": size} if theirs.startswith("vit") else {}
    ours = timm.create_model(resolve_tag(theirs).partition(".")[0], num_classes=5, **settings).eval()
    load_into(ours, in_timms_names(net.state_dict(), ours), theirs)
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    expected = net(images)
    assert float(expected.std()) > 1e-3
    assert torch.allclose(ours(images), expected, rtol=1e-4, atol=1e-4)


def moved(net: nn.Module) -> None:
    """Away from the values in which a network is made, so that an exchanged tensor shows."""
    random = torch.Generator().manual_seed(1)
    for name, value in net.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            value.uniform_(-0.1, 0.1, generator=random)
        elif name.endswith(("running_var", "layer_scale")):
            value.uniform_(0.5, 1.5, generator=random)
        elif name.startswith("heads") or value.ndim == 1:
            value.add_(torch.rand(value.shape, generator=random) * 0.1)


@pytest.mark.parametrize("theirs", ["tf_efficientnet_b0", "tf_efficientnet_lite0", "efficientnet_b5"])
def test_torchvisions_efficientnet_is_no_network_of_another_padding(theirs: str) -> None:
    """The names of their tensors are the same, and all would load."""
    net = torchvision.models.efficientnet_b0(num_classes=5)
    with torch.device("meta"):
        ours = timm.create_model(theirs, num_classes=5)
    with pytest.raises(Mismatch, match="another epsilon, padding or activation"):
        in_timms_names(net.state_dict(), ours)


@pytest.mark.parametrize("place", ["runs/resnet50", "./ResNet-50"])
def test_a_folder_that_is_there_is_meant_and_not_the_model_of_its_name(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (timms_name(place), is_folder(place)) == ("resnet50", False)
    Path(place).mkdir(parents=True)
    assert (timms_name(place), is_folder(place), alias_line(place)) == (None, True, [])
