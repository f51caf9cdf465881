import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from stage_fakes import cache_options, write_idx

from deit_pipe.pipeline.sources.open_samples import open_samples
from deit_pipe.stages import cache_teacher, train_teacher
from deit_pipe.stages.console.errors import Corrupt, Mismatch, Missing, UsageProblem
from deit_pipe.stages.networks.teacher import load_teacher
from deit_pipe.stages.networks.teacher_head import plain_classifier
from deit_pipe.stages.networks.weights import (
    TeacherRun,
    digest,
    hub_weights,
    read_teacher_run,
    resolve_tag,
    write_teacher_run,
)
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.train_teacher import TrainTeacherOptions
from deit_pipe.stages.teaching.head_fit import logistic_regression

CPU = torch.device("cpu")
NAMES = ("a", "b", "c", "d")


def test_regnety_160_is_deits_own_teacher() -> None:
    """timm's default tag of that name is another network, pretrained on ImageNet-12k."""
    assert resolve_tag("regnety_160") == "regnety_160.deit_in1k"
    assert timm.get_pretrained_cfg("regnety_160").tag != "deit_in1k"
    assert resolve_tag("regnety_160.tv2_in1k") == "regnety_160.tv2_in1k"


def test_digest_sees_names_dtypes_shapes_and_every_byte() -> None:
    base = {"a": torch.zeros(4), "b": torch.ones(2)}
    same = {"b": torch.ones(2), "a": torch.zeros(4)}
    assert digest(base) == digest(same)
    changed = torch.zeros(4)
    changed[3] = -0.0
    others = [
        {"a": changed, "b": torch.ones(2)},
        {"a": torch.zeros(2, 2), "b": torch.ones(2)},
        {"a": torch.zeros(4).double(), "b": torch.ones(2)},
        {"c": torch.zeros(4), "b": torch.ones(2)},
    ]
    assert len({digest(base), *(digest(other) for other in others)}) == 5


@pytest.mark.parametrize("form", ["plain.pth", "nested.pth", "module.pth", "plain.safetensors"])
def test_weights_files_of_every_usual_form_load_alike(form: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = timm.create_model("test_resnet", num_classes=4)
    state = model.state_dict()
    path = tmp_path / form
    if form.endswith("safetensors"):
        save_file(state, path)
    else:
        prefixed = {f"module.{k}": v for k, v in state.items()}
        torch.save(
            {"plain": state, "nested": {"model": state, "epoch": 3}, "module": {"state_dict": prefixed}}[path.stem],
            path,
        )
    teacher = load_teacher("test_resnet", weights=str(path), num_classes=4, class_names=NAMES, device=CPU)
    assert teacher.weights_sha256 == digest(state)
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


def test_a_checkpoint_with_code_in_it_is_never_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "touched"),))

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(Exception, match=r"(?i)weights"):
        load_teacher("test_resnet", weights=str(tmp_path / "evil.pth"), num_classes=4, class_names=NAMES, device=CPU)
    assert not (tmp_path / "touched").exists()


def test_an_unreachable_hub_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deit_pipe.stages.networks.weights._can_fetch", lambda hub_id: False)
    with pytest.raises(Missing, match="hub cannot be reached"):
        hub_weights("regnety_160.deit_in1k")


def test_train_teacher_learns_and_its_folder_is_a_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_idx(tmp_path / "data")
    result = train_teacher.run(
        TrainTeacherOptions(
            teacher="test_resnet",
            data=str(data),
            init="scratch",
            epochs=8,
            batch_size=16,
            lr=3e-3,
            workers=0,
            device="cpu",
        )
    )
    assert result.data["val_top1"] > 0.6
    facts = read_teacher_run(tmp_path / "teacher-run")
    assert facts is not None
    assert facts.model == "test_resnet.r160_in1k"
    # found by itself, as ./teacher-run
    teacher = load_teacher(
        "test_resnet",
        weights=None,
        num_classes=4,
        class_names=open_samples(str(data)).class_names,
        device=CPU,
    )
    assert teacher.head == "trained"
    assert teacher.weights_sha256 == result.data["weights_sha256"]
    with pytest.raises(Mismatch, match="another order"):
        load_teacher("test_resnet", weights="teacher-run", num_classes=4, class_names=("3", "2", "1", "0"), device=CPU)
    with pytest.raises(Mismatch, match="already holds another teacher"):
        train_teacher.run(
            TrainTeacherOptions(teacher="test_efficientnet", data=str(data), init="scratch", device="cpu")
        )


def test_fit_head_gives_a_frozen_body_a_classifier_and_keeps_it_for_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_idx(tmp_path / "data")
    torch.manual_seed(0)
    body = timm.create_model("test_resnet")  # 1000 classes
    save_file(body.state_dict(), tmp_path / "body.safetensors")
    options = CacheTeacherOptions(
        teacher="test_resnet",
        teacher_weights="body.safetensors",
        data=str(data),
        epochs=1,
        fit_head=True,
        workers=0,
        device="cpu",
        recipe="small",
    )
    first = cache_teacher.run(options)
    facts = read_teacher_run(tmp_path / "teacher-run")
    assert facts is not None
    assert facts.head == "fitted"
    fitted = load_teacher(
        "test_resnet", weights="teacher-run", num_classes=4, class_names=facts.class_names, device=CPU
    )
    conv = next(name for name in body.state_dict() if name.endswith("conv1.weight"))
    assert torch.equal(fitted.model.state_dict()[conv], body.state_dict()[conv])
    again = cache_teacher.run(options)
    assert first.data["written"] > 0
    assert again.data["written"] == 0
    assert json.loads((tmp_path / "teacher-run" / "teacher.json").read_text())["class_names"] == [
        "0",
        "1",
        "2",
        "3",
    ]


