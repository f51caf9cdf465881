"""What is measured is what a run would do: as many views, reads, steps; and time is told truly."""

import time
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
import torch

from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.pipeline.recipe import PRESETS
from deit_pipe.pipeline.samples import ArraySamples, SampleTable
from deit_pipe.stages.machine.distributed import Processes
from deit_pipe.stages.measuring import beside_steps
from deit_pipe.stages.measuring.clocks import repeat
from deit_pipe.stages.measuring.networks import student_fed
from deit_pipe.stages.measuring.subject import open_student
from deit_pipe.stages.measuring.target_reads import scratch_targets
from deit_pipe.stages.measuring.views import ViewSource, decoded, part_costs, rates_by_workers, view_cost
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.training.checkpoint import Checkpoint
from deit_pipe.store.formats import TargetFormat


def source(count: int = 60, slow: float = 0.0) -> ViewSource:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 20, 24, 3), dtype=np.uint8)

    class Slow(ArraySamples):
        def read(self, sample: int) -> np.ndarray:
            time.sleep(slow)
            return super().read(sample)

    table = Slow("noise", pixels, np.arange(count) % 5, list("abcde"))
    recipe = PRESETS["deit"]
    return ViewSource(table, recipe, ViewPlan.for_recipe(count, recipe, 0), 32)


def test_time_is_told_by_the_clock_and_by_the_processor() -> None:
    taken = repeat(lambda: time.sleep(0.02) or 5, 0.2, torch.device("cpu"))
    assert taken.units % 5 == 0
    assert 0.2 <= taken.seconds < 5
    assert 20 < taken.rate <= 5 / 0.02 * 1.01
    assert taken.core_seconds < 0.8 * taken.seconds
    done: list[int] = []
    repeat(lambda: done.append(1) or 1, 0.0, warm_up=2)
    assert len(done) == 4
    repeat(lambda: done.append(1) or 1, 0.0, warm_up=0, least=1)
    assert len(done) == 5


def test_a_view_by_part() -> None:
    costs = part_costs(source(slow=0.01))
    assert list(costs) == ["read", "decode", "draw", "render", "fingerprint"]
    # three repeats share a read of at least 10 ms, and nothing else waits
    assert 0.01 / 3 * 0.9 < costs["read"] < 0.2
    assert all(0 < costs[part] < costs["read"] for part in ("decode", "draw", "render", "fingerprint"))


def test_reading_that_waits_costs_no_core_but_time() -> None:
    """Three repeats share a wait of 20 ms: 150 views a second of one worker, of two twice as many."""
    waiting = source(slow=0.02)
    cost = view_cost(waiting, 1, 0.3)
    assert cost.core_seconds < 0.005
    assert cost.rate == pytest.approx(150, rel=0.4)
    rates = rates_by_workers(waiting, 3, 0.3)
    assert list(rates) == [1, 2, 3]
    assert 1.3 < rates[2] / rates[1] < 3
    assert rates_by_workers(waiting, 0, 0.1) == {}


def test_raw_pixels_are_those_of_the_images_without_their_reading() -> None:
    slow = source(slow=0.01)
    packed = decoded(slow, most=20)
    assert len(packed.table) == 20
    np.testing.assert_array_equal(packed.table.read(7), slow.table.read(7))
    assert packed.table.measure_bytes().tolist() == [20 * 24 * 3] * 20
    assert slow.pixel_bytes(0) == 20 * 24 * 3
    assert view_cost(packed, 1, 0.2).rate > 2 * view_cost(slow, 1, 0.2).rate


@pytest.mark.parametrize("count", [60, 5000])
def test_targets_are_written_to_and_read_from_a_scratch_cache_that_is_gone_after(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with scratch_targets(source(count), TargetFormat.parse("dense", (1.0,), 5), 256) as there:
        assert 0 < there.write_seconds < 0.01
        assert 0 < there.read_seconds() < 0.01
        samples = min(count, 4096)
        sizes = [len(targets.teacher_label) for targets in there.stream(50)]
        assert sum(sizes) == there.epochs * samples
        assert max(sizes) == 50
        endless = there.stream(50, endless=True)
        again = [len(next(endless).teacher_label) for _ in range(len(sizes) + 2)]
        assert again == sizes + sizes[:2]
        endless.close()
    assert list(tmp_path.iterdir()) == []


def test_a_student_that_is_fed_reads_targets_too() -> None:
    options = TrainStudentOptions(student="custom:16x2x2", device="cpu", batch_size=16)
    group = Processes(0, 1, torch.device("cpu"))
    trainer, schedule, _ = open_student(options, source(), group, 2, 64)
    taken: list[int] = []

    class Counted:
        def stream(self, batch: int, endless: bool) -> Generator[int, None, None]:
            assert endless
            while True:
                taken.append(batch)
                yield batch

    rate = student_fed(trainer, source(), schedule, 1, 0.1, Counted())  # type: ignore[arg-type]  # all that is asked
    assert rate > 0
    assert len(taken) >= 4  # two that warm up, two or more that count
    assert set(taken) == {16}


def test_a_checkpoint_is_a_real_one_and_gone_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    options = TrainStudentOptions(student="custom:16x2x2", device="cpu", batch_size=16)
    kept: list[set[str]] = []
    real = beside_steps.save_checkpoint

    def save(run: Path, checkpoint: Checkpoint, name: str) -> None:
        real(run, checkpoint, name)
        kept.append({path.name for path in (run / "checkpoints" / name).iterdir()})

    monkeypatch.setattr(beside_steps, "save_checkpoint", save)
    for rank in (0, 1):
        trainer, _, _ = open_student(options, source(), Processes(0, 1, torch.device("cpu")), 2, 64)
        seconds = beside_steps.checkpoint_seconds(trainer, Processes(rank, 2, torch.device("cpu")))
        assert (seconds > 0) == (rank == 0)
    assert kept == [{"model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"}] * 4
    assert list(tmp_path.iterdir()) == []


def test_cells_go_on_without_end_in_whole_groups() -> None:
    cells = source().cells(33)
    sizes = [len(next(cells).slots) for _ in range(5)]
    assert sizes == [32, 28, 32, 28, 32]
    whole = source().cells(33, ragged=False)
    assert [len(next(whole).slots) for _ in range(3)] == [32, 32, 32]
    assert isinstance(source().table, SampleTable)
