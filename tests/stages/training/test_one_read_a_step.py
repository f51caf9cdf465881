"""A step asks its device one thing, and on a GPU it does not wait for the answer."""

import traceback
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from deit_pipe.pipeline.loader import ViewBatch, load_views
from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.pipeline.recipe import PRESETS
from deit_pipe.pipeline.samples import ArraySamples
from deit_pipe.stages.console.errors import TrainingDiverged
from deit_pipe.stages.machine.arriving import Arriving
from deit_pipe.stages.machine.distributed import Processes
from deit_pipe.stages.measuring.networks import GivenTargets
from deit_pipe.stages.measuring.subject import open_student
from deit_pipe.stages.measuring.views import ViewSource
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.training.proven_batches import ProvenBatches
from deit_pipe.stages.training.trainer import Schedule, Trainer

# What makes the host wait for a GPU, or would copy to it from memory that is not page-locked.
METHODS = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "__array__", "nonzero")
METHODS += ("__contains__", "masked_select", "unique", "equal", "allclose", "new_tensor")
READS = {getattr(torch.Tensor, name) for name in METHODS}
READS |= {torch.equal, torch.allclose, torch.nonzero, torch.masked_select, torch.unique}


class OnDevice(torch.Tensor):
    """A tensor, and all that is made of it, that notes who reads it."""

    reads: ClassVar[list[tuple[str, str]]] = []

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_mask = func is torch.Tensor.__getitem__ and getattr(args[1], "dtype", None) is torch.bool
        if func in READS or by_mask:
            calls = [frame for frame in traceback.extract_stack() if frame.filename != __file__]
            cls.reads.append((func.__name__, f"{calls[-1].filename.rpartition('/')[2]}:{calls[-1].name}"))
        return super().__torch_function__(func, types, args, kwargs or {})


def trained(accumulate: int = 1, **settings: Any) -> tuple[Trainer, ViewSource, Schedule]:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (64, 20, 24, 3), dtype=np.uint8)
    table = ArraySamples("noise", pixels, np.arange(64) % 5, list("abcde"))
    recipe = PRESETS["deit"]
    source = ViewSource(table, recipe, ViewPlan.for_recipe(64, recipe, 0), 32)
    options = TrainStudentOptions(
        student="custom:16x2x2", device="cpu", batch_size=16, accumulate=accumulate, lr=0.01, **settings
    )
    trainer, schedule, _ = open_student(options, source, Processes(0, 1, torch.device("cpu")), 2, 64)
    return trainer, source, schedule


def batches(trainer: Trainer, source: ViewSource, schedule: Schedule) -> ProvenBatches:
    cells = schedule.cells(trainer.group, 0, 0)
    views = load_views(source.table, source.recipe, source.plan, cells, image_size=source.image_size)
    return trainer.batches(views, GivenTargets(5))


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("settings", [{}, {"clip_grad": 1.0, "accumulate": 2, "ema": 0.9}])
def test_a_step_reads_its_device_once(late: bool, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, source, schedule = trained(**settings)
    trainer.late = late
    given = batches(trainer, source, schedule)
    real = ViewBatch.to

    def to_device(batch: ViewBatch, *given: Any, **named: Any) -> ViewBatch:
        moved = real(batch, *given, **named)
        for name, value in vars(moved).items():
            if isinstance(value, torch.Tensor):
                setattr(moved, name, value.as_subclass(OnDevice))
        return moved

    monkeypatch.setattr(ViewBatch, "to", to_device)
    sizes = schedule.part_sizes(trainer.group)
    trainer.step(given, sizes, 0)
    for _ in range(2):
        OnDevice.reads.clear()
        trainer.step(given, sizes, 0)
        trainer.update_ema(1)
        assert OnDevice.reads == [("tolist", "arriving.py:read")]
    OnDevice.reads.clear()
    assert bool(trainer.sums.sum() > 0)  # and reads are noted at all
    assert OnDevice.reads


def test_reading_late_changes_no_weight() -> None:
    weights = []
    for late in (False, True):
        trainer, source, schedule = trained()
        trainer.late = late
        given = batches(trainer, source, schedule)
        for _ in range(4):
            trainer.step(given, schedule.part_sizes(trainer.group), 0)
        weights.append((trainer.student.state_dict(), trainer.means()))
    (first, means), (second, late_means) = weights
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert means == late_means


def spoiled(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the loss of one step not finite."""
    from deit_pipe.stages.training import proven_batches as module

    real, calls = module.compose, []

    def compose(*given: Any) -> torch.Tensor:
        calls.append(1)
        return real(*given) * (torch.nan if len(calls) == at else 1)

    monkeypatch.setattr(module, "compose", compose)


@pytest.mark.parametrize("end", ["step", "means", "settled_sums"])
def test_a_loss_that_is_not_finite_is_found_late_but_before_anything_is_kept(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, source, schedule = trained()
    trainer.late = True
    given, sizes = batches(trainer, source, schedule), schedule.part_sizes(trainer.group)
    spoiled(2, monkeypatch)
    trainer.step(given, sizes, 0)
    trainer.step(given, sizes, 0)
    with pytest.raises(TrainingDiverged, match=r"epoch 0: cells of cached epoch 0, slots 16\.\.31"):
        trainer.step(given, sizes, 0) if end == "step" else getattr(trainer, end)()


def test_on_a_cpu_it_is_found_before_the_weights_are_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, source, schedule = trained()
    assert not trainer.late
    given, sizes = batches(trainer, source, schedule), schedule.part_sizes(trainer.group)
    spoiled(2, monkeypatch)
    trainer.step(given, sizes, 0)
    before = {name: value.clone() for name, value in trainer.student.state_dict().items()}
    with pytest.raises(TrainingDiverged, match=r"slots 16\.\.31"):
        trainer.step(given, sizes, 0)
    assert all(torch.equal(value, before[name]) for name, value in trainer.student.state_dict().items())


def test_numbers_arrive() -> None:
    assert Arriving(torch.tensor([1.5, -2.0], dtype=torch.float64)).read() == [1.5, -2.0]
    assert Arriving(torch.tensor([True, False])).read() == [1.0, 0.0]
