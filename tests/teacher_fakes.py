"""A miniature that learned the digits in a few seconds, and teachers made of it that are wrong in a known way.

Its body is trained once, with 1,000 outputs of which ten, at places drawn by lot, are the digits: a published body that
knows the classes of the data, in another order, among others. Every teacher is cut out of it.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from deit_pipe.pipeline.data_set import DataSet, open_data
from deit_pipe.pipeline.samples import ArraySamples, SampleTable
from deit_pipe.stages.networks.teacher import Teacher, load_teacher
from deit_pipe.stages.networks.weights import TeacherRun, write_teacher_run

MODEL = "test_resnet.r160_in1k"
SIZE = 32
MEAN = STD = (0.5, 0.5, 0.5)  # of the tag
NAMES = tuple(str(digit) for digit in range(10))
PLACES = np.random.Generator(np.random.Philox(7)).permutation(1000)[:10]
"""The output of the 1,000-class body that stands for each digit."""


@cache
def pixels(split: str) -> torch.Tensor:
    """Digits as float32 [N, 3, 32, 32], 0..1, by Pillow alone."""
    table = digits(split)
    images = [
        np.asarray(Image.fromarray(table.read(i)).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC))
        for i in range(len(table))
    ]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


@cache
def digits(split: str) -> SampleTable:
    data = open_data("digits")
    table = data.train if split == "train" else data.val
    assert table is not None
    return table


@torch.inference_mode(False)
def train_net(labels: torch.Tensor, outputs: int, steps: int = 80) -> nn.Module:
    """A miniature that answers `labels` to the training digits."""
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=outputs).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    images = (pixels("train") - 0.5) / 0.5
    for _ in range(steps):
        rows = torch.randint(0, len(images), (64,), generator=random)
        loss = F.cross_entropy(net(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval().requires_grad_(False)


@cache
def body() -> nn.Module:
    """The net of 1,000 outputs; about 98 % of the validation digits are right."""
    return train_net(torch.from_numpy(PLACES[digits("train").labels]), 1000)


@cache
def brightness_net() -> nn.Module:
    """A net of ten other classes: how bright a digit is."""
    brightness = pixels("train").mean(dim=(1, 2, 3)).argsort().argsort()
    return train_net(brightness * 10 // len(brightness), 10, steps=15)


def cut(places: Sequence[int]) -> nn.Module:
    """The body with only these of its outputs, in this order."""
    net = timm.create_model("test_resnet", num_classes=len(places))
    state = dict(body().state_dict())
    for name in ("fc.weight", "fc.bias"):
        state[name] = state[name][torch.as_tensor(np.asarray(places))]
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)


def honest() -> nn.Module:
    """The digits, in their order."""
    return cut(PLACES)


def run_folder(
    folder: Path,
    net: nn.Module,
    *,
    mean: tuple[float, ...] = MEAN,
    std: tuple[float, ...] = STD,
    size: int = SIZE,
    val_top1: float | None = None,
    head: str = "trained",
) -> Path:
    """A net as a train-teacher folder of digits."""
    facts = TeacherRun(
        model=MODEL, head=head, image_size=size, mean=mean, std=std, class_names=NAMES, val_top1=val_top1
    )
    write_teacher_run(folder, facts, net)
    return folder


def weights_file(path: Path, net: nn.Module) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, path)
    return path


def loaded(weights: Path | str, num_classes: int = 10) -> Teacher:
    names = NAMES if num_classes == 10 else tuple(f"c{i}" for i in range(num_classes))
    return load_teacher(
        MODEL, weights=str(weights), num_classes=num_classes, class_names=names, device=torch.device("cpu")
    )


def measured_by_hand(folder: Path, split: str = "val") -> float:
    """Top-1 on the digits of a teacher's folder, by timm, Pillow and its files alone."""
    facts = json.loads((folder / "teacher.json").read_text())
    net = timm.create_model(facts["model"], num_classes=len(facts["class_names"])).eval()
    net.load_state_dict(load_file(folder / "model.safetensors"))
    mean, std = (torch.tensor(facts[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        said = net((pixels(split) - mean) / std).argmax(dim=1).numpy()
    return float((said == digits(split).labels).mean())


def relabelled(table: SampleTable, labels: np.ndarray, names: Sequence[str] = NAMES) -> ArraySamples:
    """The same digits with other labels."""
    images = np.stack([table.read(i) for i in range(len(table))])
    return ArraySamples("relabelled", images, labels, names)


def part(table: SampleTable, rows: np.ndarray) -> ArraySamples:
    images = np.stack([table.read(int(i)) for i in rows])
    return ArraySamples("part", images, table.labels[rows], table.class_names)


def data_of(train: SampleTable, val: SampleTable | None) -> DataSet:
    return DataSet(data="digits", choice=open_data("digits").choice, train=train, val=val, test=None)
