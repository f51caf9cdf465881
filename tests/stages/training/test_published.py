"""Every preset beside the published numbers: DeiT's paper and README_deit.md, README_revenge.md; by size and start."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stage_fakes import cache_options, student_options

from deit_pipe.pipeline.recipe import PRESETS as RECIPES
from deit_pipe.stages import cache_teacher, evaluate, train_student
from deit_pipe.stages.options.evaluate import EvaluateOptions
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.training.adapted_settings import BY_SIZE, SETTINGS_RULES
from deit_pipe.stages.training.evaluation import by_crop_ratio
from deit_pipe.stages.training.outcome import result_text
from deit_pipe.stages.training.published import few_images, published, size_of
from deit_pipe.stages.training.settings import Start, choose_preset, resolve_settings

NAMES = {
    "Ti": "deit_tiny_distilled_patch16_224",
    "S": "deit_small_distilled_patch16_224",
    "B": "deit_base_distilled_patch16_224",
    "L": "deit3_large_patch16_224",
    "H": "deit3_huge_patch14_224",
}
SIZES = tuple(NAMES)

# arXiv 2012.12877 table 9 and main.py's defaults, for every size; at the published batch of 1,024
DEIT: dict[str, Any] = {
    "epochs": 300,
    "batch_size": 1024,
    "optimizer": "adamw",
    "lr": 5e-4,
    "lr_batch": 512,
    "scaled_lr": 1e-3,
    "warmup_epochs": 5,
    "warmup_lr": 1e-6,
    "min_lr": 1e-5,
    "weight_decay": 0.05,
    "clip_grad": 0.0,
    "drop_path": 0.1,
    "label_loss": "ce",
    "smoothing": 0.1,
}
# README_deit.md: --batch-size 32 --nodes 2 (of 8 GPUs) --lr 5e-6 --weight-decay 1e-8 --epochs 30 --min-lr 5e-6
DEIT_FINETUNE = DEIT | {
    "epochs": 30,
    "batch_size": 512,
    "lr": 5e-6,
    "scaled_lr": 5e-6,
    "min_lr": 5e-6,
    "weight_decay": 1e-8,
}
# README_revenge.md, the commands of ImageNet-1k: 8 x 256 or 32 x 64, fusedlamb (apex: norm of gradients clipped to 1)
DEIT3 = DEIT | {
    "epochs": 800,
    "batch_size": 2048,
    "optimizer": "lamb",
    "lr_batch": 0,
    "clip_grad": 1.0,
    "label_loss": "bce",
    "smoothing": 0.0,
}
DEIT3_BY_SIZE = {
    "Ti": {"lr": 4e-3, "drop_path": 0.05},
    "S": {"lr": 4e-3, "drop_path": 0.05},
    "B": {"lr": 3e-3, "drop_path": 0.2},
    "L": {"lr": 3e-3, "drop_path": 0.45},
    "H": {"lr": 3e-3, "drop_path": 0.6},
}
# ... and its commands of fine-tuning: 512 images, --lr 1e-5 --unscale-lr --weight-decay 0.1 --epochs 20 --opt adamw
DEIT3_FINETUNE = DEIT | {
    "epochs": 20,
    "batch_size": 512,
    "lr": 1e-5,
    "lr_batch": 0,
    "scaled_lr": 1e-5,
    "weight_decay": 0.1,
}
FINETUNE_DROP_PATH = {
    224: {"Ti": 0.0, "S": 0.0, "B": 0.2, "L": 0.45, "H": 0.55},
    384: {"Ti": 0.0, "S": 0.0, "B": 0.15, "L": 0.4, "H": 0.55},
}


def numbers(preset: str, size: str, image_size: int = 224) -> dict[str, Any]:
    """What a run with this student uses, through the function that every run goes through."""
    settings = resolve_settings(TrainStudentOptions(), preset, NAMES[size], image_size=image_size)
    return {**vars(settings), "scaled_lr": settings.scaled_lr}


@pytest.mark.parametrize("size", SIZES)
def test_deit_fresh_and_fine_tuned(size: str) -> None:
    assert numbers("deit", size) == DEIT
    assert numbers("finetune", size, 384) == DEIT_FINETUNE


@pytest.mark.parametrize("size", SIZES)
def test_deit3_fresh(size: str) -> None:
    expected = DEIT3 | DEIT3_BY_SIZE[size]
    assert numbers("deit3", size) == expected | {"scaled_lr": expected["lr"]}


@pytest.mark.parametrize("image_size", [224, 384])
@pytest.mark.parametrize("size", SIZES)
def test_deit3_fine_tuned(size: str, image_size: int) -> None:
    expected = DEIT3_FINETUNE | {"drop_path": FINETUNE_DROP_PATH[image_size][size]}
    assert numbers("deit3-finetune", size, image_size) == expected


def test_a_students_name_says_its_size_and_others_are_as_s() -> None:
    assert {size_of(name): size for size, name in NAMES.items()} == {size: size for size in SIZES}
    assert size_of("custom") == size_of("resnet18") == "S"


@pytest.mark.parametrize(
    ("recipe", "start", "preset"),
    [
        ("deit", Start(), "deit"),
        ("deit-batch", Start(), "deit"),
        ("deit-32", Start(), "deit"),
        ("deit3", Start(), "deit3"),
        ("deit3-batch", Start(), "deit3"),
        ("deit3-src", Start(), "deit3"),
        ("deit", Start(tuned=True), "finetune"),
        ("deit-batch", Start(tuned=True), "finetune"),
        ("deit3-finetune", Start(tuned=True), "deit3-finetune"),
        ("deit3", Start(tuned=True), "deit3-finetune"),
        ("small", Start(tuned=True), "finetune"),
        ("small", Start(tuned=True, new_heads=True), "transfer"),
        ("deit", Start(tuned=True, new_heads=True), "transfer"),
        ("deit3-finetune", Start(tuned=True, new_heads=True), "transfer"),
        # a run that an older version began
        ("deit3", Start(tuned=True, new_heads=True, by_size=False), "finetune"),
    ],
)
def test_the_preset_is_a_function_of_recipe_and_start(recipe: str, start: Start, preset: str) -> None:
    chosen = choose_preset(TrainStudentOptions(), RECIPES[recipe], 224, 1_281_167, start)
    assert chosen.name == preset
    assert choose_preset(TrainStudentOptions(preset="small"), RECIPES[recipe], 224, 1_281_167, start).name == "small"


def test_a_run_begun_before_sizes_counted_goes_on_with_its_drop_path() -> None:
    old = resolve_settings(TrainStudentOptions(), "deit3", NAMES["B"], by_size=False)
    assert (old.lr, old.drop_path) == (3e-3, 0.05)
    assert SETTINGS_RULES >= BY_SIZE


def test_transfer_has_a_gentler_rate_than_few_and_falls_with_the_width() -> None:
    assert few_images(2000, 64, preset="transfer").lr == pytest.approx(few_images(2000, 64).lr / 3)
    assert few_images(2000, 768, preset="transfer").lr == pytest.approx(8.3e-5)  # 7.5e-5 for iNaturalist
    assert few_images(2000, 64, preset="transfer").drop_path == 0
    assert published("finetune").scaled_lr * 64 / 512 < 1e-6  # what new heads had before


def write_folders(folder: Path, seed: int) -> Path:
    """Bright quadrants again, as class folders with other names in another order."""
    random = np.random.default_rng(seed)
    for split, count in (("train", 96), ("val", 64)):
        for number in range(count):
            image = random.integers(0, 120, (16, 16), dtype=np.uint8)
            top, left = divmod(number % 4, 2)
            image[top * 8 : top * 8 + 8, left * 8 : left * 8 + 8] += 120
            place = folder / split / ("pear", "apple", "plum", "fig")[number % 4]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{number}.png")
    return folder


def test_new_heads_take_the_transfer_preset_and_learn(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned: dict[str, Any] = {"recipe": "eval", "plan_only": True, "epochs": 1}
    cache, other_classes = tmp_path / "cache", tmp_path / "other"
    cache_teacher.run(cache_options(data, cache, **planned))
    cache_teacher.run(cache_options(write_folders(tmp_path / "fruit", 1), other_classes, **planned))
    plain: dict[str, Any] = {"loss": "none", "eval_every": 4}
    small: dict[str, Any] = {"preset": "small", "student": "custom:32x2x2/4"}
    first = train_student.run(student_options(cache, tmp_path / "first", epochs=24, **small, **plain)).data
    assert first["best"]["top1"] > 0.9
    capsys.readouterr()
    settings: dict[str, Any] = {"init_from": str(tmp_path / "first"), "student": None, "epochs": 8, **plain}
    done = train_student.run(student_options(other_classes, tmp_path / "second", **settings)).data
    assert "preset transfer (it starts from trained weights of other classes" in capsys.readouterr().err
    tuned = [
        train_student.run(student_options(other_classes, tmp_path / f"lr{lr}", lr=lr, **settings)).data
        for lr in (3e-4, 3e-3)
    ]
    best = max(one["best"]["top1"] for one in tuned)
    assert best > 0.9
    assert done["best"]["top1"] >= best - 0.02
    frozen = train_student.run(student_options(other_classes, tmp_path / "before", preset="finetune", **settings)).data
    assert frozen["best"]["top1"] < best - 0.2


def test_both_crop_ratios_are_reported_of_a_fine_tuned_run(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The official code's 0.875 is 438 px at 384; timm's is 1. Images of 32 px stand for large ones here."""
    monkeypatch.setattr("deit_pipe.stages.training.evaluation.FULL_SIZE", 32)
    assert int(384 / 0.875) == 438
    first = train_student.run(student_options(cache, tmp_path / "first")).data
    assert "by_crop_ratio" not in first
    tuned = student_options(cache, tmp_path / "second", init_from=str(tmp_path / "first"), student=None)
    done = train_student.run(tuned).data
    both = done["by_crop_ratio"]
    assert set(both) == {"0.875", "1"}
    assert both["1"] == done["val"]  # its own ratio, measured once
    text = result_text(done)
    assert "at crop ratio 0.875 (the official code's) fused top-1" in text
    asked = {
        ratio: evaluate.run(EvaluateOptions(run=str(tmp_path / "second"), eval_crop_ratio=ratio, workers=0)).data
        for ratio in (0.875, 1.0)
    }
    assert {f"{ratio:g}": found["scores"] for ratio, found in asked.items()} == both
    assert asked[1.0]["by_crop_ratio"] is None
    assert evaluate.run(EvaluateOptions(run=str(tmp_path / "second"), workers=0)).data["by_crop_ratio"] == both


def test_small_images_and_fresh_runs_have_one_ratio() -> None:
    class Facts:
        image_size = 32

    assert by_crop_ratio(None, Facts(), object(), None, {"class": {}}, "run") is None  # type: ignore[arg-type]
    Facts.image_size = 384
    assert by_crop_ratio(None, Facts(), object(), None, {"class": {}}, None) is None  # type: ignore[arg-type]
