"""The command line as a user meets it: help, defaults files, the owner's literal calls, and every kind of bad input."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from stage_fakes import cache_options, write_idx, write_recipe

from deit_pipe.cli import COMMANDS, GROUPS, _resolve, main
from deit_pipe.stages import cache_teacher
from deit_pipe.stages.options.click_command import parameters
from deit_pipe.stages.options.fields import spoken
from deit_pipe.stages.options.set_values import read_set_values


def call(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Data and a complete cache of it."""
    root = tmp_path_factory.mktemp("made")
    data, recipe = write_idx(root / "data"), write_recipe(root)
    cache_teacher.run(cache_options(data, root / "cache", recipe=str(recipe)))
    return {"data": data, "recipe": recipe, "cache": root / "cache"}


QUICK = ["--workers", "0", "--device", "cpu", "--batch-size", "16"]


# -- help and defaults


def test_windows_is_refused_before_anything_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    result = call("pack", "digits", "--out", "x")
    assert result.exit_code == 2
    assert "WSL" in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples_and_every_option_is_explained(name: str) -> None:
    result = call(name, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert f"deit-pipe {name}" in result.output
    for item in dataclasses.fields(_resolve(COMMANDS[name].options)):
        assert len(item.metadata["help"]) > 3, item.name
        if not item.metadata["argument"]:
            assert spoken(item) in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_in_help_use_options_that_exist(name: str) -> None:
    doc = _resolve(COMMANDS[name].options).__doc__
    for line in doc.partition("Examples:")[2].splitlines():
        match = re.search(r"deit-pipe (\S+)(.*)|deit_pipe.cli (\S+)(.*)", line)
        if not match:
            continue
        command, rest = (match[1], match[2]) if match[1] else (match[3], match[4])
        options = _resolve(COMMANDS[command].options)
        assert set(re.findall(r"--[a-z][a-z-]*", rest)) <= {
            word for parameter in parameters(options) for word in parameter.opts
        }, line
        read_set_values(options, re.findall(r"--set (\S+)", rest))


def test_version_names_the_libraries() -> None:
    output = call("--version").output
    assert output.startswith("deit-pipe ")
    assert all(name in output for name in ("torch", "timm", "Pillow", "zarr"))


@pytest.mark.parametrize(("choice", "words"), [("pillow", "Pillow (DEIT_PIPE_ENGINE says so)"), ("hugo", "none: ")])
def test_version_says_which_engine_renders(choice: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEIT_PIPE_ENGINE", choice)
    result = call("--version")
    assert result.exit_code == 0
    assert f"views by    {words}" in result.output


def test_an_unknown_command_names_the_nearest() -> None:
    result = call("cache-teachers")
    assert result.exit_code == 2
    assert "cache-teacher" in result.output


def test_defaults_come_from_the_config_file(tmp_path: Path, made: dict[str, Path]) -> None:
    config = tmp_path / "deit-pipe.toml"
    config.write_text(f'[train-student]\ncache = "{made["cache"]}"\nepochs = 7\nlr = 0.125\n')
    result = call("--config", str(config), "train-student", "--lr", "0.5", "--print-config", "--json")
    values = json.loads(result.stdout)
    assert values["epochs"] == 7
    assert values["lr"] == 0.5
    assert result.stderr == f"note: from {config}: cache, epochs\n"


def test_use_of_the_defaults_file_is_said_only_where_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deit-pipe.toml").write_text('[show-recipe]\nrecipe = "basic"\n[train-student]\nema = 0.5\n')
    assert call("show-recipe").stderr == "note: from ./deit-pipe.toml: recipe\n"
    assert call("show-recipe", "deit").stderr == ""
    assert call("pack", "--help").stderr == ""
    assert "note: from ./deit-pipe.toml: ema\n" in call("train-student").stderr
    assert "note:" not in call("train-student", "--set", "ema=0.1").stderr


def test_commands_are_listed_in_groups() -> None:
    output = call("--help").output
    for heading, commands in GROUPS.items():
        section = output.partition(f"{heading}:\n")[2].partition("\n\n")[0]
        found = [line.split()[0] for line in section.splitlines() if re.match(r"  \S", line)]
        assert found == list(commands)


def test_options_are_listed_in_groups_and_the_keys_of_set_below() -> None:
    output = call("train-student", "--help").output
    headings = re.findall(r"^(\S.*):$", output, flags=re.MULTILINE)
    assert headings[:6] == ["Data and cache", "Student", "Distillation", "Run", "Machine", "More"]
    assert "--loss" in output.partition("Distillation:")[2].partition("Run:")[0]
    assert "clip-grad" in output.partition("Keys of --set")[2]
    assert "--clip-grad" not in output
    for command in ("cache-teacher", "train-teacher"):
        assert "--val-fraction" in call(command, "--help").output.partition("Which images:")[2]
    assert re.search(r"subset-seed +Seed of the draws", call("cache-teacher", "--help").output)


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_command_that_is_gone_names_the_one_to_use(role: str, tmp_path: Path) -> None:
    result = call(f"list-{role}s", "resnet*")
    assert result.exit_code == 2
    assert f"use deit-pipe list-models --role {role}" in result.output
    config = tmp_path / "deit-pipe.toml"
    config.write_text(f"[list-{role}s]\nlimit = 3\n")
    result = call("--config", str(config), "list-models")
    assert result.exit_code == 2
    assert f"it is list-models --role {role} now" in result.output


def test_printed_config_is_a_config_file(tmp_path: Path, made: dict[str, Path]) -> None:
    printed = call("train-student", "--cache", str(made["cache"]), "--set", "ema=0.9", "--print-config").stdout
    config = tmp_path / "printed.toml"
    config.write_text(printed)
    again = call("--config", str(config), "train-student", "--print-config").stdout
    assert again == printed
    assert "ema = 0.9  # Decay of averaged weights" in printed
    assert "# layer-decay is not set: Learning-rate factor per layer" in printed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[train-student]\nepoch = 3\n", "nearest: epochs"),
        ("[train]\nepochs = 3\n", "[train] is not a command"),
        ("[train-student\n", "is not TOML"),
    ],
)
def test_a_wrong_config_file_is_named(tmp_path: Path, text: str, expected: str) -> None:
    config = tmp_path / "deit-pipe.toml"
    config.write_text(text)
    result = call("--config", str(config), "train-student", "--print-config")
    assert result.exit_code == 2
    assert expected in result.output


