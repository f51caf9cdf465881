"""Teachers and teacher options that cannot work: one message each, the right exit code, no traceback."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import timm
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from stage_fakes import write_idx

from deit_pipe.cli import main

MODULE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes=4, shape=None):
        super().__init__()
        self.layer = nn.Linear(3, classes)
        self.shape = shape

    def forward(self, images):
        assert images.shape[-1] < 64, "only small ones"
        logits = self.layer(images.mean(dim=(2, 3)))
        return logits if self.shape is None else logits.reshape(self.shape)


def good():
    return Net()


def of_five():
    return Net(5)


def of_a_row():
    return Net(4, (4,))


def of_a_dict():
    net = Net()
    net.forward = lambda images: {"logits": 1}
    return net


def none():
    return None


def needs(path):
    return Net()


def fails():
    raise OSError("no such weights: a.pt")


def nan():
    net = Net()
    nn.init.constant_(net.layer.weight, float("nan"))
    return net


class Odd(Net):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, images):
        logits = super().forward(images)
        if self.how == "dropout":
            return nn.functional.dropout(logits)
        mean = logits.mean(0, True)
        return mean if self.how == "mean" else logits + mean


def dropout():
    return Odd("dropout")


def one_row():
    return Odd("mean")


def of_the_batch():
    return Odd("batch")


class Permuted(Net):
    def forward_features(self, images):
        return images

    def forward_head(self, images):
        return super().forward(images)

    def forward(self, images):
        return super().forward(images).flip(1)


def permuted():
    return Permuted()


number = 5
"""
HALF = ("--teacher-mean", "0.5", "--teacher-std", "0.5")
RESNET = ("--teacher", "test_resnet", "--teacher-weights")
Words = Sequence[str]


def state(**settings: object) -> dict[str, torch.Tensor]:
    net = timm.create_model("test_resnet", **settings)
    return {name: value.contiguous() for name, value in net.state_dict().items()}


def saved(**settings: object) -> Callable[[], object]:
    return lambda: save_file(state(**settings), "w.safetensors")


def without_a_tensor() -> None:
    found = state(num_classes=4)
    del found["layer1.0.conv1.weight"]
    torch.save(found, "w.pth")


def of_torchvisions_b5() -> None:
    names = ("features.0.0.weight", "features.1.0.block.0.0.weight", "classifier.1.weight")
    torch.save({name: torch.zeros(4, 3, 1, 1) for name in names}, "w.pth")


def folder(**content: str) -> Callable[[], object]:
    def write() -> None:
        Path("f").mkdir()
        for name, text in content.items():
            (Path("f") / f"{name}.json").write_text(text)

    return write


def nothing() -> None:
    """No file is needed."""


