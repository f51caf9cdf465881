"""Stage two refuses what its student is given otherwise than the teacher: input, labels, views; cached and online."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden.regenerate_cache import CACHE
from stage_fakes import cache_options, student_options

from deit_pipe.pipeline import compose as composing
from deit_pipe.pipeline import loader
from deit_pipe.pipeline.errors import ViewChanged
from deit_pipe.pipeline.loader import ViewBatch
from deit_pipe.stages import cache_teacher, train_student
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.teaching import filling
from deit_pipe.stages.training import proven_batches
from deit_pipe.store.blocks.block_object import BlockCodec
from deit_pipe.store.blocks.objects import BlockObjects
from deit_pipe.store.errors import CacheCorrupt
from deit_pipe.store.ledger import read_ledger
from deit_pipe.store.manifest import list_teachers, read_manifest, read_teacher
from deit_pipe.store.places.local import LocalDirectory
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.record import Owner

ONLINE = {"online_teacher": True, "teacher_weights": "random"}


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[Any], Any]], None]:
    """Let a function that batches are made with give something else."""

    def change(name: str, what: Callable[[Any], Any]) -> None:
        kept = getattr(proven_batches, name)
        monkeypatch.setattr(proven_batches, name, lambda *args: what(kept(*args)))

    return change


def train(cache: Path, out: Path, **changed: Any) -> Any:
    return train_student.run(student_options(cache, out, epochs=1, **changed))


@pytest.mark.parametrize("how", [{}, ONLINE], ids=["cached", "online"])
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("compose", lambda pixels: pixels.flip(1)),
        ("compose", lambda pixels: pixels.bfloat16().float()),
        ("normalise", lambda inputs: inputs * 1.001),
        ("normalise", lambda inputs: inputs * float("nan")),
    ],
)
def test_another_input_is_refused(
    name: str, fault: Any, how: dict[str, Any], cache: Path, tmp_path: Path, broken: Any
) -> None:
    broken(name, fault)
    with pytest.raises(Mismatch) as caught:
        train(cache, tmp_path / "run", **how)
    said = str(caught.value)
    assert caught.value.exit_code == 4
    witnessed = TargetReader(cache).witnesses(0).slots.tolist()
    assert any(said.startswith(f"witness differs: epoch 0, slot {slot}, sample ") for slot in witnessed)
    assert "another input than the teacher" in said
    assert re.search(r"\n  expected  sums [+-]0\.\d{6} .*\n  got       sums ", said)
    assert "the libraries are the cache's own" in said


@pytest.mark.parametrize("how", [{}, ONLINE], ids=["cached", "online"])
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("mixed_labels", lambda rows: rows.flip(1)),
        ("mixed_labels", lambda rows: rows.roll(1, dims=0)),
        ("mixed_labels", lambda rows: rows * 0.99),
        ("labelled_share", lambda share: share * 0.5),
    ],
)
def test_other_labels_are_refused(
    name: str, fault: Any, how: dict[str, Any], cache: Path, tmp_path: Path, broken: Any
) -> None:
    broken(name, fault)
    with pytest.raises(Mismatch, match="other labels than the teacher") as caught:
        train(cache, tmp_path / "run", smoothing=0.1, **how)
    assert "labelled share" in str(caught.value)


def test_nothing_is_learnt_in_a_step_that_is_refused(cache: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """A fault from the fourth step on: the optimiser has taken three."""
    steps: list[int] = []
    kept_step, kept = torch.optim.AdamW.step, proven_batches.compose

    def counted(self: Any, *args: Any, **options: Any) -> Any:
        steps.append(1)
        return kept_step(self, *args, **options)

    def failing(batch: ViewBatch, recipe: Any) -> torch.Tensor:
        return kept(batch, recipe) * (0.9 if len(steps) >= 3 else 1.0)

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    monkeypatch.setattr(proven_batches, "compose", failing)
    with pytest.raises(Mismatch, match="witness differs: epoch 0"):
        train(cache, tmp_path / "run")
    witnessed = TargetReader(cache).witnesses(0).slots
    first = int(witnessed[witnessed >= 3 * 16][0]) // 16  # the step that shows the next witness
    assert len(steps) == first


@pytest.mark.parametrize("how", [{}, ONLINE], ids=["cached", "online"])
def test_two_exchanged_images_are_refused(how: dict[str, Any], cache: Path, data: Path, tmp_path: Path) -> None:
    """Same class, same size: no digest sees it."""
    other = shutil.copytree(data, tmp_path / "data")
    file = other / "train-images-idx3-ubyte"
    raw = bytearray(file.read_bytes())
    one, two = (16 + 256 * sample for sample in (5, 9))
    raw[one : one + 256], raw[two : two + 256] = raw[two : two + 256], raw[one : one + 256]
    file.write_bytes(raw)
    with pytest.raises(Mismatch, match=r"replay differs: epoch \d, slot \d+, sample (5|9) "):
        train_student.run(student_options(cache, tmp_path / "run", data=str(other), **how))


def test_online_compares_what_is_committed_and_trains_on_the_rest(
    cache: Path, data: Path, recipe: Path, tmp_path: Path, broken: Any
) -> None:
    place = tmp_path / "cache"
    cache_teacher.run(cache_options(data, place, recipe=str(recipe), plan_only=True))
    assert train(place, tmp_path / "planned", **ONLINE).data["steps"] == 6
    (name,) = list_teachers(place)
    for kind in ("ledger", "targets.zarr"):
        shutil.rmtree(place / kind)
        shutil.copytree(cache / kind, place / kind)
    only_block(place, name, 1)
    assert train(place, tmp_path / "partly", **ONLINE).data["steps"] == 6
    broken("compose", lambda pixels: pixels * 1.01)
    with pytest.raises(Mismatch, match=r"witness differs: epoch 0, slot (3[2-9]|[45]\d|6[0-3])"):
        train(place, tmp_path / "wrong", **ONLINE)


def only_block(place: Path, name: str, index: int) -> None:
    """Keep one block of epoch 0, which no index has."""
    shutil.rmtree(place / "ledger" / name / "sealed")
    key = BlockCodec(read_manifest(place), read_teacher(place, name)).key(0, index)
    for block in (place / "targets.zarr" / name).glob("*/c/**/*"):
        if block.is_file() and block != place / key:
            block.unlink()
    assert read_ledger(place, name).cells() == {(0, index)}


def test_online_refuses_the_blocks_of_another_teacher(cache: Path, tmp_path: Path) -> None:
    place = shutil.copytree(cache, tmp_path / "cache")
    (name,) = list_teachers(place)
    shutil.rmtree(place / "ledger" / name / "sealed")
    codec = BlockCodec(read_manifest(place), read_teacher(place, name))
    data, record = BlockObjects(LocalDirectory(place), codec).fetch(read_ledger(place, name).record(0, 0).block)
    codec.owner = Owner("0" * 64, codec.owner.teacher)
    data, _ = codec.pack(record, codec.encode(codec.arrays(data, record)))
    (place / codec.key(0, 0)).write_bytes(data)
    with pytest.raises(CacheCorrupt, match="are not its own"):
        train(place, tmp_path / "run", **ONLINE)


def test_format_1_trains_without_a_witness_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: Any
) -> None:
    old = CACHE.with_name("cache_v1")
    options = {"teacher": "dense", "batch_size": 64, "student": "custom:8x1x1"}
    train(old, tmp_path / "old", **options)
    assert "has format 1: no witness" in capsys.readouterr().err
    broken("normalise", lambda inputs: inputs * 1.1)
    assert train(old, tmp_path / "wrong", **options).data["steps"] == 22  # nothing can see it
    with pytest.raises(Mismatch, match="witness differs"):
        train(CACHE, tmp_path / "new", **options)


def test_format_1_is_extended_in_a_copy_which_keeps_its_blocks_without_a_witness(tmp_path: Path) -> None:
    place = shutil.copytree(CACHE.with_name("cache_v1"), tmp_path / "cache")
    from click.testing import CliRunner
    from golden.regenerate_cache import command

    from deit_pipe.cli import main

    words = [word.replace("--epochs=1", "--epochs=2") for word in command("dense", "dense", place)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 4
    assert f"inspect-cache {place} --upgrade NEW" in result.output
    new = tmp_path / "new"
    result = CliRunner().invoke(main, ["inspect-cache", str(place), "--upgrade", str(new)])
    assert result.exit_code == 0, result.output
    words = [word.replace(f"--cache={place}", f"--cache={new}") for word in words]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    place = new
    ledger = read_ledger(place, "dense")
    assert len(ledger) == 12
    assert [record.witness is None for record in ledger.records()] == [True] * 6 + [False] * 6
    assert len(ledger.witnesses(0).slots) == 0
    assert len(ledger.witnesses(1).slots) == 12
    assert json.loads((place / "MANIFEST.json").read_text())["deit_pipe"] == 3
    assert np.isfinite(TargetReader(place, "dense").read(1, np.arange(10)).logits).all()


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_precision_accumulation_and_other_batches_are_no_fault(precision: str, cache: Path, tmp_path: Path) -> None:
    train(cache, tmp_path / "run", precision=precision, accumulate=2, batch_size=24, order_seed=3, smoothing=0.1)


def test_the_loader_that_exchanges_two_views_is_refused(cache: Path, tmp_path: Path, monkeypatch: Any) -> None:
    kept = loader.to_batch

    def exchanged(cells: Any) -> ViewBatch:
        batch = kept(cells)
        batch.pixels = batch.pixels.flip(0)
        return batch

    monkeypatch.setattr(loader, "to_batch", exchanged)
    with pytest.raises(ViewChanged, match="changed between its worker and the batch"):
        train(cache, tmp_path / "run")
    monkeypatch.setattr(proven_batches, "rechecked", lambda views, seed: views)
    with pytest.raises(Mismatch, match="witness differs"):
        train(cache, tmp_path / "run")


def test_compose_is_what_both_stages_call() -> None:
    assert proven_batches.compose is composing.compose is filling.compose
