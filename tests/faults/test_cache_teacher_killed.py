"""cache-teacher killed with SIGKILL and run again ends in the cache of an uninterrupted run."""

import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
from stage_fakes import cache_options, write_idx, write_recipe

from deit_pipe.stages import cache_teacher
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.store.reader import TargetReader

EPOCHS, SAMPLES, BLOCKS = 4, 240, 8  # blocks of an epoch


def committed(cache: Path) -> int:
    return len(list((cache / "ledger").glob("*/blocks/*.json"))) + BLOCKS * len(
        list((cache / "ledger").glob("*/sealed/*"))
    )


def kill_after(options: CacheTeacherOptions, blocks: int) -> None:
    """Run in a process of its own and kill it once that many blocks are committed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deit_pipe.stages.cache_teacher"])  # torch is imported once
    process = context.Process(target=cache_teacher.run, args=(options,))
    process.start()
    deadline = time.monotonic() + 60
    while process.is_alive() and committed(Path(options.cache)) < blocks and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.join()


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_and_run_again_is_byte_identical(workers: int, tmp_path: Path) -> None:
    data, recipe = write_idx(tmp_path / "data", train=SAMPLES), str(write_recipe(tmp_path))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    cache_teacher.run(cache_options(data, whole, recipe=recipe, epochs=EPOCHS))
    options = cache_options(data, cut, recipe=recipe, epochs=EPOCHS, workers=workers)
    for blocks in (1, 9):
        kill_after(options, blocks)
    left = EPOCHS * BLOCKS - committed(cut)
    resumed, again = cache_teacher.run(options), cache_teacher.run(options)
    assert 0 < left < EPOCHS * BLOCKS, "the kill came too early or too late to mean anything"
    assert resumed.data["written"] > 0
    assert "nothing to do" in again.text
    one, other = TargetReader(whole), TargetReader(cut)
    slots = np.arange(SAMPLES)
    for epoch in range(EPOCHS):
        a, b = one.read(epoch, slots), other.read(epoch, slots)
        np.testing.assert_array_equal(a.fingerprint, b.fingerprint)
        np.testing.assert_array_equal(a.teacher_label, b.teacher_label)
        np.testing.assert_array_equal(a.logits, b.logits)
