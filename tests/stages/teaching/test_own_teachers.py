"""Everyone's teacher: files of other code, folders, functions; the gate says what other code measures.

The other code is Pillow, numpy, torchvision and timm: it reads the files itself, nothing of ours makes its images.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy.optimize import linear_sum_assignment
from stage_fakes import CLASSES, cache_options, student_options, write_idx
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn
from torchvision.transforms.functional import InterpolationMode, resize

from deit_pipe.stages import cache_teacher, export, inspect_cache, train_student
from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.options.export import ExportOptions
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
from deit_pipe.store.gates import read_gate
from deit_pipe.store.manifest import list_teachers, read_teacher
from deit_pipe.store.reader import TargetReader

TRAIN, VAL, SIZE = 48, 32, 32
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
Net = Callable[[Tensor], Tensor]

FACTORY = """
import torch
from torch import nn


class Own(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.ReLU(), nn.Flatten())
        self.top = nn.Linear(128, classes)

    def forward(self, images):
        return self.top(self.body(images))


def make(num_classes):
    net = Own(num_classes)
    net.load_state_dict(torch.load("own.pt", weights_only=True))
    return net
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_idx(tmp_path_factory.mktemp("own") / "data", train=TRAIN, val=VAL)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    return tmp_path


def images(data: Path, stem: str) -> tuple[Tensor, Tensor]:
    """Pixels float32 [N, 3, 32, 32], 0..1, and labels int64 [N], from the IDX files by numpy and Pillow."""
    raw = np.frombuffer((data / f"{stem}-images-idx3-ubyte").read_bytes()[16:], np.uint8).reshape(-1, 16, 16)
    labels = np.frombuffer((data / f"{stem}-labels-idx1-ubyte").read_bytes()[8:], np.uint8)
    made = [np.asarray(Image.fromarray(one).convert("RGB").resize((SIZE, SIZE), Image.BICUBIC)) for one in raw]
    return torch.tensor(np.stack(made)).permute(0, 3, 1, 2) / 255, torch.tensor(labels.astype(np.int64))


def normal(pixels: Tensor, normalisation: tuple[Any, Any]) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in normalisation)
    return (pixels - mean) / std


@torch.inference_mode()
def teach(net: nn.Module, heads: list[nn.Linear], data: Path, normalisation: tuple[Any, Any]) -> None:
    """Set batch statistics and heads from the first few training images: a teacher that is often right, not always."""
    pixels, labels = (values[:24] for values in images(data, "train"))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    net.train()(normal(pixels, normalisation))
    net.eval()
    for head in heads:
        seen: list[Tensor] = []
        hook = head.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0]))
        net(normal(pixels, normalisation))
        hook.remove()
        features = seen[0].double()
        features = torch.cat([features, torch.ones(len(features), 1)], dim=1)
        wanted = torch.eye(CLASSES, dtype=torch.float64)[labels]
        gram = features.T @ features + 1e-3 * features.square().mean() * len(features) * torch.eye(features.shape[1])
        solved = torch.linalg.solve(gram, features.T @ wanted).T.float()
        head.weight.copy_(solved[:, :-1])
        head.bias.copy_(solved[:, -1])


def check(data: Path, cache: Path, net: Net, normalisation: tuple[Any, Any], sees: int = SIZE) -> float:
    """The gate's accuracy is what `net` gets on the validation images, and the cached logits are what it answers."""
    (name,) = list_teachers(cache)
    gate = read_gate(cache, name)
    assert gate is not None

    @torch.inference_mode()
    def answers(stem: str) -> tuple[Tensor, Tensor]:
        pixels, labels = images(data, stem)
        if sees != SIZE:
            pixels = resize(pixels, [sees, sees], InterpolationMode.BICUBIC, antialias=True)
        return net(normal(pixels, normalisation)), labels

    logits, labels = answers({"val": "t10k", "train": "train"}[gate["split"]])  # train where val are too few to tell
    right = float((logits.argmax(1) == labels).float().mean())
    assert gate["images"] == len(labels)
    assert gate["accuracy"] == pytest.approx(right, abs=1e-7)
    logits, labels = answers("train")
    cached = TargetReader(cache, name).read(0, np.arange(TRAIN))
    check_rows(cached.logits.astype(np.float64), logits.double().numpy())
    return right


def check_rows(cached: np.ndarray, own: np.ndarray) -> None:
    """In some order the rows are the same, within the rounding of float16."""
    distance = np.abs(cached[:, None] - own[None]).max(axis=2)
    rows, places = linear_sum_assignment(distance)
    assert distance[rows, places].max() < 2e-3 * max(1.0, np.abs(own).max())


