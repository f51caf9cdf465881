"""A small data set on disk, a small recipe with everything on, and options for quick runs."""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.train_student import TrainStudentOptions

TEACHER = "test_resnet"  # timm's own miniature, 0.5 M parameters
CLASSES = 4

# DeiT's whole recipe at 32 px: repeats, RandAugment, erasing, Mixup and CutMix
EVERYTHING = """
base = "deit"
erase_prob = 0.5
mix_group = 4
repeats = 3
window = 48
"""


def write_idx(folder: Path, train: int = 96, val: int = 32, side: int = 16, seed: int = 0) -> Path:
    """IDX files of bright quadrants on noise: the quadrant is the class."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for stem, count in (("train", train), ("t10k", val)):
        labels = (np.arange(count) % CLASSES).astype(np.uint8)
        images = random.integers(0, 120, (count, side, side), dtype=np.uint8)
        half = side // 2
        for image, label in zip(images, labels, strict=True):
            top, left = divmod(int(label), 2)
            image[top * half : (top + 1) * half, left * half : (left + 1) * half] += 120
        (folder / f"{stem}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 0x803, count, side, side) + images.tobytes()
        )
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels.tobytes())
    return folder


def write_recipe(folder: Path) -> Path:
    path = folder / "everything.toml"
    path.write_text(EVERYTHING, encoding="utf-8")
    return path


def cache_options(data: Path, cache: Path, **changed: Any) -> CacheTeacherOptions:
    settings: dict[str, Any] = {
        "teacher": TEACHER,
        "teacher_weights": "random",
        "data": str(data),
        "cache": str(cache),
        "epochs": 2,
        "img_size": 32,
        "batch_size": 16,
        "block": 32,
        "workers": 0,
        "device": "cpu",
        "val_split": "test" if (data / "t10k-labels-idx1-ubyte").exists() else None,
    }
    return CacheTeacherOptions(**(settings | changed))


def student_options(cache: Path, out: Path, **changed: Any) -> TrainStudentOptions:
    settings: dict[str, Any] = {
        "cache": str(cache),
        "out": str(out),
        "epochs": 2,
        "batch_size": 16,
        "student": "custom:16x2x2",
        "workers": 0,
        "device": "cpu",
        "log_steps": 1,
    }
    return TrainStudentOptions(**(settings | changed))
