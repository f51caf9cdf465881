"""Views made by threads: the same batches, memory of their own, clean ends."""

import gc
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from numpy.typing import NDArray
from view_images import encoded, photo

from deit_pipe.pipeline import loader as loader_module
from deit_pipe.pipeline.cells import BegunCells, render_cells
from deit_pipe.pipeline.errors import PlanError
from deit_pipe.pipeline.loader import ViewBatch, load_views, to_batch
from deit_pipe.pipeline.native import engine, in_threads
from deit_pipe.pipeline.native.in_threads import render_in_threads, works_in_threads
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.recipe import PRESETS
from deit_pipe.pipeline.samples import ArraySamples, SampleTable
from deit_pipe.pipeline.sources.found_splits import Columns
from deit_pipe.pipeline.sources.packed import PackedSamples, pack_samples
from deit_pipe.pipeline.sources.parquet import ParquetSamples

DEIT = PRESETS["deit"]


def noise_table(count: int = 200) -> ArraySamples:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 20, 24, 3), dtype=np.uint8)
    return ArraySamples("noise", pixels, np.arange(count) % 5, list("abcde"))


def batches_of(table: SampleTable, workers: int, batch: int = 40, **how: object) -> Iterator[ViewBatch]:
    plan = ViewPlan.for_recipe(len(table), DEIT, seed=3)
    cells = (cells for epoch in range(2) for cells in plan.batches(epoch, batch, drop_last=False))
    return load_views(table, DEIT, plan, cells, image_size=24, workers=workers, **how)  # type: ignore[arg-type]


def view_threads() -> int:
    return sum(thread.name.startswith("views") for thread in threading.enumerate())


def same(batch: ViewBatch, other: ViewBatch) -> bool:
    return (
        torch.equal(batch.pixels, other.pixels)
        and np.array_equal(batch.fingerprints, other.fingerprints)
        and np.array_equal(batch.slots, other.slots)
        and torch.equal(batch.erase, other.erase)
        and torch.equal(batch.lam, other.lam)
    )


@pytest.mark.parametrize(("threads", "batch"), [(1, 40), (2, 40), (4, 6), (3, 200)])
def test_threads_make_the_batches_of_one_process(threads: int, batch: int) -> None:
    alone = list(batches_of(noise_table(), 0, batch))
    shared = list(batches_of(noise_table(), threads, batch, threads=True))
    assert len(alone) == len(shared) > 1
    assert all(map(same, alone, shared))


def test_a_batch_that_is_kept_stays_as_it_was() -> None:
    """A batch's memory must not be given to another one while somebody holds it."""
    alone = list(batches_of(noise_table(), 0))
    kept = []
    for batch in batches_of(noise_table(), 2, threads=True):
        kept.append(batch)
        time.sleep(0.01)  # the threads are at work on the next batches
    assert len({batch.pixels.data_ptr() for batch in kept}) == len(kept)
    assert all(map(same, alone, kept))


def test_views_are_written_straight_into_the_memory_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for CUDA, where it is page-locked: the batch's pixels are that very tensor, never a copy."""
    given: list[torch.Tensor] = []

    def memory(image_size: int, views: int) -> NDArray[np.uint8]:
        given.append(torch.full((views, image_size, image_size, 3), 7, dtype=torch.uint8))
        return given[-1].numpy()

    monkeypatch.setattr(loader_module, "_pinned_memory", memory)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    pinned: list[str] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(str(tensor.dtype)) or tensor)
    alone = list(batches_of(noise_table(), 0))
    asked = []
    for batch in batches_of(noise_table(), 2, threads=True, pin_memory=True):
        asked.append(len(given))
        assert batch.pixels.data_ptr() == given[len(asked) - 1].data_ptr()
        assert same(batch, alone[len(asked) - 1])
    # no more memory than the caller's batch and two ahead of it
    assert all(count <= number + 1 + 2 * 2 for number, count in enumerate(asked))
    assert asked[0] < len(alone)
    assert len(pinned) == 7 * len(alone)  # the small tensors too


def test_parts_hold_whole_samples_and_are_neither_tiny_nor_large() -> None:
    plan = ViewPlan.for_recipe(200, DEIT, seed=3)
    begun = BegunCells(noise_table(), DEIT, plan, Cells(0, np.arange(160)), 24)
    parts = list(begun.parts(16))
    sizes = [sum(len(positions) for _, positions in part) for part in parts]
    assert sum(sizes) == 160
    assert all(14 <= size <= 16 for size in sizes[:-1])
    samples = [sample for part in parts for sample, _ in part]
    assert len(samples) == len(set(samples)) == len(set(begun.samples.tolist()))
    assert all(len(part) == 1 for part in begun.parts(1))
    assert list(BegunCells(noise_table(), DEIT, plan, Cells(0, np.arange(0)), 24).parts(16)) == []


def test_a_batch_is_not_copied_on_its_way() -> None:
    cells = render_cells(noise_table(), DEIT, ViewPlan.for_recipe(200, DEIT, seed=3), Cells(0, np.arange(8)), 24)
    assert to_batch(cells).pixels.data_ptr() == cells.pixels.ctypes.data


