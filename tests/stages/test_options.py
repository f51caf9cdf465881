"""Values that cannot be are refused by the options themselves, in one line, wherever they came from."""

import dataclasses
import math
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from deit_pipe.cli import COMMANDS, _resolve, build_command, main
from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.options.evaluate import EvaluateOptions
from deit_pipe.stages.options.fields import CheckedOptions, spoken, value_type
from deit_pipe.stages.options.logits import logits_text, read_logits
from deit_pipe.stages.options.pack import PackOptions
from deit_pipe.stages.options.set_values import read_set_values, settable
from deit_pipe.stages.options.train_student import TrainStudentOptions

ALL = sorted({command.options for command in COMMANDS.values()})

BAD: list[tuple[str, Any, str]] = [
    ("lr", math.nan, "--lr cannot be nan: expected a finite number of at least 0"),
    ("lr", math.inf, "--lr cannot be inf: expected a finite number of at least 0"),
    ("lr", -0.5, "--lr cannot be -0.5: expected a finite number of at least 0"),
    ("tau", math.inf, "--tau cannot be inf: expected a finite number of at least 0.01"),
    ("smoothing", 0.95, "smoothing cannot be 0.95: expected a finite number from 0 to 0.9"),
    ("ema", math.nan, "ema cannot be nan: expected a finite number from 0 to 1"),
    ("epochs", 0, "--epochs cannot be 0: expected a whole number of at least 1"),
    ("epochs", 7.5, "--epochs cannot be 7.5: expected a whole number of at least 1"),
    ("seed", -1, "--seed cannot be -1: expected a whole number from 0 to 1,099,511,627,776"),
    ("loss", "firm", "--loss cannot be 'firm': expected one of none, hard, soft, mse"),
    (
        "preset",
        "tiny",
        "--preset cannot be 'tiny': expected one of deit, deit3, finetune, deit3-finetune, transfer, small, few, "
        "patient",
    ),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD, ids=[f"{b[0]}={b[1]}" for b in BAD])
def test_one_message_from_python_toml_and_the_command_line(name: str, value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageProblem) as error:
        TrainStudentOptions(**{name: value})
    assert str(error.value) == message
    config = tmp_path / "deit-pipe.toml"
    config.write_text(f"[train-student]\n{name} = {value!r}\n")
    typed = [f"--set={name}={value}"] if name in settable(TrainStudentOptions) else [f"--{name}={value}"]
    for words in (["train-student", *typed], ["--config", str(config), "train-student"]):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 2
        said = message.replace("be 7.5:", "be '7.5':") if "--config" not in words else message
        note = f"note: from {config}: {name}\n" if "--config" in words else ""
        assert result.output == f"{note}error: {said}\n"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"lr": "fast"}, "--lr cannot be 'fast'"),
        ({"lr": True}, "--lr cannot be True"),
        ({"epochs": "3"}, "--epochs cannot be '3'"),
        ({"compile": 1}, "^compile cannot be 1: expected true or false"),
        ({"cache": None}, "--cache cannot be nothing: expected text"),
        ({"student": 3}, "--student cannot be 3: expected text"),
        ({"seed": None}, "--seed cannot be nothing"),
    ],
)
def test_other_types_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageProblem, match=says):
        TrainStudentOptions(**values)


def test_numbers_of_numpy_whole_rates_and_paths_are_taken_as_what_they_mean(tmp_path: Path) -> None:
    options = TrainStudentOptions(cache=tmp_path, lr=1, epochs=np.int64(3), tau=np.float32(2))  # type: ignore[arg-type]
    values = (options.cache, options.lr, options.epochs, options.tau)
    assert values == (str(tmp_path), 1.0, 3, 2.0)
    assert [type(value) for value in values] == [str, float, int, float]


def test_an_argument_is_named_as_in_the_help() -> None:
    with pytest.raises(UsageProblem, match=r"\[RUN\] cannot be 3"):
        EvaluateOptions(run=3)  # type: ignore[arg-type]


def test_a_required_option_has_no_default_to_check() -> None:
    with pytest.raises(TypeError):
        PackOptions()  # type: ignore[call-arg]
    with pytest.raises(UsageProblem, match="--data cannot be nothing"):
        PackOptions(data=None, out="x")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ALL)
