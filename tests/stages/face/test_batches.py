"""Batches of the Python face: those that train-student trains on, proven before they are handed out."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stage_fakes import cache_options, student_options

import deit_pipe
from deit_pipe.pipeline.proof import probe
from deit_pipe.stages import cache_teacher, train_student
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.training import proven_batches
from deit_pipe.stages.training.proven_batches import Batch, ProvenBatches
from deit_pipe.store.errors import CacheIncomplete
from deit_pipe.store.reader import TargetReader

QUICK: dict[str, Any] = {"device": "cpu", "workers": 0}


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    return {
        "images": batch.images,
        "labels": batch.labels,
        "labelled": batch.labelled,
        "teacher": batch.teacher.label,
        "probabilities": batch.teacher.log_probabilities(3.0),
        "slots": torch.from_numpy(batch.slots),
    }


def test_they_are_what_train_student_trains_on(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four passes over two cached epochs: the later two come in another order."""
    taken: list[Batch] = []
    kept = ProvenBatches.take

    def noted(self: ProvenBatches) -> Batch:
        taken.append(kept(self))
        return taken[-1]

    monkeypatch.setattr(ProvenBatches, "take", noted)
    train_student.run(student_options(cache, tmp_path / "run", epochs=4, smoothing=0.2))
    opened = deit_pipe.open_cache(str(cache))
    given = [batch for epoch in range(4) for batch in opened.batches(16, epoch, smoothing=0.2, **QUICK)]
    assert len(given) == len(taken) == 4 * 6
    assert [batch.epoch for batch in given] == [0] * 6 + [1] * 6 + [0] * 6 + [1] * 6
    for ours, theirs in zip(given, taken, strict=True):
        theirs_by_name = tensors(theirs)
        assert all(torch.equal(value, theirs_by_name[name]) for name, value in tensors(ours).items())
    assert not np.array_equal(given[0].slots, given[12].slots)


def test_what_it_says_of_the_cache(cache: Path) -> None:
    opened = deit_pipe.open_cache(cache)  # a path will do
    assert (opened.epochs, opened.image_size, len(opened.class_names)) == (2, 32, 4)
    assert opened.plan.batch_count(16) == 6
    assert opened.recipe.mix_group == 4
    assert [identity.model for identity in opened.teachers] == ["test_resnet.r160_in1k"]
    batch = next(opened.batches(16, **QUICK))
    assert len(batch) == len(batch.teacher) == 16
    assert batch.images.shape == (16, 3, 32, 32)
    torch.testing.assert_close(batch.labels.sum(dim=1), torch.ones(16))
    everything = batch.teacher.log_probabilities()
    assert torch.equal(everything.argmax(dim=1), batch.teacher.label)
    torch.testing.assert_close(everything.exp().sum(dim=1), torch.ones(16))
    assert batch.teacher.classes is None


def test_processes_share_each_step_and_a_pass_can_be_gone_on_with(cache: Path) -> None:
    opened = deit_pipe.open_cache(str(cache))
    whole = [batch.slots for batch in opened.batches(16, 1, **QUICK)]
    shares = [[batch.slots for batch in opened.batches(16, 1, rank=rank, world=2, **QUICK)] for rank in range(2)]
    for step, slots in enumerate(whole):
        assert np.array_equal(slots, np.concatenate([share[step] for share in shares]))
    rest = [batch.slots for batch in opened.batches(16, 1, start=4, **QUICK)]
    assert np.array_equal(np.stack(rest), np.stack(whole[4:]))


def test_a_changed_image_stops_the_loop_with_its_cell(cache: Path, data: Path, tmp_path: Path) -> None:
    other = shutil.copytree(data, tmp_path / "data")
    file = other / "train-images-idx3-ubyte"
    raw = bytearray(file.read_bytes())
    changed = int(deit_pipe.open_cache(str(cache)).plan.sample_at(0)[50])
    start = 16 + 256 * changed
    raw[start : start + 256] = bytes(255 - value for value in raw[start : start + 256])
    file.write_bytes(raw)
    opened = deit_pipe.open_cache(str(cache), data=str(other))
    seen: list[int] = []
    loop = (seen.extend(batch.samples.tolist()) for batch in opened.batches(4, **QUICK))
    with pytest.raises(Mismatch, match=rf"replay differs: epoch 0, slot \d+, sample {changed} ") as error:
        list(loop)
    assert error.value.exit_code == 4
    assert changed not in seen  # what differs was never handed out