def cached_with(data: Path, cache: Path, teacher: str, weights: object = None, **changed: Any) -> Any:
    recipe = cache.with_suffix(".toml")
    recipe.write_text('base = "eval"\ncrop_ratio = 1.0\n')
    options = {"teacher_weights": None if weights is None else str(weights), "recipe": str(recipe), "epochs": 1}
    return cache_teacher.run(cache_options(data, cache, teacher=teacher, **(options | changed)))


def test_a_torchvision_checkpoint_teaches(data: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = torchvision.models.regnet_y_400mf(num_classes=CLASSES)
    teach(net, [net.fc], data, IMAGENET)
    torch.save(net.state_dict(), "regnet_y_400mf-c65dace8.pth")
    cached_with(data, here / "c", "RegNetY-400MF", "regnet_y_400mf-c65dace8.pth")
    said = capsys.readouterr().err
    assert "RegNetY-400MF is timm's regnety_004" in said
    assert "does not say its normalisation" in said
    assert "mean 0.485,0.456,0.406, std 0.229,0.224,0.225" in said
    assert check(data, here / "c", net, IMAGENET) > 0.4


def test_a_checkpoint_of_deits_own_code_teaches_by_both_heads(data: Path, here: Path) -> None:
    full = timm.create_model("deit_tiny_distilled_patch16_224", img_size=SIZE, num_classes=CLASSES)
    teach(full, [full.head, full.head_dist], data, IMAGENET)
    torch.save({"model": full.state_dict(), "epoch": 299, "args": argparse.Namespace(lr=1e-3)}, "official.pth")
    cached_with(data, here / "c", "deit_tiny_distilled_patch16_224", "official.pth")

    def fused(pixels: Tensor) -> Tensor:
        tokens = full.norm(full.blocks(full.pos_drop(full._pos_embed(full.patch_embed(pixels)))))
        return (full.head(tokens[:, 0]) + full.head_dist(tokens[:, 1])) / 2

    assert check(data, here / "c", fused, IMAGENET) > 0.4


def test_a_vision_transformer_of_another_size_teaches(
    data: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "vit_tiny_patch16_224"
    larger = timm.create_model(name, img_size=64, num_classes=CLASSES)
    net = timm.create_model(name, img_size=SIZE, num_classes=CLASSES)
    teach(net, [net.head], data, HALF)
    state = {**net.state_dict(), "pos_embed": larger.pos_embed.detach() * 20}
    save_file({key: value.contiguous() for key, value in state.items()}, "vit.safetensors")
    net.load_state_dict(checkpoint_filter_fn(state, net))  # timm's own resampling
    cached_with(data, here / "c", name, "vit.safetensors", accept_teacher=True, teacher_mean="0.5", teacher_std="0.5")
    assert "position embeddings 4x4 -> 2x2 (bicubic, 1 prefix tokens kept)" in capsys.readouterr().err
    check(data, here / "c", net, HALF)


def test_a_function_teaches_and_it_is_said_that_its_code_runs(
    data: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = make_function(data, here, "own_nets")
    numbers = {"teacher_mean": "0.5,0.5,0.5", "teacher_std": "0.25"}
    cached_with(data, here / "c", "own_nets:make", **numbers)
    assert "--teacher own_nets:make: this runs code of the module own_nets" in capsys.readouterr().err
    assert check(data, here / "c", net, ((0.5,) * 3, (0.25,) * 3)) > 0.4
    identity = read_teacher(here / "c", "own_nets-make")
    assert (identity.model, identity.std) == ("own_nets:make", (0.25,) * 3)
    # a stranger's cache names a function: its code runs only where the person names it
    replay = {"cache": str(here / "c"), "replay": "all", "device": "cpu"}
    with pytest.raises(UsageProblem, match="runs only where you name it"):
        inspect_cache.run(InspectCacheOptions(**replay, teacher_weights="own.pt"))
    found = inspect_cache.run(InspectCacheOptions(**replay, teacher_weights="own_nets:make"))
    assert found.exit_code == 0
    options = {"teacher": "own_nets-make", "epochs": 1}
    with pytest.raises(UsageProblem, match="runs only where you name it"):
        train_student.run(student_options(here / "c", here / "no", online_teacher=True, **options))
    cached = train_student.run(student_options(here / "c", here / "one", **options))
    online = student_options(here / "c", here / "two", online_teacher=True, teacher_weights="own_nets:make", **options)
    train_student.run(online)
    assert cached.data["steps"] == 3
    assert same_weights(here / "one", here / "two")


def make_function(data: Path, here: Path, module: str) -> nn.Module:
    (here / f"{module}.py").write_text(FACTORY)
    space: dict[str, Any] = {}
    exec(FACTORY, space)
    net: nn.Module = space["Own"](CLASSES)
    teach(net, [net.top], data, ((0.5,) * 3, (0.25,) * 3))
    torch.save(net.state_dict(), "own.pt")
    return net


def same_weights(one: Path, two: Path) -> bool:
    states = [load_file(run / "student.safetensors") for run in (one, two)]
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_finished_student_and_its_export_teach_by_their_fused_answer(data: Path, here: Path) -> None:
    cached_with(data, here / "first", "test_resnet", "random", accept_teacher=True)
    train_student.run(student_options(here / "first", here / "run", epochs=6, lr=5e-3, loss="none"))
    export.run(ExportOptions(run="run", format="timm", out="exported"))
    facts = json.loads((here / "run" / "student.json").read_text())
    net = VisionTransformerDistilled(img_size=SIZE, num_classes=CLASSES, **facts["sizes"]).eval()
    net.load_state_dict(load_file(here / "run" / "student.safetensors"))

    def fused(pixels: Tensor) -> Tensor:
        tokens = net.norm(net.blocks(net.pos_drop(net._pos_embed(net.patch_embed(pixels)))))
        return (net.head(tokens[:, 0]) + net.head_dist(tokens[:, 1])) / 2

    for number, folder in enumerate(("run", "exported")):
        cached_with(data, here / f"c{number}", folder, accept_teacher=True)
        check(data, here / f"c{number}", fused, (facts["mean"], facts["std"]))
    shas = {read_teacher(here / f"c{n}", list_teachers(here / f"c{n}")[0]).weights_sha256 for n in range(2)}
    assert len(shas) == 1
    found = inspect_cache.run(InspectCacheOptions(cache="c0", replay="all", teacher_weights="run", device="cpu"))
    assert found.exit_code == 0
    assert f"--teacher {here / 'run'}" in continued(here / "c0")


def continued(cache: Path) -> str:
    from deit_pipe.stages.opened.continue_line import continue_teacher

    return continue_teacher(str(cache), list_teachers(cache)[0])


def test_a_teacher_of_another_size_sees_the_same_views_resized(
    data: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = timm.create_model("test_resnet", num_classes=CLASSES)
    teach(net, [net.fc], data, HALF)
    torch.save(net.state_dict(), "net.pth")
    cached_with(data, here / "c", "test_resnet", "net.pth", teacher_img_size=80, accept_teacher=True)
    said = capsys.readouterr().err
    assert "its views of 32 px are resized to 80 px (bicubic, antialiased)" in said
    check(data, here / "c", net, HALF, sees=80)
    (name,) = list_teachers(here / "c")
    assert read_teacher(here / "c", name).input_size == 80
    assert "--teacher-img-size 80" in continued(here / "c")
    # replay, witnesses and the teacher in the loop take it from the cache
    found = inspect_cache.run(InspectCacheOptions(cache="c", replay="all", teacher_weights="net.pth", device="cpu"))
    assert (found.exit_code, found.data["replay"]["answers"][0]["different"]) == (0, 0)
    train_student.run(student_options(here / "c", here / "one", epochs=1))
    train_student.run(student_options(here / "c", here / "two", epochs=1, online_teacher=True))
    assert same_weights(here / "one", here / "two")
    with pytest.raises(Exception, match="input_size") as caught:
        cached_with(data, here / "c", "test_resnet", "net.pth", accept_teacher=True)
    assert getattr(caught.value, "exit_code", None) == 4


def test_a_size_that_is_the_views_own_is_no_resize(data: Path, here: Path) -> None:
    cached_with(data, here / "c", "test_resnet", "random", teacher_img_size=SIZE)
    assert "input_size" not in json.loads(next((here / "c" / "teachers").glob("*.json")).read_text())["identity"]


def test_a_folder_says_its_own_normalisation(data: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As timm's and the hub's folders do, in config.json; options win over it."""
    net = timm.create_model("test_resnet", num_classes=CLASSES)
    own = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    teach(net, [net.fc], data, own)
    folder = here / "hub"
    folder.mkdir()
    save_file(net.state_dict(), folder / "model.safetensors")
    config = {"architecture": "test_resnet", "num_classes": CLASSES}
    (folder / "config.json").write_text(json.dumps(config | {"pretrained_cfg": {"mean": own[0], "std": own[1]}}))
    for number, (teacher, weights) in enumerate(
        [("test_resnet", folder), ("test_resnet", folder / "model.safetensors"), ("./hub", None)]
    ):
        cached_with(data, here / f"c{number}", teacher, weights)
        check(data, here / f"c{number}", net, own)
    assert "does not say its normalisation" not in capsys.readouterr().err
    cached_with(data, here / "given", "test_resnet", folder, teacher_mean="0", teacher_std="1", accept_teacher=True)
    check(data, here / "given", net, ((0.0,) * 3, (1.0,) * 3))
