import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stage_fakes import student_options

from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.stages import train_student
from deit_pipe.stages.console.errors import TrainingDiverged, UsageProblem
from deit_pipe.stages.machine.distributed import Processes
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.training import proven_batches
from deit_pipe.stages.training.fit import Fit
from deit_pipe.stages.training.settings import resolve_alpha, resolve_settings
from deit_pipe.stages.training.trainer import Schedule

ALONE = Processes(0, 1, torch.device("cpu"))


def lines(run: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if line["kind"] == kind]


def test_metrics_hold_losses_rates_waits_and_agreement(cache: Path, tmp_path: Path) -> None:
    train_student.run(student_options(cache, tmp_path / "run", epochs=2))
    steps, epochs = lines(tmp_path / "run", "step"), lines(tmp_path / "run", "epoch")
    assert [line["step"] for line in steps] == list(range(1, 13))
    assert len(epochs) == 2
    for line in steps:
        assert line["loss"] == pytest.approx(0.5 * line["label_loss"] + 0.5 * line["distillation_loss"])
        assert line["compute_seconds"] > 0
        assert line["views_per_second"] > 0
    for epoch, found in enumerate(epochs):  # a step's line has the means of its epoch so far
        assert [found[name] for name in ("loss", "agreement")] == [
            steps[6 * epoch + 5][name] for name in ("loss", "agreement")
        ]
        assert steps[6 * epoch]["loss"] != found["loss"]
    assert set(epochs[-1]["val"]) == {"class", "dist", "fused", "fused_softmax"}


def test_several_seeds_are_several_runs_and_their_table(cache: Path, tmp_path: Path) -> None:
    both = train_student.run(student_options(cache, tmp_path / "both", epochs=1, seed=3, seeds=2))
    alone = train_student.run(student_options(cache, tmp_path / "alone", epochs=1, seed=4)).data
    (line,) = both.data["lines"]
    assert [one["seed"] for one in line["runs"]] == [3, 4]
    assert (
        line["runs"][1]["top1"]["fused"] == alone[alone["selected"]]["fused"]["top1"]
    )  # as if it had been started alone
    weights = load_file(tmp_path / "both" / "seed-4" / "student.safetensors")
    assert all(
        torch.equal(weights[name], value)
        for name, value in load_file(tmp_path / "alone" / "student.safetensors").items()
    )
    assert f"deit-pipe compare {tmp_path}/both/seed-3 {tmp_path}/both/seed-4" in both.text
    assert "--seed 3" in json.loads((tmp_path / "both" / "seed-3" / "config.json").read_text())["command"]
    again = train_student.run(student_options(cache, tmp_path / "both", epochs=1, seed=3, seeds=3))
    assert [one["seed"] for one in again.data["lines"][0]["runs"]] == [3, 4, 5]  # the first two are kept


def test_several_seeds_are_refused_under_torchrun(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageProblem, match="one student after the other"):
        train_student.run(student_options(cache, tmp_path / "run", seeds=2))


def test_a_student_learns_what_the_teacher_says(tmp_path: Path) -> None:
    """The hard loss pulls the distillation head to the teacher's labels, not to the true ones."""
    from stage_fakes import cache_options, write_idx

    from deit_pipe.stages import cache_teacher

    data = write_idx(tmp_path / "data")
    cache_teacher.run(cache_options(data, tmp_path / "cache", recipe="small"))
    train_student.run(
        student_options(
            tmp_path / "cache",
            tmp_path / "run",
            epochs=30,
            eval_every=30,
            student="custom:32x2x2",
            alpha=1.0,
            lr=3e-3,
        )
    )
    last = lines(tmp_path / "run", "epoch")[-1]
    assert last["agreement"] > 0.9
    assert last["distillation_loss"] < 0.4 * lines(tmp_path / "run", "epoch")[0]["distillation_loss"]


