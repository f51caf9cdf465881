"""The loader: order, bounded memory, clean ends, named failures."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from view_images import encoded, photo

from deit_pipe.pipeline import cells as cells_module
from deit_pipe.pipeline.cells import pair_up, render_cells
from deit_pipe.pipeline.errors import BadImage, PlanError, WorkerDied
from deit_pipe.pipeline.loader import ViewBatch, load_views
from deit_pipe.pipeline.plan import Cells, Purpose, ViewPlan
from deit_pipe.pipeline.recipe import PRESETS, Recipe
from deit_pipe.pipeline.render import fingerprint, render
from deit_pipe.pipeline.samples import ArraySamples, SampleTable
from deit_pipe.pipeline.views import draw_mix, draw_view

DEIT = PRESETS["deit"]


def noise_table(count: int = 40) -> ArraySamples:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 12, 14, 3), dtype=np.uint8)
    return ArraySamples("noise", pixels, np.arange(count) % 5, list("abcde"))


class TroubledTable(SampleTable):
    """Images that are fine but for one: unreadable, or fatal for the process that reads it."""

    def __init__(self, trouble: int, kind: str) -> None:
        super().__init__("troubled", [f"file {i}" for i in range(40)], np.zeros(40, np.int64), ["only"])
        self.trouble = trouble
        self.kind = kind

    def read(self, sample: int) -> bytes | NDArray[np.uint8]:
        if sample == self.trouble and self.kind == "broken":
            return b"\xff\xd8\xff\xe0 no jpeg"
        if sample == self.trouble and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.zeros((8, 8), np.uint8)

    def measure_bytes(self) -> NDArray[np.int64]:
        return np.ones(40, np.int64)


def load(
    table: SampleTable, recipe: Recipe, batch: int = 8, workers: int = 0, threads: bool | None = False
) -> Iterator[ViewBatch]:
    plan = ViewPlan.for_recipe(len(table), recipe, seed=1)
    return load_views(table, recipe, plan, plan.batches(0, batch), image_size=16, workers=workers, threads=threads)


@pytest.mark.parametrize(("workers", "threads"), [(0, False), (2, False), (1, True), (3, True)])
def test_batches_come_in_order_with_the_promised_types(workers: int, threads: bool) -> None:
    batches = list(load(noise_table(), DEIT, workers=workers, threads=threads))
    np.testing.assert_array_equal(np.concatenate([b.slots for b in batches]), np.arange(40))
    batch = batches[1]
    plan = ViewPlan.for_recipe(40, DEIT, seed=1)
    np.testing.assert_array_equal(batch.samples, plan.sample_at(0)[batch.slots])
    assert batch.labels.tolist() == (batch.samples % 5).tolist()
    kinds = {
        "pixels": (torch.uint8, (8, 16, 16, 3)),
        "labels": (torch.int64, (8,)),
        "erase": (torch.int32, (8, 4)),
        "noise_seed": (torch.int64, (8,)),
        "partner": (torch.int64, (8,)),
        "lam": (torch.float32, (8,)),
        "mix_box": (torch.int32, (8, 4)),
    }
    for name, (dtype, shape) in kinds.items():
        tensor = getattr(batch, name)
        assert (tensor.dtype, tuple(tensor.shape)) == (dtype, shape), name
    assert (batch.slots.dtype, batch.samples.dtype, batch.fingerprints.dtype) == (
        np.int64,
        np.int64,
        np.uint32,
    )
    assert batch.mixed
    assert batch.partner.tolist() == [1, 0, 3, 2, 5, 4, 7, 6]


def test_a_view_by_hand_equals_the_loaders() -> None:
    table = noise_table()
    plan = ViewPlan.for_recipe(40, DEIT, seed=1)
    batch = list(load(table, DEIT))[2]
    for position, slot in enumerate(batch.slots.tolist()):
        sample = int(plan.sample_at(0)[slot])
        view = draw_view(DEIT, plan.stream(0, slot, Purpose.VIEW), (14, 12), 16)
        pixels = render(table.read(sample), view)
        mix = draw_mix(DEIT, plan.stream(0, slot // 2 * 2, Purpose.MIX), 16)
        np.testing.assert_array_equal(batch.pixels[position].numpy(), pixels)
        assert batch.fingerprints[position] == fingerprint(pixels, view, mix, 1 if slot % 2 == 0 else -1)
        box = (view.erase.top, view.erase.left, view.erase.height, view.erase.width) if view.erase else (0,) * 4
        assert tuple(batch.erase[position].tolist()) == box
        assert int(batch.noise_seed[position]) == view.noise_seed
        assert mix is not None
        assert float(batch.lam[position]) == np.float32(mix.lam)


@pytest.mark.parametrize("threads", [False, True])
def test_the_caller_is_at_most_two_batches_per_worker_behind(threads: bool) -> None:
    asked = 0

    def cells() -> Iterator[Cells]:
        nonlocal asked
        for epoch in range(50):
            asked += 1
            yield Cells(epoch, np.arange(4))

    plan = ViewPlan.for_recipe(40, PRESETS["basic"], seed=0)
    batches = load_views(noise_table(), PRESETS["basic"], plan, cells(), image_size=8, workers=2, threads=threads)
    for taken in range(1, 5):
        next(batches)
        assert asked <= taken + 2 * 2
    batches.close()  # type: ignore[attr-defined]


def children() -> int:
    return len(multiprocessing.active_children())


@pytest.mark.parametrize("end", ["close", "drop", "exhaust", "error"])
def test_workers_are_gone_whatever_ends_the_iteration(end: str) -> None:
    before = children()
    batches = load(noise_table(), DEIT, workers=2)
    next(batches)
    assert children() == before + 2
    if end == "close":
        batches.close()  # type: ignore[attr-defined]
    elif end == "exhaust":
        assert len(list(batches)) == 4
    elif end == "error":
        with pytest.raises(KeyboardInterrupt):
            batches.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    del batches
    assert children() == before


@pytest.mark.parametrize(("workers", "threads"), [(0, False), (1, False), (2, True)])
def test_an_undecodable_image_stops_the_run_and_is_named(workers: int, threads: bool) -> None:
    order = ViewPlan.for_recipe(40, PRESETS["basic"], seed=1).sample_at(0)
    trouble = int(order[19])
    batches = load(TroubledTable(trouble, "broken"), PRESETS["basic"], workers=workers, threads=threads)
    assert [next(batches).slots[0], next(batches).slots[0]] == [0, 8]
    with pytest.raises(BadImage) as caught:
        list(batches)
    message = str(caught.value)
    assert message.startswith(f"cannot decode image: sample {trouble} (file {trouble}) of troubled: ")
    assert "repair or remove" in message
    assert "Traceback" not in message
    assert caught.value.exit_code == 6


def test_a_killed_worker_is_named_and_does_not_hang() -> None:
    start = time.monotonic()
    with pytest.raises(WorkerDied, match="a loader process died") as caught:
        list(load(TroubledTable(3, "fatal"), PRESETS["basic"], workers=1))
    assert "--workers" in str(caught.value)
    assert time.monotonic() - start < 30
    assert children() == 0


PROGRAM = """
import sys, time
import numpy as np
from deit_pipe.pipeline.loader import load_views
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.recipe import PRESETS
from deit_pipe.pipeline.samples import ArraySamples
table = ArraySamples("x", np.zeros((64, 8, 8), np.uint8), np.zeros(64, np.int64), ["only"])
plan = ViewPlan.for_recipe(64, PRESETS["basic"], seed=0)
cells = (Cells(epoch, np.arange(64)) for epoch in range(100000))
try:
    for batch in load_views(table, PRESETS["basic"], plan, cells, image_size=64, workers=2, threads=THREADS):
        print("batch", batch.epoch, flush=True)
        time.sleep(0.01)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


