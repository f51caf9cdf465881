"""Wrong values from Python get the error of the command line, word for word."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import deit_pipe
from deit_pipe.cli import main
from deit_pipe.stages.options.set_values import settable

# command, option, value
OPTIONS: list[tuple[str, str, Any]] = [
    ("train-student", "loss", "sft"),
    ("train-student", "alpha", -3.0),
    ("train-student", "alpha", 2.0),
    ("train-student", "tau", 0.0),
    ("train-student", "epochs", 0),
    ("train-student", "epochs", "many"),
    ("train-student", "batch_size", 0),
    ("train-student", "lr", -1.0),
    ("train-student", "seed", -1),
    ("train-student", "seeds", 101),
    ("train-student", "preset", "tiny"),
    ("train-student", "precision", "fp8"),
    ("train-student", "smoothing", 0.95),
    ("train-student", "layer_decay", 0.0),
    ("train-student", "drop_path", 1.0),
    ("train-student", "workers", -1),
    ("cache-teacher", "epochs", 0),
    ("cache-teacher", "img_size", 4),
    ("cache-teacher", "fraction", 2.0),
    ("cache-teacher", "val_fraction", 0.95),
    ("cache-teacher", "labelled_fraction", -0.5),
    ("cache-teacher", "precision", "fp16"),
    ("cache-teacher", "block", 0),
    ("evaluate", "split", "all"),
    ("evaluate", "eval_crop_ratio", 0.0),
    ("evaluate", "weights", "worst"),
    ("export", "format", "tflite"),
    ("list-models", "role", "judge"),
    ("list-models", "limit", -1),
    ("quickstart", "seeds", 0),
    ("train-teacher", "smoothing", 1.0),
    ("compare", "batch_size", 0),
]


def options_class(command: str) -> Any:
    return getattr(deit_pipe, "".join(word.capitalize() for word in command.split("-")) + "Options")


def said_by_the_command_line(words: list[str]) -> tuple[str, int]:
    result = CliRunner().invoke(main, words)
    return result.output.partition("error: ")[2].removesuffix("\n"), result.exit_code


@pytest.mark.parametrize(("command", "name", "value"), OPTIONS, ids=[f"{c} {n}={v}" for c, n, v in OPTIONS])
def test_options(command: str, name: str, value: Any) -> None:
    key = name.replace("_", "-")
    typed = f"--set={key}={value}" if key in settable(options_class(command)) else f"--{key}={value}"
    words = [command, *(["run"] if command == "compare" else []), typed]
    with pytest.raises(deit_pipe.DeitPipeError) as error:
        options_class(command)(**{name: value})
    assert (str(error.value), error.value.exit_code) == said_by_the_command_line(words)
    assert str(error.value)


CALLS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("open_cache", {"path": "nowhere"}, ["--cache", "nowhere"]),
    ("open_cache", {"teacher": "nobody"}, ["--teacher", "nobody"]),
    ("open_cache", {"data": "nowhere"}, ["--data", "nowhere"]),
    ("open_cache", {"data": "digits"}, ["--data", "digits"]),
    ("batches", {"batch_size": 6}, ["--batch-size", "6"]),
    ("batches", {"batch_size": 0}, ["--batch-size", "0"]),
    ("batches", {"device": "gpu"}, ["--device", "gpu"]),
    ("batches", {"workers": -2}, ["--workers", "-2"]),
    ("batches", {"smoothing": 0.95}, ["--set", "smoothing=0.95"]),
    ("batches", {"order_seed": -1}, ["--set", "order-seed=-1"]),
]


def open_cache(cache: str, given: dict[str, Any]) -> object:
    return deit_pipe.open_cache(**({"path": cache} | given))


def open_batches(cache: str, given: dict[str, Any]) -> object:
    return deit_pipe.open_cache(cache).batches(**({"batch_size": 16, "device": "cpu"} | given))


@pytest.mark.parametrize(("function", "given", "words"), CALLS, ids=[f"{f} {g}" for f, g, _ in CALLS])
def test_calls(
    function: str, given: dict[str, Any], words: list[str], cache: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    usual = [] if "--cache" in words else ["--cache", str(cache)]
    if "--device" not in words:
        usual += ["--device", "cpu"]
    expected = said_by_the_command_line(["train-student", *usual, *words])
    call = open_cache if function == "open_cache" else open_batches
    with pytest.raises(deit_pipe.DeitPipeError) as error:
        call(str(cache), given)
    assert (str(error.value), error.value.exit_code) == expected
    assert expected[0]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"epoch": -1}, "epoch cannot be -1: expected a whole number of at least 0"),
        ({"epoch": 1.5}, "epoch cannot be 1.5: expected a whole number of at least 0"),
        ({"start": -1}, "start cannot be -1: expected a whole number of at least 0"),
        ({"world": 0}, "world cannot be 0: expected a whole number of at least 1"),
        ({"rank": 2, "world": 2}, "rank 2 does not exist among 2 processes"),
        ({"mean": (0.5, 0.5)}, "mean cannot be (0.5, 0.5)"),
        ({"std": (0.5, 0.0, 0.5)}, "std cannot be (0.5, 0.0, 0.5)"),
        ({"std": "imagenet"}, "std cannot be 'imagenet'"),
    ],
)
def test_what_only_python_can_ask_for(given: dict[str, Any], says: str, cache: Path) -> None:
    with pytest.raises(deit_pipe.DeitPipeError) as error:
        deit_pipe.open_cache(str(cache)).batches(16, device="cpu", **given)
    assert str(error.value).startswith(says)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "sft"}, ["--loss", "sft"]),
        ({"alpha": -3.0}, ["--set", "alpha=-3"]),
        ({"tau": 0.0}, ["--tau", "0"]),
        ({"reduction": "sum"}, ["--set", "kd-reduction=sum"]),
        ({"label": "mse"}, ["--set", "label-loss=mse"]),
    ],
)
def test_losses(given: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(deit_pipe.DeitPipeError) as error:
        deit_pipe.DistillationLoss(**({"kind": "hard", "alpha": 0.5} | given))
    assert (str(error.value), error.value.exit_code) == said_by_the_command_line(["train-student", *words])