# -- the owner's literal calls, where the hub cannot be reached


def test_cache_teacher_without_weights_exits_3_with_the_cures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("deit_pipe.stages.networks.weights._can_fetch", lambda hub_id: False)
    result = call("cache-teacher", "--teacher", "regnety_160")
    assert result.exit_code == 3
    assert "regnety_160.deit_in1k" in result.output
    assert "--teacher-weights FILE" in result.output
    assert "deit-pipe train-teacher --teacher regnety_160" in result.output
    assert not (tmp_path / "teacher-cache").exists()


def test_train_student_and_inspect_cache_without_a_cache_exit_3_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("train-student", "inspect-cache"):
        result = call(command)
        assert result.exit_code == 3, result.output
        assert "deit-pipe cache-teacher --cache ./teacher-cache" in result.output


# -- bad input: (words, exit code, what the message must say)

CT = "cache-teacher --teacher test_resnet --teacher-weights random"
BAD: list[tuple[str, str, int, list[str]]] = [
    ("unknown teacher", "cache-teacher --teacher regnety_16", 2, ["regnety_160", "list-models"]),
    ("unknown tag", "cache-teacher --teacher regnety_160.nope", 2, ["deit_in1k"]),
    ("no weights file", "cache-teacher --teacher test_resnet --teacher-weights {tmp}/w.pth", 3, ["w.pth"]),
    (
        "weights of another model",
        "cache-teacher --teacher test_resnet --teacher-weights {tmp}/other.safetensors --data {data}",
        4,
        ["other.safetensors", "--teacher"],
    ),
    ("folder without classes", "{ct} --data {tmp}/empty", 3, ["empty"]),
    ("no such data", "{ct} --data {tmp}/nowhere", 3, ["nowhere"]),
    ("undecodable image", "{ct} --data {tmp}/broken --cache {tmp}/c1", 6, ["broken.png", "sample"]),
    ("unknown recipe", "{ct} --data {data} --recipe diet", 2, ["deit"]),
    ("bad targets", "{ct} --data {data} --logits topk:9", 2, ["topk:K", "4"]),
    ("bad taus", "{ct} --data {data} --logits topk:2@x", 2, ["--logits topk:10@1,3"]),
    ("block cuts groups", "{ct} --data {data} --recipe {recipe} --set block=30", 2, ["--set block=28"]),
    ("batch cuts groups", "{ct} --data {data} --recipe {recipe} --batch-size 18", 2, ["16 or 20"]),
    ("no such device", "cache-teacher --teacher test_resnet --device cude", 2, ["--device cude"]),
    (
        "cache of another recipe",
        "{ct} --data {data} --recipe basic --img-size 32 --cache {cache}",
        4,
        ["recipe", "cached", "given"],
    ),
    (
        "cache of another seed",
        "{ct} --data {data} --recipe {recipe} --img-size 32 --seed 5 --cache {cache}",
        4,
        ["seed", "cached 0", "given 5"],
    ),
    (
        "cache of other images",
        "train-student --cache {cache} --data {other} --out {tmp}/r0",
        4,
        ["samples_digest", "--data"],
    ),
    (
        "classes differ",
        "cache-teacher --teacher test_resnet --teacher-weights {tmp}/ten.safetensors --data {data}",
        4,
        ["expected  4 classes", "got       10", "--fit-head", "train-teacher"],
    ),
    (
        "incomplete cache",
        "train-student --cache {half} --out {tmp}/r1",
        3,
        ["incomplete", "deit-pipe cache-teacher --teacher", "--data", "--cache"],
    ),
    (
        "no such cached teacher",
        "train-student --cache {cache} --teacher x --out {tmp}/r2",
        3,
        ["test_resnet"],
    ),
    (
        "patch does not fit",
        "train-student --cache {cache} --student custom/5 --out {tmp}/r3",
        2,
        ["divides 32"],
    ),
    (
        "student for another size",
        "train-student --cache {cache} --student resnet1 --out {tmp}/r4",
        2,
        ["nearest"],
    ),
    (
        "soft loss from labels",
        "train-student --cache {labels} --loss soft --out {tmp}/r5",
        4,
        ["labels only", "--loss hard"],
    ),
    (
        "undeclared temperature",
        "train-student --cache {topk} --loss soft --tau 3 --out {tmp}/r6",
        4,
        ["temperature 3", "1"],
    ),
    (
        "smoothing with bce",
        "train-student --cache {cache} --set label-loss=bce --out {tmp}/r7",
        2,
        ["--set smoothing=0"],
    ),
    (
        "batch cuts groups in training",
        "train-student --cache {cache} --batch-size 18 --out {tmp}/r8",
        2,
        ["16 or 20"],
    ),
    (
        "ema not averaged",
        "train-student --cache {cache} --set select=ema --out {tmp}/r9",
        2,
        ["--set ema=0.9999"],
    ),
    ("not a run", "evaluate {tmp}/empty", 3, ["train-student --out"]),
]