def test_logistic_regression_finds_the_optimum() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    features = random.normal(0, 1, (300, 5)) * [1, 10, 0.1, 1, 1] + np.eye(3, 5)[labels] * 2 + 7
    head = logistic_regression(torch.tensor(features, dtype=torch.float32), torch.tensor(labels), 3)
    sklearn = pytest.importorskip("scipy.optimize")
    scaled = (features - features.mean(0)) / features.std(0)

    def objective(flat: np.ndarray) -> float:
        weight, bias = flat[:15].reshape(3, 5), flat[15:]
        z = scaled @ weight.T + bias
        z = z - z.max(1, keepdims=True)
        return float(np.log(np.exp(z).sum(1)).mean() - z[np.arange(300), labels].mean() + 0.5e-4 * (weight**2).sum())

    best = sklearn.minimize(objective, np.zeros(18), method="BFGS", options={"gtol": 1e-8}).fun
    with torch.inference_mode():
        raw = head(torch.tensor(features, dtype=torch.float32)).double().numpy()
    raw -= raw.max(1, keepdims=True)
    weight = head.weight.detach().double().numpy() * features.std(0)
    ours = np.log(np.exp(raw).sum(1)).mean() - raw[np.arange(300), labels].mean() + 0.5e-4 * (weight**2).sum()
    assert ours == pytest.approx(best, abs=1e-4)


def test_a_checkpoint_with_its_command_line_in_it_loads(tmp_path: Path) -> None:
    """The official DeiT and timm files hold an argparse.Namespace beside the weights."""
    state = timm.create_model("test_resnet", num_classes=4).state_dict()
    torch.save({"model": state, "args": argparse.Namespace(lr=0.1)}, tmp_path / "official.pth")
    teacher = load_teacher(
        "test_resnet", weights=str(tmp_path / "official.pth"), num_classes=4, class_names=NAMES, device=CPU
    )
    assert teacher.weights_sha256 == digest(state)


@pytest.mark.parametrize("name", ["broken.safetensors", "empty.pth"])
def test_unreadable_weights_are_a_message(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"" if name.startswith("empty") else b"nothing at all")
    with pytest.raises(Mismatch, match="cannot be read"):
        load_teacher("test_resnet", weights=str(tmp_path / name), num_classes=4, class_names=NAMES, device=CPU)


def test_views_that_a_teacher_cannot_take_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    data = write_idx(tmp_path / "data")
    options = cache_options(data, tmp_path / "cache", teacher="vit_tiny_patch16_224", recipe="small", img_size=40)
    with pytest.raises(UsageProblem, match=r"(?s)cannot take views of 40 px.*patches.*--teacher-img-size.* 224"):
        cache_teacher.run(options)
    assert not (tmp_path / "cache").exists()


def test_train_teacher_again_is_a_no_op_that_says_so(tmp_path: Path) -> None:
    options = TrainTeacherOptions(
        teacher="test_resnet",
        data=str(write_idx(tmp_path / "data", train=32)),
        init="scratch",
        epochs=1,
        batch_size=16,
        workers=0,
        device="cpu",
        out=str(tmp_path / "run"),
    )
    first = train_teacher.run(options)
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    again = train_teacher.run(options)
    assert "nothing to do" in again.text
    assert again.data["val_top1"] == first.data["val_top1"]
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    "text",
    [
        "{bad",
        "{}",
        '{"model": "test_resnet", "head": "trained", "image_size": 32, "mean": [0.5], "class_names": ["a"]}',
    ],
)
def test_a_teacher_folder_that_cannot_be_read_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "teacher.json").write_text(text)
    with pytest.raises(Corrupt, match=r"teacher\.json cannot be read"):
        read_teacher_run(tmp_path)


def test_a_folder_whose_teacher_was_made_of_other_images_is_refused(tmp_path: Path) -> None:
    def train(seed: int) -> object:
        data = write_idx(tmp_path / f"data{seed}", train=32 + 4 * seed)
        return train_teacher.run(
            TrainTeacherOptions(
                teacher="test_resnet",
                data=str(data),
                init="scratch",
                epochs=1,
                batch_size=16,
                workers=0,
                device="cpu",
                out=str(tmp_path / "run"),
            )
        )

    train(0)
    with pytest.raises(Mismatch, match="was made otherwise"):
        train(1)


def test_a_head_is_fitted_on_a_convolutional_classifier_too() -> None:
    model = timm.create_model("resnetv2_50", num_classes=7)
    classifier = model.get_classifier()
    assert isinstance(classifier, torch.nn.Conv2d)
    teacher = load_teacher("resnetv2_50", weights="random", num_classes=7, class_names=tuple("abcdefg"), device=CPU)
    assert plain_classifier(teacher).weight.shape == classifier.weight.shape


def test_the_weights_file_of_a_teacher_folder_is_described_by_what_lies_beside_it(tmp_path: Path) -> None:
    """Its normalisation and its order of classes count, as with the folder's own name."""
    model = timm.create_model("test_resnet", num_classes=2)
    names = TeacherRun(
        model="test_resnet.r160_in1k",
        head="trained",
        image_size=32,
        mean=(0.1,) * 3,
        std=(0.3,) * 3,
        class_names=("b", "a"),
    )
    write_teacher_run(tmp_path, names, model)
    given = {"num_classes": 2, "device": torch.device("cpu"), "weights": str(tmp_path / "model.safetensors")}
    teacher = load_teacher("test_resnet", class_names=("b", "a"), **given)
    assert (teacher.mean, teacher.std, teacher.head) == ((0.1,) * 3, (0.3,) * 3, "trained")
    with pytest.raises(Mismatch, match="in another order"):
        load_teacher("test_resnet", class_names=("a", "b"), **given)