def test_every_options_class_checks_itself_and_every_float_refuses_what_is_not_finite(name: str) -> None:
    options = _resolve(name)
    assert issubclass(options, CheckedOptions)
    annotations = typing.get_type_hints(options)
    missing = [field.name for field in dataclasses.fields(options) if field.default is dataclasses.MISSING]
    needed = {name: ("x",) if annotations[name] == tuple[str, ...] else "x" for name in missing}
    options(**needed)
    for field in dataclasses.fields(options):
        kind = value_type(annotations[field.name])
        if kind in (int, float):
            assert field.metadata["minimum"] is not None, field.name  # the help shows it
        for bad in (math.nan, math.inf, -math.inf) if kind is float else ():
            with pytest.raises(UsageProblem, match=f"^{spoken(field)} cannot be"):
                options(**needed, **{field.name: bad})


@pytest.mark.parametrize(
    ("text", "targets", "taus"),
    [
        ("dense", "dense", (1.0,)),
        ("topk:10", "topk:10", (1.0,)),
        ("topk:10@1,3", "topk:10", (1.0, 3.0)),
        ("topk:5@1,2.5", "topk:5", (1.0, 2.5)),
        ("none@1,3", "none", (1.0, 3.0)),
    ],
)
def test_temperatures_are_typed_behind_the_format(text: str, targets: str, taus: tuple[float, ...]) -> None:
    assert read_logits(text) == (targets, taus)
    assert logits_text(targets, taus) == text


# -- --set, and names that are gone


def typed(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(words))
    return result.exit_code, result.output


def test_set_takes_what_has_no_option_of_its_own() -> None:
    given = ["ema=0.5", "kd-reduction=deit", "clip_grad = 1", "compile=true", "threads=2", 'optimizer="lamb"']
    values = read_set_values(TrainStudentOptions, given)
    assert values == {
        "ema": 0.5,
        "kd_reduction": "deit",
        "clip_grad": 1.0,
        "compile": True,
        "threads": 2,
        "optimizer": "lamb",
    }
    assert read_set_values(TrainStudentOptions, ["ema=0.5", "ema=0.9"]) == {"ema": 0.9}
    assert read_set_values(TrainStudentOptions, ["teacher-weights=2"]) == {"teacher_weights": "2"}


def test_a_key_of_set_beats_the_file_and_the_file_beats_the_default() -> None:
    command = build_command("train-student", COMMANDS["train-student"])
    kept = {"ema": 0.25, "smoothing": 0.0, "epochs": 7}
    params = command.make_context("train-student", ["--set", "ema=0.5"], default_map=kept).params
    values = (params["ema"], params["smoothing"], params["epochs"], params["kd_reduction"])
    assert values == (0.5, 0.0, 7, "batchmean")
    TrainStudentOptions(**{name: value for name, value in params.items() if name != "as_json"})


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("train-student --set clipgrad=1", "nearest: clip-grad"),
        ("train-student --set nonsense=1", "any of drop-path, "),
        ("train-student --set lr=1", "use --lr"),
        ("train-student --set clip-grad", "Largest gradient norm"),
        ("train-student --set ema=2", "error: ema cannot be 2.0: expected a finite number from 0 to 1"),
        ("train-student --set threads=x", "error: threads cannot be 'x': expected a whole number"),
        ("train-student --set compile=yes", "error: compile cannot be 'yes': expected true or false"),
        ("train-student --set width=8", "use --student custom:WIDTHxDEPTHxHEADS"),
        ("train-student --clip-grad 1", "use --set clip-grad=VALUE"),
        ("train-student --compile", "use --set compile=true"),
        ("train-student --optimiser lamb", "nearest: --set optimizer=VALUE"),
        ("train-student --epoch 3", "nearest: --epochs"),
        ("train-student --width 8", "use --student custom:WIDTHxDEPTHxHEADS, such as custom:64x3x2"),
        ("train-student --patch-size 8", "such as custom:64x3x2/8"),
        ("cache-teacher --taus 1,3", "use --logits topk:K@T,T"),
        ("cache-teacher --block 64", "use --set block=VALUE"),
        ("train-teacher --head-only", "use --fit-head"),
    ],
)
def test_a_name_that_is_gone_or_wrong_gets_the_one_to_use(words: str, says: str) -> None:
    code, output = typed(*words.split())
    assert code == 2
    assert says in output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[train-student]\nwidth = 64\n", "--student custom:WIDTHxDEPTHxHEADS"),
        ("[train-student]\npatch-size = 8\n", "custom:64x3x2/8"),
        ('[cache-teacher]\ntaus = "1,3"\n', "--logits topk:K@T,T"),
        ("[train-teacher]\nhead_only = true\n", "--fit-head"),
    ],
)
def test_an_old_key_in_the_defaults_file_gets_the_new_one(text: str, says: str, tmp_path: Path) -> None:
    config = tmp_path / "deit-pipe.toml"
    config.write_text(text)
    code, output = typed("--config", str(config), "evaluate", str(tmp_path))
    assert code == 2
    assert "any more" in output
    assert says in output