@pytest.mark.parametrize("threads", [False, True])
def test_ctrl_c_ends_workers_quietly(threads: bool) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("THREADS", str(threads))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("batch")
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group, workers included
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted" in output
    assert "Traceback" not in errors
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_torn_groups_and_foreign_slots_are_refused() -> None:
    table = noise_table()
    plan = ViewPlan.for_recipe(40, DEIT, seed=1)
    for slots in ([1, 2], [0, 1, 2], [1, 0], [0, 1, 3, 2]):
        with pytest.raises(PlanError, match="tears the mix group"):
            render_cells(table, DEIT, plan, Cells(0, np.asarray(slots)), 8)
    for slots in ([38, 39, 40, 41], [-2, -1]):
        with pytest.raises(PlanError, match=r"not all in 0\.\.39"):
            render_cells(table, DEIT, plan, Cells(0, np.asarray(slots)), 8)
    with pytest.raises(PlanError, match="different mix groups"):
        render_cells(table, DEIT, ViewPlan(40, seed=1, mix_group=4), Cells(0, np.arange(4)), 8)
    render_cells(table, PRESETS["basic"], plan, Cells(0, np.asarray([7, 1, 30])), 8)


def test_a_lone_last_slot_and_the_middle_of_an_odd_group_are_not_mixed() -> None:
    recipe = Recipe(mix_group=3, mixup_alpha=1.0)
    plan = ViewPlan.for_recipe(7, recipe, seed=0)
    partner, mixes = pair_up(recipe, plan, 0, np.arange(7), 8)
    assert partner.tolist() == [2, 1, 0, 5, 4, 3, 6]
    assert [mix is None for mix in mixes] == [False, True, False, False, True, False, True]
    assert mixes[0] == mixes[2]
    assert mixes[0] != mixes[3]


def test_repeats_in_a_batch_share_one_decode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Files(TroubledTable):
        def read(self, sample: int) -> bytes:
            return encoded(photo(sample, 20, 20), "PNG")

    decoded: list[int] = []
    real = cells_module.decode
    monkeypatch.setattr(cells_module, "decode", lambda data: decoded.append(1) or real(data))  # type: ignore[func-returns-value]
    plan = ViewPlan.for_recipe(40, DEIT, seed=1)
    render_cells(Files(-1, ""), DEIT, plan, Cells(0, np.arange(40)), 8)
    assert len(decoded) == 14


def test_loading_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    list(load(noise_table(), DEIT, workers=1))
    list(load(noise_table(), DEIT, workers=0))
    list(load(noise_table(), DEIT, workers=2, threads=True))
    assert torch.equal(torch.get_rng_state(), before)
