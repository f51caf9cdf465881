import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from inspect_fakes import MIXED, make_cache, real_witness

from deit_pipe.pipeline.compose import compose
from deit_pipe.pipeline.loader import to_batch
from deit_pipe.stages.console.errors import Mismatch, UsageProblem
from deit_pipe.stages.inspect_cache import run
from deit_pipe.stages.networks.teacher import Teacher, load_teacher
from deit_pipe.stages.networks.weights import TeacherRun, write_teacher_run
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
from deit_pipe.store.identity import TeacherIdentity
from deit_pipe.store.writer import TargetWriter

MODEL = "test_resnet.r160_in1k"


def teacher_in(folder: Path, seed: int, names: tuple[str, ...]) -> Teacher:
    """A random miniature network, written as a train-teacher folder."""
    teacher = load_teacher(
        MODEL,
        weights="random",
        num_classes=len(names),
        class_names=names,
        device=torch.device("cpu"),
        seed=seed,
    )
    facts = TeacherRun(
        model=MODEL, head="trained", image_size=32, mean=teacher.mean, std=teacher.std, class_names=names
    )
    write_teacher_run(folder, facts, teacher.model)
    return teacher


def identity_of(made: TeacherIdentity, teacher: Teacher, targets: str) -> TeacherIdentity:
    return dataclasses.replace(
        made,
        name="real",
        model=MODEL,
        weights_sha256=teacher.weights_sha256,
        targets=targets,
        mean=teacher.mean,
        std=teacher.std,
    )


@pytest.mark.parametrize("targets", ["dense", "dense8", "topk:2", "none"])
def test_the_teacher_is_asked_again_and_a_block_of_wrong_normalisation_is_found(tmp_path: Path, targets: str) -> None:
    made = make_cache(tmp_path, recipe=MIXED, blocks=0, epochs=2)
    teacher = teacher_in(tmp_path / "run", 3, made.table.class_names)
    identity = identity_of(made.teacher, teacher, targets)
    wrong = dataclasses.replace(teacher, mean=(0.0, 0.0, 0.0), std=(0.05, 0.05, 0.05))
    answers = {}
    with TargetWriter.open(made.cache, identity, epochs=2) as writer:
        for block in writer.mine:
            bad = (block.epoch, block.index) == (1, 2)
            rendered = made.views.render(block.epoch, np.arange(block.start, block.stop))
            mixed = compose(to_batch(rendered), MIXED)
            logits = (wrong if bad else teacher).padded(mixed, 8).numpy()
            answers[block.epoch, block.index] = logits, teacher.padded(mixed, 8).numpy()
            witness = real_witness(made.views, identity, block)
            writer.write(block, logits, rendered.fingerprints, rendered.labels, None, witness)
    options = InspectCacheOptions(
        cache=str(made.cache),
        replay="all",
        teacher="real",
        teacher_weights=str(tmp_path / "run"),
        device="cpu",
    )
    result = run(options)
    (answer,) = result.data["replay"]["answers"]
    cached, now = (np.concatenate([pair[side] for pair in answers.values()]) for side in (0, 1))
    assert answer["checked"] == 80
    assert answer["labels_equal"] == (cached.argmax(axis=1) == now.argmax(axis=1)).sum() < 80
    assert answer["blocks"] == [[1, 2, answer["different"]]]
    assert result.data["replay"]["different"] == 0  # the views are right, the answers are not
    assert result.exit_code == 4
    assert result.data["replay"]["equal_to_cache"] is False
    assert "remove-teacher real" in result.text.plain
    if targets == "dense":
        far = np.abs(cached.astype(np.float16).astype(np.float32) - now).max()
        assert answer["largest_difference"] == pytest.approx(far, rel=1e-4)
        good = run(dataclasses.replace(options, replay="0/0-39")).data["replay"]["answers"][0]
        assert (good["labels_equal"], good["different"]) == (40, 0)
        assert good["largest_difference"] < 0.01


@pytest.mark.parametrize("targets", ["dense", "dense8", "topk:2"])
def test_answers_with_the_right_labels_and_wrong_logits_are_found(tmp_path: Path, targets: str) -> None:
    made = make_cache(tmp_path, blocks=0, epochs=1)
    teacher = teacher_in(tmp_path / "run", 3, made.table.class_names)
    identity = identity_of(made.teacher, teacher, targets)
    with TargetWriter.open(made.cache, identity, epochs=1) as writer:
        for block in writer.mine:
            rendered = made.views.render(0, np.arange(block.start, block.stop))
            logits = teacher.padded(compose(to_batch(rendered), made.views.recipe), 8).numpy()
            scale = np.float32(4.0 if block.index == 3 else 1.0)
            witness = real_witness(made.views, identity, block)
            writer.write(block, logits * scale, rendered.fingerprints, rendered.labels, None, witness)
    options = InspectCacheOptions(
        cache=str(made.cache),
        replay="all",
        teacher="real",
        teacher_weights=str(tmp_path / "run"),
        device="cpu",
    )
    (answer,) = run(options).data["replay"]["answers"]
    assert answer["labels_equal"] == 40
    assert [one[:2] for one in answer["blocks"]] == [[0, 3]]
    assert answer["different"] > 0


def test_other_weights_are_refused_and_an_ambiguous_teacher_too(tmp_path: Path) -> None:
    made = make_cache(tmp_path, epochs=1)
    teacher_in(tmp_path / "run", 4, made.table.class_names)
    identity = dataclasses.replace(made.teacher, name="real", model=MODEL)
    with TargetWriter.open(made.cache, identity, epochs=1):
        pass
    options = {
        "cache": str(made.cache),
        "replay": "8",
        "teacher_weights": str(tmp_path / "run"),
        "device": "cpu",
    }
    with pytest.raises(Mismatch, match="weights sha256"):
        run(InspectCacheOptions(**options, teacher="real"))
    with pytest.raises(UsageProblem, match="known, real"):
        run(InspectCacheOptions(**options))
