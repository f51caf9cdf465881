import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from stage_fakes import cache_options, student_options, write_idx

from deit_pipe.pipeline.compose import compose, dominant_labels
from deit_pipe.pipeline.loader import load_views
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.recipe import load_recipe
from deit_pipe.pipeline.sources.open_samples import open_samples
from deit_pipe.stages import cache_teacher, train_student
from deit_pipe.stages.cache_teacher import slug
from deit_pipe.stages.console.errors import Mismatch, UsageProblem
from deit_pipe.stages.networks.teacher import load_teacher
from deit_pipe.store.ledger import coverage
from deit_pipe.store.manifest import list_teachers, read_teacher
from deit_pipe.store.reader import TargetReader


def test_targets_are_the_teachers_answers_to_the_mixed_views(cache: Path, data: Path, recipe: Path) -> None:
    """Straight line: plan, render, compose, network; nothing of the stage's own machinery."""
    table, chosen = open_samples(str(data), "train"), load_recipe(str(recipe))
    plan = ViewPlan.for_recipe(len(table), chosen, 0)
    teacher = load_teacher(
        "test_resnet",
        weights="random",
        num_classes=4,
        class_names=table.class_names,
        device=torch.device("cpu"),
    )
    views = next(iter(load_views(table, chosen, plan, [Cells(1, np.arange(32, 48))], image_size=32)))
    logits = teacher(compose(views, chosen)).numpy()
    stored = TargetReader(cache).read(1, np.arange(32, 48))
    assert bool((views.partner.numpy() != np.arange(16)).any())
    assert bool(views.erased_pixels)
    np.testing.assert_array_equal(stored.fingerprint, views.fingerprints)
    np.testing.assert_array_equal(stored.teacher_label, logits.argmax(axis=1))
    np.testing.assert_array_equal(stored.logits, logits.astype(np.float16).astype(np.float32))
    columns = coverage(cache, "test_resnet.r160_in1k").columns
    row = np.flatnonzero((columns["epoch"] == 1) & (columns["start"] == 32))[0]
    full = next(iter(load_views(table, chosen, plan, [Cells(1, np.arange(32, 64))], image_size=32)))
    answers = TargetReader(cache).read(1, np.arange(32, 64)).teacher_label
    assert columns["agree"][row] == (answers == dominant_labels(full).numpy()).sum()


@pytest.mark.parametrize(("workers", "batch"), [(0, 64), (1, 16), (2, 100)])
def test_workers_and_batch_size_change_no_fingerprint(
    workers: int, batch: int, cache: Path, data: Path, recipe: Path, tmp_path: Path
) -> None:
    cache_teacher.run(
        cache_options(data, tmp_path / "c", recipe=str(recipe), workers=workers, batch_size=batch, block=48)
    )
    for epoch in range(2):
        slots = np.arange(96)
        one, other = TargetReader(cache).read(epoch, slots), TargetReader(tmp_path / "c").read(epoch, slots)
        np.testing.assert_array_equal(one.fingerprint, other.fingerprint)


def test_more_epochs_extend_and_keep_what_is_there(data: Path, recipe: Path, tmp_path: Path) -> None:
    place = tmp_path / "c"
    cache_teacher.run(cache_options(data, place, recipe=str(recipe), epochs=1))
    before = TargetReader(place).read(0, np.arange(96))
    result = cache_teacher.run(cache_options(data, place, recipe=str(recipe), epochs=3))
    assert result.data["written"] == 6
    after = TargetReader(place)
    assert after.epochs == 3
    np.testing.assert_array_equal(before.logits, after.read(0, np.arange(96)).logits)


def test_a_second_teacher_joins_the_same_views_and_a_student_learns_from_both(
    data: Path, recipe: Path, tmp_path: Path
) -> None:
    place = tmp_path / "c"
    cache_teacher.run(cache_options(data, place, recipe=str(recipe)))
    cache_teacher.run(cache_options(data, place, recipe=str(recipe), teacher="test_efficientnet", logits="topk:2"))
    names = list_teachers(place)
    assert len(names) == 2
    one, two = (TargetReader(place, name).read(0, np.arange(96)) for name in names)
    np.testing.assert_array_equal(one.fingerprint, two.fingerprint)
    for loss in ("hard", "soft"):
        result = train_student.run(
            student_options(
                place,
                tmp_path / loss,
                teacher=f"{names[0]}:2,{names[1]}:1",
                loss=loss,
                tau=1.0,
            )
        )
        assert result.data["val"]["fused"]["top1"] > 0
        config = json.loads((tmp_path / loss / "config.json").read_text())
        assert config["teacher"] == f"{names[0]}:2,{names[1]}:1"


