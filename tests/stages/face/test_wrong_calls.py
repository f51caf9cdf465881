"""Wrong values from Python get the error of the command line, word for word."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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
        ({"mean": (124, 116, 104)}, "mean cannot be (124, 116, 104)"),
        ({"mean": (10**400, 0, 0)}, "mean cannot be (1000"),
        ({"std": (58, 57, 57)}, "std cannot be (58, 57, 57)"),
        ({"smoothing": None}, "smoothing cannot be None"),
        ({"batch_size": None}, "batch_size cannot be None"),
        ({"epoch": 10**30}, "epoch cannot be 1000000000000000000000000000000"),
        ({"start": 7}, "start 7 is beyond the end: a pass has 6 steps of 16 views"),
        ({"device": "xpu"}, "--device xpu is not usable here"),
        ({"device": "meta"}, "--device meta is not usable here"),
    ],
)
def test_what_only_python_can_ask_for(given: dict[str, Any], says: str, cache: Path) -> None:
    with pytest.raises(deit_pipe.DeitPipeError) as error:
        deit_pipe.open_cache(str(cache)).batches(**({"batch_size": 16, "device": "cpu"} | given))
    assert str(error.value).startswith(says)
    assert error.value.exit_code == 2


def test_numbers_of_numpy_are_numbers(cache: Path) -> None:
    opened = deit_pipe.open_cache(str(cache))
    mean = (0.5, 0.25, 0.75)
    plain = next(opened.batches(16, 1, start=2, mean=mean, device="cpu", workers=0))
    whole = {"epoch": np.int64(1), "start": np.int32(2), "rank": np.int64(0), "world": np.int64(1)}
    given = next(opened.batches(np.int64(16), mean=np.array(mean, dtype=np.float32), device="cpu", workers=0, **whole))
    assert np.array_equal(given.slots, plain.slots)
    assert torch.equal(given.images, plain.images)
    assert list(opened.batches(16, start=6, device="cpu", workers=0)) == []  # a pass that is done


def test_weights_of_teachers_belong_to_the_loss(cache: Path) -> None:
    with pytest.raises(deit_pipe.DeitPipeError, match="gives weights, which batches do not have") as error:
        deit_pipe.open_cache(str(cache), teacher="test_resnet.r160_in1k:2,other:1")
    assert error.value.exit_code == 2
    assert "DistillationLoss(..., teacher_weights=" in str(error.value)


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


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": None}, "kind cannot be None"),
        ({"alpha": None}, "alpha cannot be None"),
        ({"label": None}, "label cannot be None"),
        ({"teacher_weights": ()}, "teacher_weights () sum to 0"),
        ({"teacher_weights": (7.0,)}, "teacher_weights (7.0,) sum to 7"),
        ({"teacher_weights": (2.0, -1.0)}, "teacher_weights cannot be (2.0, -1.0)"),
        ({"teacher_weights": (float("nan"),)}, "teacher_weights cannot be (nan,)"),
        ({"teacher_weights": 1.0}, "teacher_weights cannot be 1.0"),
        ({"teacher_weights": "a"}, "teacher_weights cannot be 'a'"),
    ],
)
def test_losses_that_cannot_be(given: dict[str, Any], says: str) -> None:
    with pytest.raises(deit_pipe.DeitPipeError) as error:
        deit_pipe.DistillationLoss(**({"kind": "hard", "alpha": 0.5} | given))
    assert str(error.value).startswith(says)
    assert error.value.exit_code == 2


SOFT: dict[str, Any] = {"kind": "soft", "alpha": 0.5, "tau": 3.0}
UNFIT = "the student's output does not fit the batch"


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape)


@pytest.fixture(scope="module")
def batch(cache: Path) -> Any:
    return next(deit_pipe.open_cache(str(cache)).batches(16, device="cpu", workers=0))


@pytest.mark.parametrize(
    ("settings", "output", "says"),
    [
        ({}, zeros(1, 4), UNFIT),  # would broadcast to a wrong loss
        ({}, zeros(16, 1), UNFIT),
        ({}, zeros(16, 1000), UNFIT),
        ({}, (zeros(16, 4), zeros(8, 4)), UNFIT),
        ({}, (zeros(16, 4),) * 3, UNFIT),
        ({}, None, UNFIT),
        ({"label": "bce"}, zeros(16, 4), "labels that are smoothed by 0.1 cannot serve bce"),
        ({"teacher_weights": (0.5, 0.5)}, zeros(16, 4), "this loss has 2 teacher weights, the batch answers of 1"),
    ],
)
def test_outputs_that_do_not_fit(settings: dict[str, Any], output: Any, says: str, batch: deit_pipe.Batch) -> None:
    with pytest.raises(deit_pipe.DeitPipeError) as error:
        deit_pipe.DistillationLoss(**(SOFT | settings)).of(output, batch)
    assert str(error.value).startswith(says)
    assert error.value.exit_code == 2


def test_a_loss_needs_the_whole_batch(batch: deit_pipe.Batch) -> None:
    loss: Any = deit_pipe.DistillationLoss(**SOFT)
    pair = [zeros(16, 4), zeros(16, 4)]
    assert torch.equal(loss.of(pair, batch).total, loss.of(tuple(pair), batch).total)
    for call in (loss.of, loss.distillation):
        with pytest.raises(deit_pipe.DeitPipeError, match="the loss needs a whole batch, not Tensor"):
            call(zeros(16, 4), batch.labels)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"task_loss_weight": "x"}, "task_loss_weight cannot be 'x'"),
        ({"task_loss_weight": float("nan")}, "task_loss_weight cannot be nan"),
        ({"distill_loss_weight": -1.0}, "distill_loss_weight cannot be -1.0"),
        ({"task_loss_weight": 2.0}, "task_loss_weight 2 leaves a negative weight to the teacher"),
    ],
)
def test_tasks(given: dict[str, Any], says: str) -> None:
    with pytest.raises(deit_pipe.DeitPipeError) as error:
        deit_pipe.CachedDistillationTask(torch.nn.Linear(1, 1), verbose=False, **given)
    assert str(error.value).startswith(says)