@pytest.fixture(scope="module")
def places(made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    import timm
    from PIL import Image
    from safetensors.torch import save_file

    tmp = tmp_path_factory.mktemp("bad")
    (tmp / "empty").mkdir()
    for name in ("a", "b"):
        (tmp / "broken" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (20, 20), (number, 9, 9)).save(tmp / "broken" / name / f"{number}.png")
    (tmp / "broken" / "b" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    save_file(dict(timm.create_model("test_efficientnet", num_classes=4).state_dict()), tmp / "other.safetensors")
    save_file(dict(timm.create_model("test_resnet", num_classes=10).state_dict()), tmp / "ten.safetensors")
    recipe = str(made["recipe"])
    common: dict[str, Any] = {"recipe": recipe, "epochs": 1}
    cache_teacher.run(cache_options(made["data"], tmp / "half", plan_only=True, **common))
    cache_teacher.run(cache_options(made["data"], tmp / "labels", logits="none", **common))
    cache_teacher.run(cache_options(made["data"], tmp / "topk", logits="topk:2", **common))
    names = ("half", "labels", "topk")
    other = write_idx(tmp / "other", train=92)
    return (
        {"tmp": str(tmp), "other": str(other)}
        | {name: str(tmp / name) for name in names}
        | {name: str(path) for name, path in made.items()}
    )


@pytest.mark.parametrize(("words", "code", "says"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_gets_a_message_with_a_cure_and_its_exit_code(
    words: str,
    code: int,
    says: list[str],
    places: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = words.format(ct=CT, **places).split()
    if filled[0] in ("cache-teacher", "train-student"):
        filled += [word for pair in zip(QUICK[::2], QUICK[1::2], strict=True) if pair[0] not in filled for word in pair]
    result = call(*filled)
    assert result.exit_code == code, result.output
    for text in says:
        assert text in result.output
    assert "Traceback" not in result.output


def test_an_unexpected_error_keeps_its_traceback(made: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("deit_pipe.stages.train_student.open_cache", broken)
    with pytest.raises(ZeroDivisionError):
        CliRunner().invoke(main, ["train-student", "--cache", str(made["cache"])], catch_exceptions=False)


# -- results


def test_json_is_the_result_and_nothing_else_on_stdout(made: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = CliRunner().invoke(
        main,
        [
            "train-student",
            "--cache",
            str(made["cache"]),
            "--out",
            str(run),
            "--epochs",
            "1",
            "--student",
            "custom:16x1x2",
            "--json",
            *QUICK,
        ],
    )
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert set(data["val"]) == {"class", "dist", "fused", "fused_softmax"}
    assert data == json.loads((run / "result.json").read_text())
    evaluated = json.loads(call("evaluate", str(run), "--device", "cpu", "--workers", "0", "--json").stdout)
    assert evaluated["scores"] == data["val"]


def test_estimate_writes_nothing_and_says_views_time_bytes_and_disk(made: dict[str, Path], tmp_path: Path) -> None:
    words = [
        "cache-teacher",
        "--teacher",
        "test_resnet",
        "--teacher-weights",
        "random",
        "--data",
        str(made["data"]),
        "--cache",
        str(tmp_path / "c"),
        "--epochs",
        "5",
        "--estimate",
        "--json",
        *QUICK,
    ]
    data = json.loads(call(*words).stdout)
    assert data["views"] == 5 * 96
    assert data["bytes_per_view_at_most"] == 2 + 4 + 2 * 4
    assert data["files"] == data["blocks"]  # an object holds all arrays of a block and its record
    assert data["bytes_at_most"] == int(data["views"] * 14 * 1.02 + data["files"] * 4096)
    assert data["seconds"] > 0
    assert data["free_bytes"] > 0
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train-student", "--bogus", "3"], "No such option"),
        (["predict"], "Missing argument"),
        (["train-student", "--set", "bogus=3"], "bogus"),
    ],
)
def test_what_cannot_be_parsed_is_an_object_under_json(words: list[str], says: str) -> None:
    done = CliRunner().invoke(main, [*words, "--json"])
    assert done.exit_code == 2
    error = json.loads(done.stdout)["error"]
    assert says.lower() in error["what"].lower()
    assert error["exit_code"] == 2
    assert CliRunner().invoke(main, words).stdout == ""


def test_a_terminal_that_lacks_letters_gets_their_numbers(tmp_path: Path) -> None:
    program = (
        "from deit_pipe.stages.console.facts import Facts\n"
        "from deit_pipe.stages.console.result import CommandResult\n"
        "from deit_pipe.stages.console.shown import open_streams, tell, write_result\n"
        "from rich.text import Text\n"
        "open_streams()\ntell('n\\u00f6te \\u732b')\n"
        "write_result(CommandResult('caf\\u00e9 \\u2588', Facts()), as_json=False)\n"
        "write_result(CommandResult(Text('\\u2588 rich'), Facts()), as_json=False)\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, timeout=60, check=True)
    assert done.stdout.decode("cp1252").splitlines() == ["café \\u2588", "\\u2588 rich"]
    assert done.stderr.decode("cp1252").splitlines() == ["nöte \\u732b"]