# name: (what is written, options, exit code, words of the message)
CASES: dict[str, tuple[Callable[[], object], Words, int, str]] = {
    # names
    "no such model": (nothing, ("--teacher", "resnet5000"), 2, "has no model 'resnet5000'"),
    "no such tag": (nothing, ("--teacher", "resnet18.mine"), 2, "has no weights 'mine' of resnet18"),
    "an empty name": (nothing, ("--teacher", ""), 2, "has no model ''"),
    "no such folder": (nothing, ("--teacher", "./no-run"), 3, "no teacher ./no-run: there is no such folder"),
    "an empty folder": (folder(), ("--teacher", "./f"), 3, "f holds no trained student"),
    "a train-teacher folder as the name": (
        folder(
            teacher='{"model": "test_resnet", "head": "trained", "image_size": 32, "mean": [0, 0, 0], "std": [1, 1, 1],'
            '"class_names": ["a"]}'
        ),
        ("--teacher", "./f"),
        2,
        "use --teacher test_resnet --teacher-weights ./f",
    ),
    "a Hugging Face folder of another network": (
        folder(config='{"model_type": "bert"}'),
        ("--teacher", "./f"),
        4,
        "bert",
    ),
    "a folder with other weights beside it": (
        nothing,
        ("--teacher", "./f", "--teacher-weights", "x"),
        2,
        "brings its own",
    ),
    # functions
    "half a function's name": (nothing, ("--teacher", "own:"), 2, "does not name a function"),
    "no module": (nothing, ("--teacher", "no_such_module:make"), 2, "cannot be imported"),
    "a module that raises": (
        lambda: Path("broken_nets.py").write_text("import nothing_of_that_name"),
        ("--teacher", "broken_nets:make"),
        2,
        "nothing_of_that_name",
    ),
    "no such function": (nothing, ("--teacher", "odd_nets:god"), 2, "nearest: good"),
    "a number instead of a function": (nothing, ("--teacher", "odd_nets:number"), 2, "has no function number"),
    "a function that needs an argument": (nothing, ("--teacher", "odd_nets:needs"), 2, "TypeError"),
    "a function that raises": (nothing, ("--teacher", "odd_nets:fails"), 2, "OSError: no such weights: a.pt"),
    "a function that returns nothing": (nothing, ("--teacher", "odd_nets:none"), 2, "returned no network"),
    "a network without rows": (nothing, ("--teacher", "odd_nets:of_a_row", *HALF), 2, "gives no logits"),
    "a network that gives a dict": (nothing, ("--teacher", "odd_nets:of_a_dict", *HALF), 2, "gives no logits"),
    "a network of other classes": (nothing, ("--teacher", "odd_nets:of_five", *HALF), 4, "does not know these classes"),
    "a network of another size": (
        nothing,
        ("--teacher", "odd_nets:good", "--teacher-img-size", "64", *HALF),
        2,
        "only small ones",
    ),
    "a network that knows no normalisation": (
        nothing,
        ("--teacher", "odd_nets:good"),
        2,
        "does not say how its images",
    ),
    "answers that are no numbers": (nothing, ("--teacher", "odd_nets:nan", *HALF), 4, "answers that are not finite"),
    "bf16 of a network as a whole": (
        nothing,
        ("--teacher", "odd_nets:good", "--precision", "bf16", *HALF),
        2,
        "cannot keep the head",
    ),
    "bf16 of a network whose forward does more than its parts": (
        nothing,
        ("--teacher", "odd_nets:permuted", "--precision", "bf16", *HALF),
        2,
        "cannot keep the head",
    ),
    "dropout that eval does not turn off": (
        nothing,
        ("--teacher", "odd_nets:dropout", *HALF),
        2,
        "the same image twice gives two answers",
    ),
    "one answer for a whole batch": (nothing, ("--teacher", "odd_nets:one_row", *HALF), 2, "beside another one"),
    "answers that rest on the batch": (nothing, ("--teacher", "odd_nets:of_the_batch", *HALF), 2, "beside another one"),
    "a head on somebody's network": (
        nothing,
        ("--teacher", "odd_nets:good", "--fit-head", "--accept-teacher", *HALF),
        2,
        "no head can be fitted",
    ),
    "weights for a function": (
        nothing,
        ("--teacher", "odd_nets:good", "--teacher-weights", "x.pt"),
        2,
        "load them in the function",
    ),
    "a function as weights": (nothing, (*RESNET, "odd_nets:good"), 2, "give the function as the teacher"),
    # weights
    "no weights file": (nothing, (*RESNET, "none.pth"), 3, "no weights file none.pth"),
    "weights of another model": (
        lambda: save_file({"a.weight": torch.zeros(4, 2)}, "w.safetensors"),
        (*RESNET, "w.safetensors"),
        4,
        "has no classifier fc.weight",
    ),
    "weights with a tensor missing": (without_a_tensor, (*RESNET, "w.pth"), 4, "missing layer1.0.conv1.weight"),
    "weights of other classes": (saved(num_classes=7), (*RESNET, "w.safetensors"), 4, "does not know these classes"),
    "a number as weights": (lambda: torch.save(5, "w.pth"), (*RESNET, "w.pth"), 4, "holds no state dict"),
    "a text file as weights": (
        lambda: Path("w.pth").write_text("weights"),
        (*RESNET, "w.pth"),
        4,
        "the weights in w.pth cannot be read",
    ),
    "an empty folder as weights": (folder(), (*RESNET, "f"), 2, "is not a finished train-teacher folder"),
    "a broken teacher.json": (folder(teacher="{"), (*RESNET, "f"), 5, "teacher.json cannot be read"),
    "torchvision's network that timm computes otherwise": (
        of_torchvisions_b5,
        ("--teacher", "efficientnet_b5", "--teacher-weights", "w.pth"),
        4,
        "another epsilon",
    ),
    # input
    "a mean of two numbers": (
        nothing,
        (*RESNET, "random", "--teacher-mean", "1,2"),
        2,
        "--teacher-mean cannot be '1,2'",
    ),
    "a mean of words": (nothing, (*RESNET, "random", "--teacher-mean", "imagenet"), 2, "--teacher-mean cannot be"),
    "a mean alone": (nothing, (*RESNET, "random", "--teacher-mean", "0.5"), 2, "given without --teacher-std"),
    "a std alone": (nothing, (*RESNET, "random", "--teacher-std", "0.5"), 2, "given without --teacher-mean"),
    "a std of 0": (nothing, (*RESNET, "random", "--teacher-mean", "0", "--teacher-std", "0"), 2, "above 0"),
    "a mean that is no number": (
        nothing,
        (*RESNET, "random", "--teacher-mean", "nan", "--teacher-std", "1"),
        2,
        "--teacher-mean cannot be 'nan'",
    ),
    "a size of 0": (nothing, (*RESNET, "random", "--teacher-img-size", "0"), 2, "--teacher-img-size cannot be 0"),
    "a size of text": (nothing, (*RESNET, "random", "--teacher-img-size", "large"), 2, "cannot be 'large'"),
    "a size that patches do not divide": (
        nothing,
        ("--teacher", "vit_tiny_patch16_224", "--teacher-weights", "random", "--teacher-img-size", "40"),
        2,
        "its patches are of 16 px",
    ),
    "a plan without images for a function": (
        nothing,
        ("--teacher", "odd_nets:good", "--estimate", "--samples", "1000"),
        2,
        "takes the number of classes from a timm model",
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_idx(tmp_path_factory.mktemp("malformed") / "D", train=8, val=8)


def refused(words: Words, code: int, text: str) -> None:
    result = CliRunner().invoke(main, [*words, "--json"])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    assert text in result.stderr
    assert sum(line.startswith(("error: ", "Error: ")) for line in result.stderr.splitlines()) == 1
    if not result.stderr.startswith("Usage"):
        error = json.loads(result.stdout)["error"]
        assert error["exit_code"] == code
        assert error["what"] in result.stderr
        assert error["cure"] or error["details"] or "expected" in error["what"]


@pytest.mark.parametrize("name", CASES)
def test_one_message_and_the_right_exit_code(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, options, code, words = CASES[name]
    monkeypatch.chdir(tmp_path)
    Path("odd_nets.py").write_text(MODULE)
    write()
    common = ["--data", str(data), "--val-split", "test", "--img-size", "32", "--workers", "0", "--device", "cpu"]
    if "--samples" in options:
        common = []
    refused(["cache-teacher", *common, *options], code, words)
    assert not Path("teacher-cache").exists()


def test_there_are_at_least_twenty_of_them() -> None:
    assert len(CASES) >= 20


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("a:x", "cannot be read at 'a:x'"),
        ("a:-1", "cannot be read at 'a:-1'"),
        ("a:nan,b", "cannot be read at 'a:nan'"),
        ("a,,b", "cannot be read at ''"),
        ("a,a", "names a teacher twice"),
        ("a:0,b:0", "gives every teacher the weight 0"),
    ],
)
def test_weights_of_teachers_that_cannot_be(
    asked: str, words: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if not (data.parent / "cache").exists():
        plan = ["cache-teacher", *RESNET, "random", "--data", str(data), "--cache", str(data.parent / "cache")]
        made = CliRunner().invoke(
            main, [*plan, "--val-split", "test", "--img-size", "32", "--epochs", "1", "--plan-only"]
        )
        assert made.exit_code == 0, made.output
    refused(["train-student", "--cache", str(data.parent / "cache"), "--teacher", asked], 2, words)


def test_the_old_spelling_of_weights_names_the_new_one() -> None:
    refused(["train-student", "--set", "teacher-loss-weights=2,1"], 2, "use --teacher A:2,B:1")


@pytest.mark.parametrize("teacher", ["odd_nets:good", "./f"])
def test_train_teacher_trains_timms_models_only(teacher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(["train-teacher", "--teacher", teacher], 2, f"deit-pipe cache-teacher --teacher {teacher}")