def test_what_is_composed_otherwise_is_never_handed_out(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    witnessed = TargetReader(cache).witnesses(0).slots.tolist()
    opened, kept = deit_pipe.open_cache(str(cache)), proven_batches.normalise
    monkeypatch.setattr(proven_batches, "normalise", lambda *given: kept(*given) * 1.001)
    seen: list[int] = []
    loop = (seen.extend(batch.slots.tolist()) for batch in opened.batches(4, **QUICK))
    with pytest.raises(Mismatch, match="witness differs: epoch 0, slot "):
        list(loop)
    assert not set(seen) & set(witnessed)
    monkeypatch.setattr(proven_batches, "normalise", kept)
    assert len(list(opened.batches(4, **QUICK))) == 24


def test_a_program_that_composes_otherwise_is_refused_before_the_first_batch(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, kept = deit_pipe.open_cache(str(cache)), probe.compose
    monkeypatch.setattr(probe, "compose", lambda *given: kept(*given) * 0.99)
    with pytest.raises(Mismatch, match="probe differs: this program composes a test batch otherwise"):
        opened.batches(16, **QUICK)


def test_a_loop_that_is_left_leaves_nothing_behind(cache: Path) -> None:
    import threading

    opened = deit_pipe.open_cache(str(cache))
    batches = opened.batches(16, device="cpu", workers=1)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "targets-ahead"]


def test_several_teachers_and_top_k(data: Path, recipe: Path, cache: Path, tmp_path: Path) -> None:
    place = shutil.copytree(cache, tmp_path / "cache")
    second = {"teacher": "test_efficientnet", "logits": "topk:2@1,3", "recipe": str(recipe), "seed": 0}
    cache_teacher.run(cache_options(data, place, **second))
    names = [identity.name for identity in identities(place)]
    opened = deit_pipe.open_cache(str(place), teacher=",".join(names))
    batch = next(opened.batches(16, **QUICK))
    assert [len(answers) for answers in batch.teachers] == [16, 16]
    kept = batch.teachers[names.index("test_efficientnet.r160_in1k")]
    assert kept.classes is not None
    assert kept.log_probabilities(3.0).shape == kept.classes.shape == (16, 2)
    with pytest.raises(Mismatch, match="cannot serve temperature 2") as error:
        kept.log_probabilities(2.0)
    assert "temperatures they serve: 1, 3" in str(error.value)
    loss = deit_pipe.DistillationLoss(kind="soft", alpha=0.5, tau=3.0, teacher_weights=(0.5, 0.5))
    logits = torch.zeros(16, 4, requires_grad=True)
    loss.of((logits, logits), batch).total.backward()
    assert bool(logits.grad is not None and logits.grad.abs().sum() > 0)


def identities(place: Path) -> list[Any]:
    from deit_pipe.store.manifest import list_teachers, read_teacher

    return [read_teacher(place, name) for name in list_teachers(place)]


def test_a_cache_that_is_only_planned_gives_none(data: Path, recipe: Path, tmp_path: Path) -> None:
    cache_teacher.run(cache_options(data, tmp_path / "planned", recipe=str(recipe), plan_only=True))
    with pytest.raises(CacheIncomplete, match="continue with: deit-pipe cache-teacher"):
        deit_pipe.open_cache(str(tmp_path / "planned"))


def test_plain_pytorch_learns_from_them(cache: Path) -> None:
    """The loss falls, and the class head learns the labels."""
    import timm

    opened = deit_pipe.open_cache(str(cache))
    torch.manual_seed(0)
    student = timm.create_model("test_vit", num_classes=4, img_size=32)
    loss = deit_pipe.DistillationLoss(kind="hard", alpha=0.5)
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    losses = []
    for epoch in range(6):
        for batch in opened.batches(16, epoch, **QUICK):
            parts = loss.of(student(batch.images), batch)
            optimizer.zero_grad()
            parts.total.backward()
            optimizer.step()
            losses.append(float(parts.distillation.detach()))
    assert sum(losses[-6:]) < 0.8 * sum(losses[:6])