def test_a_damaged_block_is_made_again_and_only_that(data: Path, recipe: Path, tmp_path: Path) -> None:
    place = tmp_path / "c"
    cache_teacher.run(cache_options(data, place, recipe=str(recipe)))
    before = TargetReader(place).read(1, np.arange(96))
    victim = sorted((place / "targets.zarr").glob("*/logits/c/1/1/*"))[0]
    victim.write_bytes(victim.read_bytes()[:-1] + b"\x00")
    result = cache_teacher.run(cache_options(data, place, recipe=str(recipe)))
    assert result.data["written"] == 1
    np.testing.assert_array_equal(before.logits, TargetReader(place).read(1, np.arange(96)).logits)


def test_a_teacher_with_other_settings_under_the_same_name_is_refused(data: Path, cache: Path, recipe: Path) -> None:
    with pytest.raises(Exception, match="precision") as error:
        cache_teacher.run(cache_options(data, cache, recipe=str(recipe), precision="bf16"))
    assert getattr(error.value, "exit_code", None) == 4


def test_replay_of_changed_pixels_stops_training_and_names_the_cell(cache: Path, data: Path, tmp_path: Path) -> None:
    """Same labels, a few other pixels: the sample digest cannot see it, the fingerprint must."""
    changed = write_idx(tmp_path / "data")
    file = changed / "train-images-idx3-ubyte"
    raw = bytearray(file.read_bytes())
    for place in range(16 + 16 * 8 + 8, len(raw), 16 * 16):  # a pixel in the middle of every image
        raw[place] ^= 0x40
    file.write_bytes(raw)
    with pytest.raises(Mismatch) as error:
        train_student.run(student_options(cache, tmp_path / "run", data=str(changed), epochs=2))
    message = str(error.value)
    assert "replay differs: epoch" in message
    assert re.search(r"epoch 0, slot \d+, sample \d+ \(.+\)", message)
    assert re.search(r"cached [0-9a-f]{8}   replayed [0-9a-f]{8}", message)
    assert "an image file was changed" in message
    assert "--replay all" in message


def test_bf16_teacher_keeps_a_float32_head(data: Path) -> None:
    names = open_samples(str(data), "train").class_names
    teacher = load_teacher(
        "test_resnet",
        weights="random",
        num_classes=4,
        class_names=names,
        device=torch.device("cpu"),
        precision="bf16",
    )
    logits = teacher(torch.rand(4, 3, 32, 32))
    assert logits.dtype == torch.float32
    # bfloat16 has 8 bits of mantissa: some logit must need more
    assert bool((logits != logits.bfloat16().float()).any())


def test_a_teachers_answers_do_not_depend_on_where_a_batch_was_cut(data: Path) -> None:
    names = open_samples(str(data), "train").class_names
    teacher = load_teacher(
        "test_resnet", weights="random", num_classes=4, class_names=names, device=torch.device("cpu")
    )
    pixels = torch.rand(8, 3, 32, 32)
    whole = teacher.padded(pixels, 8)
    torch.testing.assert_close(teacher.padded(pixels[:5], 8), whole[:5], rtol=0, atol=0)
    assert teacher.padded(pixels[:5], 8).shape == (5, 4)


def test_names_and_blocks() -> None:
    assert slug("regnety_160.deit_in1k") == "regnety_160.deit_in1k"
    with pytest.raises(UsageProblem, match="--set block=28"):
        cache_teacher.identity_of(  # type: ignore[arg-type]
            cache_options(Path(), Path(), block=30),
            FakeTeacher(),
            FakeTable(),
            load_recipe("deit").__class__(mix_group=4),
            32,
        )


class FakeTeacher:
    tag, weights_sha256, head, mean, std, precision = "x", "0", "random", (0.0,) * 3, (1.0,) * 3, "fp32"


class FakeTable:
    class_names = ("a", "b")

    def __len__(self) -> int:
        return 100


def test_the_identity_records_tag_weights_and_normalisation(cache: Path) -> None:
    identity = read_teacher(cache, "test_resnet.r160_in1k")
    assert identity.model == "test_resnet.r160_in1k"
    assert len(identity.weights_sha256) == 64
    assert identity.mean == (0.5, 0.5, 0.5) or len(identity.mean) == 3
    assert identity.block_slots == 32