@pytest.mark.parametrize("end", ["close", "drop", "exhaust", "error"])
def test_threads_are_gone_whatever_ends_the_iteration(end: str) -> None:
    batches = batches_of(noise_table(), 2, threads=True)
    next(batches)
    assert view_threads() == 2
    if end == "close":
        batches.close()  # type: ignore[attr-defined]
    elif end == "exhaust":
        assert len(list(batches)) == 9
    elif end == "error":
        with pytest.raises(KeyboardInterrupt):
            batches.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    del batches
    gc.collect()
    assert view_threads() == 0


class Counted(SampleTable):
    """Images as files; who reads them, and how many at once."""

    def __init__(self) -> None:
        super().__init__("counted", [str(i) for i in range(200)], np.zeros(200, np.int64), ["only"])
        self.files = [encoded(photo(i, 40, 30), "PNG") for i in range(10)]
        self.reads: list[tuple[int, str]] = []
        self.met = threading.Barrier(2)

    def read(self, sample: int) -> bytes:
        self.reads.append((sample, threading.current_thread().name))
        if len(self.reads) <= 2:
            self.met.wait(20)  # broken, and an error, unless two threads read at the same time
        return self.files[sample % 10]

    def measure_bytes(self) -> NDArray[np.int64]:
        return np.ones(200, np.int64)


def test_threads_share_a_batch_and_repeats_share_a_decode() -> None:
    table, plan = Counted(), ViewPlan.for_recipe(200, DEIT, seed=3)
    (batch,) = load_views(table, DEIT, plan, [Cells(0, np.arange(120))], image_size=24, workers=2, threads=True)
    assert len(batch) == 120
    assert len(table.reads) == len(set(batch.samples.tolist())) < 60
    assert len({name for _, name in table.reads}) == 2


def test_torchs_own_threads_are_left_alone() -> None:
    before = torch.get_num_threads()
    counts = {torch.get_num_threads() for _ in batches_of(noise_table(), 2, threads=True)}
    assert counts == {before}


def test_a_torn_group_is_refused_in_its_place() -> None:
    table, plan = noise_table(), ViewPlan.for_recipe(200, DEIT, seed=3)
    cells = [Cells(0, np.arange(40)), Cells(0, np.arange(41, 61)), Cells(0, np.arange(40))]
    batches = load_views(table, DEIT, plan, cells, image_size=24, workers=2, threads=True)
    assert len(next(batches)) == 40
    with pytest.raises(PlanError, match="tears the mix group"):
        next(batches)
    assert view_threads() == 0


def test_threads_are_taken_where_the_native_engine_renders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_threads, "chosen_engine", lambda: engine.Engine("sse2", ""))
    assert works_in_threads(1)
    assert works_in_threads(8)
    assert not works_in_threads(9)  # they would wait for each other's draws
    batches = batches_of(noise_table(), 2)
    next(batches)
    assert view_threads() == 2
    batches.close()  # type: ignore[attr-defined]
    monkeypatch.setattr(in_threads, "chosen_engine", lambda: engine.Engine(None, "not built"))
    assert not works_in_threads(1)


def test_views_left_to_pillow_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    real = loader_module.render_in_threads

    def one_of_each(*arguments: object) -> Iterator[object]:
        for batch in real(*arguments):  # type: ignore[arg-type]
            batch.left_to_pillow = 3
            yield batch

    monkeypatch.setattr(loader_module, "render_in_threads", one_of_each)
    assert [batch.left_to_pillow for batch in batches_of(noise_table(), 1, threads=True)] == [3] * 10


@pytest.mark.parametrize("kind", ["parquet", "packed", "packed raw"])
def test_sources_can_be_read_by_several_threads(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [encoded(photo(i, 16, 12), "PNG") for i in range(600)]
    rows = {"image": [{"bytes": file} for file in files], "label": [i % 2 for i in range(600)]}
    parquet.write_table(pa.table(rows), tmp_path / "train.parquet", row_group_size=50)
    table: SampleTable = ParquetSamples("rows", [tmp_path / "train.parquet"], Columns())
    if kind != "parquet":
        pack_samples(table, tmp_path / "train.arrow", raw=kind == "packed raw")
        table = PackedSamples(tmp_path / "train.arrow")
    monkeypatch.setattr("deit_pipe.pipeline.sources.kept.row_groups.KEPT_BYTES", 20_000)  # three row groups
    for source in (table, pickle.loads(pickle.dumps(table))):
        expected = [source.read(i) for i in range(600)]

        def wrong(seed: int, source: SampleTable = source, expected: list = expected) -> int:  # type: ignore[type-arg]
            order = np.random.default_rng(seed).permutation(600).tolist()
            return sum(not np.array_equal(source.read(i), expected[i]) for i in order)

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(wrong, range(4))) == [0] * 4


def test_nothing_grows_over_many_batches() -> None:
    """Some seconds of it; bench_loader.py does 100,000 batches."""
    resource = pytest.importorskip("resource")
    table, plan = noise_table(64), ViewPlan.for_recipe(64, PRESETS["basic"], seed=0)
    cells = (Cells(epoch, np.arange(8)) for epoch in range(1_000_000))
    batches = render_in_threads(table, PRESETS["basic"], plan, cells, 16, 2)

    def run(seconds: float) -> int:
        end, count = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            next(batches)
            count += 1
        return count

    run(1)
    before, objects = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(gc.get_objects())
    done = run(4)
    batches.close()  # type: ignore[attr-defined]
    assert done > 500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 12_000  # kB; keeping the batches would be more
    assert len(gc.get_objects()) - objects < 2000
