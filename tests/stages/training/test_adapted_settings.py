"""Settings that the images cannot serve: adapted with a line that says so, or refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from stage_fakes import student_options

from deit_pipe.cli import main
from deit_pipe.pipeline.errors import PlanError
from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.pipeline.recipe import PRESETS as RECIPES
from deit_pipe.pipeline.recipe import load_recipe
from deit_pipe.stages import train_student
from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.training.adapted_settings import adapt_settings, step_slots
from deit_pipe.stages.training.settings import (
    PRESETS,
    choose_preset,
    few_images,
    loss_kind,
    resolve_alpha,
    resolve_settings,
)


def adapted(views: int, preset: str, world: int = 1, group: int = 2, **given: Any) -> tuple[Any, list[str]]:
    options = TrainStudentOptions(**given)
    plan = ViewPlan(views, seed=0, mix_group=group)
    return adapt_settings(resolve_settings(options, preset), options, preset, plan, world)


# views, preset, options -> batch, peak rate, what the line says
BATCHES: list[tuple[str, int, str, dict[str, Any], int, float, str]] = [
    ("303 photographs with DeiT's batch", 303, "deit", {}, 302, 5e-4 * 302 / 512, "epoch: a step has 302"),
    ("a million asked for", 303, "deit", {"batch_size": 1_000_000}, 302, 5e-4 * 302 / 512, "--batch-size 1,000,000"),
    ("a rate that is not scaled", 50, "small", {}, 50, 3e-3, "the learning rate stays 0.003"),
    ("a batch that fits", 303, "small", {}, 64, 3e-3, ""),
    ("all of the views", 302, "deit", {"batch_size": 302}, 302, 5e-4 * 302 / 512, ""),
    ("parts of a step", 303, "deit", {"accumulate": 4}, 296, 5e-4 * 296 / 512, "a step has 296"),
    ("more parts than groups", 5, "deit", {"accumulate": 4}, 4, 5e-4 * 4 / 512, "a step has 4"),
    ("one image", 1, "deit", {}, 1, 5e-4 / 512, "a step has 1"),
    ("one image, asked for", 1, "deit", {"batch_size": 1}, 1, 5e-4 / 512, ""),
]


@pytest.mark.parametrize(
    ("views", "preset", "given", "batch", "rate", "says"),
    [b[1:] for b in BATCHES],
    ids=[b[0] for b in BATCHES],
)
def test_a_step_has_the_views_that_exist_and_the_rate_is_theirs(
    views: int, preset: str, given: dict[str, Any], batch: int, rate: float, says: str
) -> None:
    settings, lines = adapted(views, preset, **given)
    assert settings.batch_size == batch
    assert settings.scaled_lr == pytest.approx(rate)
    assert len(lines) == bool(says)
    assert says in "".join(lines)
    plan = ViewPlan(views, seed=0, mix_group=2)
    first = next(plan.batches(0, step_slots(batch, plan)))
    assert len(first.slots) == batch


def test_a_presets_batch_is_cut_to_whole_groups_and_an_asked_one_that_cuts_them_is_refused() -> None:
    settings, lines = adapted(303, "small", group=48)
    assert settings.batch_size == 48
    assert "not a multiple of 48" in lines[0]
    assert adapted(303, "small", group=100)[0].batch_size == 100  # one group at least
    with pytest.raises(PlanError, match="choose a global batch of 48 or 96"):
        adapted(303, "small", group=48, batch_size=64)


def test_processes_share_evenly_or_are_refused() -> None:
    assert adapted(303, "deit", world=4)[0].batch_size == 296
    with pytest.raises(UsageProblem, match="4 processes cannot share 7 views"):
        adapted(7, "deit", world=4)


def test_a_presets_warmup_is_cut_and_an_asked_one_that_does_not_end_is_refused() -> None:
    settings, lines = adapted(2000, "deit", epochs=4)
    assert (settings.warmup_epochs, len(lines)) == (1, 1)
    assert "5 epochs, is cut to 1: the run has 4" in lines[0]
    assert adapted(2000, "deit", epochs=1)[0].warmup_epochs == 0
    assert adapted(2000, "deit", epochs=6)[0].warmup_epochs == 5
    for warmup in (4, 10):
        with pytest.raises(UsageProblem, match=f"warmup-epochs {warmup} .* use at most 3"):
            adapted(2000, "deit", epochs=4, warmup_epochs=warmup)
    assert adapted(2000, "deit", epochs=4, warmup_epochs=3)[0].warmup_epochs == 3


# -- which preset


CHOICES = [
    ("deit", 224, 1_281_167, "deit", "recipe is deit"),
    ("deit", 224, 303, "few", "preset deit would make 300 steps of 303 images, fewer than 10,000"),
    ("deit", 64, 1_437, "few", "300 steps"),
    ("deit", 224, 50_000, "deit", ""),
    ("deit", 224, 33_000, "few", "9,600 steps"),
    ("deit3", 224, 1_281_167, "deit3", ""),
    ("deit3", 224, 5_000, "few", "preset deit3 would make 1,600 steps"),
    ("small", 32, 303, "small", "recipe is small"),
    ("small", 32, 60_000, "small", ""),
    ("basic", 224, 303, "few", ""),
    ("basic", 64, 303, "small", "views of 64 px"),
]


@pytest.mark.parametrize(("recipe", "size", "images", "preset", "why"), CHOICES)
def test_the_preset_follows_from_recipe_and_images(recipe: str, size: int, images: int, preset: str, why: str) -> None:
    chosen = choose_preset(TrainStudentOptions(), load_recipe(recipe), size, images)
    assert chosen.name == preset
    assert why in chosen.reason


def test_an_asked_preset_and_a_run_to_start_from_win() -> None:
    asked = choose_preset(TrainStudentOptions(preset="deit"), RECIPES["deit"], 224, 303)
    assert (asked.name, asked.values, asked.reason) == ("deit", "deit", "")
    assert choose_preset(TrainStudentOptions(init_from="x"), RECIPES["deit"], 384, 303).name == "finetune"


def test_few_images_get_a_bounded_number_of_steps_and_a_rate_for_the_width() -> None:
    for images in (1, 64, 303, 1_437, 5_000, 34_000):
        settings = few_images(images, 192)
        steps = settings.epochs * max(1, images // settings.batch_size)
        assert steps <= 30_000
        assert steps >= 2_400 or settings.epochs == 600
        assert 30 <= settings.epochs <= 600
        assert settings.warmup_epochs < settings.epochs / 10
    rates = [few_images(303, width).scaled_lr for width in (16, 64, 192, 384, 768)]
    assert rates == [3e-3, 3e-3, 1e-3, 5e-4, 2.5e-4]
    assert PRESETS["few"].drop_path == 0
    given = resolve_settings(TrainStudentOptions(lr=0.5, epochs=2), "few", num_samples=303)
    assert (given.lr, given.epochs) == (0.5, 2)
    assert resolve_settings(TrainStudentOptions(epochs=40), "few", num_samples=303).warmup_epochs == 2


@pytest.mark.parametrize(("recipe", "size", "images", "usual"), [(*row[:3], row[3]) for row in CHOICES])
def test_patient_prolongs_the_preset_that_would_be_taken(recipe: str, size: int, images: int, usual: str) -> None:
    options = TrainStudentOptions(preset="patient")
    chosen = choose_preset(options, load_recipe(recipe), size, images)
    assert (chosen.name, chosen.values) == ("patient", usual)
    assert usual in chosen.reason
    short = resolve_settings(TrainStudentOptions(), usual, num_samples=images)
    assert resolve_settings(options, chosen.values, num_samples=images) == replace(short, epochs=4 * short.epochs)
    given = TrainStudentOptions(preset="patient", epochs=7)
    assert resolve_settings(given, chosen.values, num_samples=images).epochs == 7


def test_patient_learns_from_the_teachers_probabilities_unless_told_otherwise() -> None:
    for given, kind, alpha in (
        ({}, "hard", 0.5),
        ({"preset": "patient"}, "soft", 0.9),
        ({"preset": "patient", "loss": "hard"}, "hard", 0.9),
        ({"preset": "patient", "loss": "none"}, "none", 0.0),
        ({"preset": "patient", "alpha": 0.3}, "soft", 0.3),
        ({"loss": "soft"}, "soft", 0.1),
    ):
        options = TrainStudentOptions(**given)
        assert (loss_kind(options), resolve_alpha(options)) == (kind, alpha)


# -- whole runs


def printed(cache: Path, *words: str) -> tuple[dict[str, Any], str]:
    done = CliRunner().invoke(main, ["train-student", "--cache", str(cache), "--print-config", "--json", *words])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), done.stderr


def test_the_printed_config_has_the_adapted_values_and_gives_them_again(cache: Path, tmp_path: Path) -> None:
    words = ("--preset", "deit", "--epochs", "3", "--device", "cpu")
    values, said = printed(cache, *words)
    assert (values["batch_size"], values["warmup_epochs"]) == (96, 1)
    assert "1,024 is more than the 96 views of an epoch: a step has 96" in said
    assert "warm-up of preset deit, 5 epochs, is cut to 1" in said
    toml = CliRunner().invoke(main, ["train-student", "--cache", str(cache), "--print-config", *words]).stdout
    (tmp_path / "again.toml").write_text(toml)
    again = CliRunner().invoke(
        main, ["--config", str(tmp_path / "again.toml"), "train-student", "--print-config", "--json"]
    )
    # the command that begins it is another: it names every value
    assert {**json.loads(again.stdout), "command": ""} == {**values, "command": ""}
    notes = [line for line in again.stderr.splitlines() if line.startswith("note:")]
    assert [note.partition(": ")[2].split(" ")[0] for note in notes] == ["from"]  # nothing is adapted again


@pytest.mark.parametrize(
    ("given", "code", "stderr", "stdout"),
    [
        ({"preset": "deit"}, 0, "a step has 96, the learning rate is 9.38e-05 (= 0.0005 x 96 / 512)", "chance 25.00%"),
        ({"batch-size": 1_000_000}, 0, "--batch-size 1,000,000 is more than the 96 views", "WARNING"),
        ({"set=warmup-epochs": 20}, 2, "warmup-epochs 20 is not shorter than the run of 2 epochs", ""),
        ({"lr": "nan"}, 2, "error: --lr cannot be nan", ""),
        ({"set=optimizer": "nonsense"}, 2, "timm has no optimiser 'nonsense'", ""),
        ({"loss": "none", "lr": 0}, 0, "", "cannot be told from guessing (25.00%)"),
        ({}, 0, "is cut to 1: the run has 2", "top-1"),
    ],
    ids=["views that do not exist", "a million", "warm-up", "nan", "optimiser", "chance", "preset's warm-up"],
)
def test_runs_that_used_to_go_silently_wrong(
    given: dict[str, Any], code: int, stderr: str, stdout: str, cache: Path, tmp_path: Path
) -> None:
    words = [f"--{name}={value}" for name, value in given.items()]
    common = [
        "--epochs=2",
        "--student=custom:16x1x2",
        "--workers=0",
        "--device=cpu",
        f"--out={tmp_path / 'a b'}",
    ]
    done = CliRunner().invoke(main, ["train-student", f"--cache={cache}", *common, *words])
    assert done.exit_code == code, done.output
    assert stderr in done.stderr
    assert stdout in done.stdout
    assert "top-5" not in done.stdout  # of 4 classes
    if code == 0:
        assert done.stdout.endswith(f"next: deit-pipe evaluate '{tmp_path / 'a b'}'\n")


def test_a_run_that_an_older_version_began_goes_on_as_it_was_begun(cache: Path, tmp_path: Path) -> None:
    """It trained at the rate of 1,024 views and with all the warm-up; the same command must end in the same weights."""

    def as_before(settings: Any, *rest: Any) -> tuple[Any, list[str]]:
        return settings, []

    given: dict[str, Any] = {"preset": "deit", "batch_size": None, "epochs": 3, "accumulate": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deit_pipe.stages.training.decisions.adapt_settings", as_before)
        train_student.run(student_options(cache, tmp_path / "whole", **given))
        original = train_student.Fit._stop_if_asked

        def cutting(self: Any, stop: Any) -> None:
            if self.position.total == 2:
                raise KeyboardInterrupt
            original(self, stop)

        patch.setattr(train_student.Fit, "_stop_if_asked", cutting)
        with pytest.raises(KeyboardInterrupt):
            train_student.run(student_options(cache, tmp_path / "cut", **given))
    path = tmp_path / "cut" / "config.json"
    config = json.loads(path.read_text())
    assert config["batch_size"] == 1024
    for younger in ("settings_rules", "data_choice"):  # what an older version did not write is not compared
        del config[younger]
    path.write_text(json.dumps(config))
    (path.parent / "SUMS").unlink()  # nor did it write this
    result = train_student.run(student_options(cache, tmp_path / "cut", **given))
    assert result.data["steps"] == 3
    one, two = (load_file(tmp_path / name / "student.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(one[name], two[name]) for name in one)
