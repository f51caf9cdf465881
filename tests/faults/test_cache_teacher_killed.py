"""cache-teacher killed with SIGKILL and run again ends in the cache of an uninterrupted run."""

import multiprocessing
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stage_fakes import cache_options, write_idx, write_recipe

from deit_pipe.stages import cache_teacher
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.store.ledger import read_ledger
from deit_pipe.store.manifest import list_teachers
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.stored_cache import StoredCache
from deit_pipe.store.writer import TargetWriter
from deit_pipe.store.writing.zarr_copy import write_zarr

EPOCHS, SAMPLES, BLOCKS = 4, 240, 8  # blocks of an epoch


def run_until(connection: Connection, options: CacheTeacherOptions, blocks: int) -> None:
    """Run the command; once this process has committed that many blocks, say so and commit no more."""
    write = TargetWriter.write
    written = 0

    def counting(self: TargetWriter, *args: Any) -> Any:
        nonlocal written
        if written == blocks:
            connection.send("committed")
            threading.Event().wait()  # for ever, in the thread that writes; the others work on
        record = write(self, *args)
        written += 1
        return record

    TargetWriter.write = counting  # type: ignore[method-assign]
    cache_teacher.run(options)
    connection.send("finished")


def kill_after(options: CacheTeacherOptions, blocks: int) -> None:
    """Run in a process of its own and kill it when it has committed that many blocks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deit_pipe.stages.cache_teacher"])  # torch is imported once
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=run_until, args=(theirs, options, blocks))
    process.start()
    theirs.close()
    try:
        assert ours.recv() == "committed"
    finally:
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL


def committed(cache: Path) -> int:
    (teacher,) = list_teachers(cache)
    return len(read_ledger(open_location(cache), teacher).cells())


def targets(cache: Path) -> dict[str, bytes]:
    """Every array as a plain zarr copy has it: blocks name the attempt that wrote them, arrays do not."""
    root = cache.with_name(f"{cache.name}-plain")
    write_zarr(StoredCache(cache), str(root))
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# each kill: after so many blocks of that process; the last one is at the first block of another epoch
@pytest.mark.parametrize(("workers", "kills"), [(0, (1, 8)), (2, (9,))], ids=["0", "2"])
def test_killed_and_run_again_is_byte_identical(workers: int, kills: tuple[int, ...], tmp_path: Path) -> None:
    data, recipe = write_idx(tmp_path / "data", train=SAMPLES), str(write_recipe(tmp_path))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    cache_teacher.run(cache_options(data, whole, recipe=recipe, epochs=EPOCHS))
    options = cache_options(data, cut, recipe=recipe, epochs=EPOCHS, workers=workers)
    for number, blocks in enumerate(kills):
        kill_after(options, blocks)
        assert committed(cut) == sum(kills[: number + 1])
    resumed, again = cache_teacher.run(options), cache_teacher.run(options)
    assert resumed.data["written"] == EPOCHS * BLOCKS - 9
    assert "nothing to do" in again.text
    assert targets(cut) == targets(whole)
    TargetReader(cut).read(EPOCHS - 1, np.arange(SAMPLES))
