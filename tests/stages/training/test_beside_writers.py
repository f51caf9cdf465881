"""A student trains to the end beside whatever else is done to its cache."""

import multiprocessing
import shutil
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stage_fakes import cache_options, student_options

from deit_pipe.stages import cache_teacher, train_student
from deit_pipe.stages.training import trainer
from deit_pipe.store.blocks.block_object import BlockCodec
from deit_pipe.store.ledger import coverage
from deit_pipe.store.manifest import list_teachers, read_manifest, read_teacher
from deit_pipe.store.verify import verify

NAME, SECOND = "test_resnet.r160_in1k", "second"
LAST = (3, 5)  # of the 24 blocks that the run reads, a dozen ahead: long after it was damaged and repaired


def other_jobs(connection: Connection, options: dict[str, Any]) -> None:
    """Run a cache-teacher with each set of options that comes in, and say that it has ended."""
    while (changed := connection.recv()) is not None:
        cache_teacher.run(cache_options(**options, **changed))
        connection.send("done")


def block_file(cache: Path, epoch: int, index: int) -> Path:
    return cache / BlockCodec(read_manifest(cache), read_teacher(cache, NAME)).key(epoch, index)


def before_steps(monkeypatch: pytest.MonkeyPatch, doing: dict[int, Callable[[], None]]) -> list[int]:
    """Have things done before some steps of a training; returns the list of the steps that were made."""
    original = trainer.Trainer.step
    made: list[int] = []

    def step(self: trainer.Trainer, *args: Any) -> Any:
        made.append(len(made) + 1)
        doing.get(made[-1], lambda: None)()
        return original(self, *args)

    monkeypatch.setattr(trainer.Trainer, "step", step)
    return made


def test_extending_repairing_and_another_teacher_change_nothing_for_a_student(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other processes do all three between its first and its last step; its weights are those of an undisturbed run."""
    one, two = tmp_path / "one", tmp_path / "two"
    cache_teacher.run(cache_options(data, one, block=16, recipe="small", epochs=4))
    shutil.copytree(one, two)
    train_student.run(student_options(one, tmp_path / "undisturbed", epochs=4))

    whole = block_file(two, *LAST).read_bytes()
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    options = {"data": data, "cache": two, "block": 16, "recipe": "small"}
    others = context.Process(target=other_jobs, args=(theirs, options), daemon=True)
    others.start()
    theirs.close()

    def damage_and_repair() -> None:
        assert ours.recv() == "done"  # the extension, which went on beside the steps since
        block_file(two, *LAST).write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        ours.send({"epochs": 4})
        assert ours.recv() == "done"

    with monkeypatch.context() as patch:
        doing = {2: lambda: ours.send({"epochs": 6}), 3: damage_and_repair, 5: lambda: ours.send({"name": SECOND})}
        made = before_steps(patch, {**doing, 24: lambda: ours.recv() and None})
        train_student.run(student_options(two, tmp_path / "disturbed", epochs=4))
    ours.send(None)
    others.join()
    assert len(made) == 24
    again = block_file(two, *LAST).read_bytes()
    assert again != whole  # another attempt's token: it was made again
    assert coverage(two, NAME).epochs == 6
    assert coverage(two, NAME).complete
    assert list_teachers(two) == [SECOND, NAME]
    assert verify(two, "deep").ok
    first, second = (load_file(tmp_path / run / "student.safetensors") for run in ("undisturbed", "disturbed"))
    assert all(torch.equal(value, second[weight]) for weight, value in first.items())