def test_a_loss_that_is_not_finite_stops_names_the_cells_and_keeps_the_checkpoint(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    original = proven_batches.compose
    calls = 0

    def poisoned(*args: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return original(*args) * (torch.nan if calls == 9 else 1)

    monkeypatch.setattr(proven_batches, "compose", poisoned)
    with pytest.raises(TrainingDiverged) as error:
        train_student.run(student_options(cache, run))
    assert error.value.exit_code == 7
    assert "epoch 1: cells of cached epoch 1, slots 32..47" in str(error.value)
    pointer = json.loads((run / "checkpoints" / "last.json").read_text())
    kept = load_file(run / "checkpoints" / pointer["folder"] / "model.safetensors")
    assert pointer["folder"] == "00000006"
    assert all(torch.isfinite(value).all() for value in kept.values())


def test_without_distillation_the_second_head_stays_as_it_was(cache: Path, tmp_path: Path) -> None:
    result = train_student.run(student_options(cache, tmp_path / "run", loss="none", weight_decay=0.0))
    assert result.data["answer"] == "class"
    trained = load_file(tmp_path / "run" / "student.safetensors")
    torch.manual_seed(0)
    from deit_pipe.stages.networks.student import build_student, read_student

    fresh = build_student(read_student(tmp_path / "run")[0]).state_dict()
    assert torch.equal(trained["head_dist.weight"], fresh["head_dist.weight"])
    assert not torch.equal(trained["head.weight"], fresh["head.weight"])


def test_a_student_without_token_gives_both_losses_to_its_only_head(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train_student.run(student_options(cache, tmp_path / "run", student="test_vit", epochs=1))
    assert set(result.data["val"]) == {"class"}
    assert "both losses go to its only head" in capsys.readouterr().err


def test_finetuning_starts_from_another_run(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = tmp_path / "first"
    train_student.run(student_options(cache, first, epochs=1))
    result = train_student.run(
        student_options(
            cache,
            tmp_path / "second",
            init_from=str(first),
            student="custom/8",
            epochs=1,
            lr=0.0,
            min_lr=0.0,
            warmup_lr=0.0,
            weight_decay=0.0,
        )
    )
    a, b = load_file(first / "student.safetensors"), load_file(tmp_path / "second" / "student.safetensors")
    assert all(torch.equal(a[name], b[name]) for name in a)  # learning rate 0: nothing but the start
    assert json.loads((tmp_path / "second" / "config.json").read_text())["preset"] == "finetune"
    assert result.data["val"]["class"] == json.loads((first / "result.json").read_text())["val"]["class"]


def test_tensorboard_events_are_written_when_asked_for(cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train_student.run(student_options(cache, tmp_path / "run", tensorboard=True, epochs=1))
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


def test_bf16_and_gradient_checkpointing_and_lamb_run(cache: Path, tmp_path: Path) -> None:
    result = train_student.run(
        student_options(
            cache,
            tmp_path / "run",
            precision="bf16",
            grad_checkpointing=True,
            optimizer="lamb",
            channels_last=True,
            label_loss="bce",
            smoothing=0.0,
            epochs=1,
        )
    )
    assert np.isfinite(lines(tmp_path / "run", "epoch")[0]["loss"])
    assert result.data["steps"] == 6


# -- schedule


def schedule(**changed: Any) -> Schedule:
    plan = ViewPlan(100, seed=1, mix_group=4)
    settings: dict[str, Any] = {
        "plan": plan,
        "epochs": 5,
        "cached_epochs": 2,
        "batch_size": 16,
        "accumulate": 1,
        "order_seed": None,
        "block_slots": 32,
    }
    return Schedule(**(settings | changed))


def test_longer_training_reuses_cached_epochs_in_turn_and_shuffles_later_passes() -> None:
    cells = list(schedule().cells(ALONE, 0, 0))
    assert [cell.epoch for cell in cells] == [epoch for epoch in (0, 1, 0, 1, 0) for _ in range(6)]
    orders = [np.concatenate([c.slots for c in cells[6 * e : 6 * e + 6]]) for e in range(5)]
    assert np.array_equal(orders[0], np.arange(96))
    assert np.array_equal(orders[1], np.arange(96))
    assert not np.array_equal(orders[2], orders[0])
    assert not np.array_equal(orders[2], orders[4])
    groups = orders[2].reshape(-1, 4)
    assert (groups[:, 0] % 4 == 0).all()
    assert (np.diff(groups) == 1).all()


def test_cells_from_a_step_on_are_the_rest_of_all_cells() -> None:
    everything = list(schedule(order_seed=3, accumulate=2).cells(ALONE, 0, 0))
    rest = list(schedule(order_seed=3, accumulate=2).cells(ALONE, 2, 4))
    for one, other in zip(everything[-len(rest) :], rest, strict=True):
        assert one.epoch == other.epoch
        assert np.array_equal(one.slots, other.slots)
    assert len(rest) == 2 * (2 + 6 + 6)


def test_parts_of_a_step_are_whole_groups_and_add_up() -> None:
    assert schedule(accumulate=2).part_sizes(ALONE) == [8, 8]
    assert schedule(accumulate=3).part_sizes(ALONE) == [4, 4, 8]
    ranks = [schedule(batch_size=16).part_sizes(Processes(rank, 2, torch.device("cpu"))) for rank in range(2)]
    assert ranks == [[8], [8]]


# -- presets


def test_given_options_win_over_the_preset() -> None:
    settings = resolve_settings(TrainStudentOptions(lr=0.5, drop_path=0.0), "deit")
    assert (settings.lr, settings.drop_path, settings.weight_decay) == (0.5, 0.0, 0.05)


def test_alpha_is_the_papers_for_each_loss() -> None:
    assert resolve_alpha(TrainStudentOptions(loss="hard")) == 0.5
    assert resolve_alpha(TrainStudentOptions(loss="soft")) == 0.1
    assert resolve_alpha(TrainStudentOptions(loss="soft", alpha=0.0)) == 0.0


def test_the_published_numbers_of_deit() -> None:
    """Touvron et al., arXiv 2012.12877, table 9, and facebookresearch/deit main.py."""
    deit = resolve_settings(TrainStudentOptions(), "deit")
    assert (deit.epochs, deit.batch_size, deit.optimizer) == (300, 1024, "adamw")
    assert (deit.warmup_epochs, deit.warmup_lr, deit.min_lr) == (5, 1e-6, 1e-5)
    assert (deit.weight_decay, deit.drop_path, deit.smoothing, deit.clip_grad) == (0.05, 0.1, 0.1, 0.0)


def test_fit_is_not_left_with_handlers_or_workers(cache: Path, tmp_path: Path) -> None:
    import multiprocessing
    import signal

    before = signal.getsignal(signal.SIGTERM)
    train_student.run(student_options(cache, tmp_path / "run", epochs=1, workers=2))
    assert signal.getsignal(signal.SIGTERM) is before
    assert not multiprocessing.active_children()
    assert Fit.__doc__
