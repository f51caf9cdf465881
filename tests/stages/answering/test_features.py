"""`features` writes the tokens from which the heads answer, a row for every image, in order."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
from answering_fakes import write_student
from PIL import Image

from deit_pipe import DeitPipeError, FeaturesOptions
from deit_pipe.pipeline.sources.open_samples import open_samples
from deit_pipe.stages import evaluate, features
from deit_pipe.stages.answering.vectors import vectors_of
from deit_pipe.stages.networks.student import load_student
from deit_pipe.stages.options.evaluate import EvaluateOptions

CPU = torch.device("cpu")
TOKENS = ("class_token", "dist_token", "patch_mean")


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_student(tmp_path_factory.mktemp("student"), tuple("0123"))


def options(run: Path | str, data: Path | None, out: Path, **more: Any) -> FeaturesOptions:
    return FeaturesOptions(
        run=str(run), data=None if data is None else str(data), out=str(out), device="cpu", workers=0, **more
    )


def column(table: Any, name: str) -> np.ndarray:
    return np.stack(table[name].to_numpy())


def test_rows_types_and_values(student: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.parquet"
    result = features.run(options(student, data, out, batch_size=20))
    assert result.data["splits"] == {"train": 96, "test": 32}
    assert result.data["rows"] == 128
    assert result.data["columns"] == dict.fromkeys(TOKENS, 24)
    table = pq.read_table(out)
    assert [str(table.schema.field(name).type) for name in TOKENS] == 3 * ["fixed_size_list<element: float>[24]"]
    assert table["split"].to_pylist() == 96 * ["train"] + 32 * ["test"]
    train = open_samples(str(data), "train")
    assert train is not None
    assert table["key"].to_pylist()[:96] == list(train.keys)
    assert table["label"].to_pylist()[:96] == train.labels.tolist()
    assert table["class"].to_pylist()[:4] == ["0", "1", "2", "3"]
    assert json.loads(table.schema.metadata[b"deit_pipe"])["model"] == "custom"
    facts, model = load_student(student, CPU)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (facts.mean, facts.std))
    for sample in (0, 21, 95):
        image = (
            Image.fromarray(np.asarray(train.read(sample))).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
        )
        pixels = (torch.tensor(np.asarray(image)).permute(2, 0, 1) / 255 - mean) / std
        with torch.inference_mode():
            seen = model.forward_features(pixels[None])[0].numpy()
        right = {"class_token": seen[0], "dist_token": seen[1], "patch_mean": seen[2:].mean(axis=0)}
        for name, value in right.items():
            np.testing.assert_allclose(column(table, name)[sample], value, atol=1e-5)


def test_the_heads_answer_from_these_tokens(student: Path, data: Path, tmp_path: Path) -> None:
    features.run(options(student, data, tmp_path / "f.parquet", split="test"))
    table = pq.read_table(tmp_path / "f.parquet")
    _, model = load_student(student, CPU)
    own, dist = (
        torch.from_numpy(column(table, token)) @ head.weight.T.detach() + head.bias.detach()
        for token, head in (("class_token", model.head), ("dist_token", model.head_dist))
    )
    labels = torch.tensor(table["label"].to_pylist())
    said = evaluate.run(EvaluateOptions(run=str(student), data=str(data), split="test", device="cpu", workers=0)).data[
        "scores"
    ]
    for name, logits in (("class", own), ("dist", dist), ("fused", own + dist)):
        assert float((logits.argmax(1) == labels).float().mean()) == said[name]["top1"]


def test_unlabelled_images_have_no_label(student: Path, tmp_path: Path) -> None:
    for place in ("0", "1", "2", "3", "unlabelled"):
        (tmp_path / "data" / place).mkdir(parents=True)
        Image.new("RGB", (40, 30), (60 * len(place), 10, 10)).save(tmp_path / "data" / place / "a.png")
    features.run(options(student, tmp_path / "data", tmp_path / "f.parquet"))
    table = pq.read_table(tmp_path / "f.parquet")
    assert table["key"].to_pylist()[-1] == "unlabelled/a.png"
    assert (table["label"].to_pylist(), table["class"].to_pylist()) == ([0, 1, 2, 3, None], [*"0123", None])


def test_a_folder_of_nothing_but_images_will_do(student: Path, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "f.parquet"
    photos.mkdir()
    for number in (2, 0, 1):
        Image.new("RGB", (40, 30), (90 * number, 0, 0)).save(photos / f"{number}.png")
    result = features.run(FeaturesOptions(run=str(student), data=str(photos), out=str(out), device="cpu"))
    table = pq.read_table(out)
    assert result.data["splits"] == {"unlabelled": 3}
    assert table["key"].to_pylist() == ["0.png", "1.png", "2.png"]
    assert table["label"].to_pylist() == [None] * 3
    (tmp_path / "empty").mkdir()
    with pytest.raises(DeitPipeError, match="no images that we know how to read"):
        features.run(FeaturesOptions(run=str(student), data=str(tmp_path / "empty"), out=str(out), device="cpu"))


def test_other_networks_have_other_vectors() -> None:
    pixels = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        found = {
            name: vectors_of(timm.create_model(name, num_classes=4, **more).eval(), pixels)
            for name, more in (("deit_tiny_patch16_224", {"img_size": 64}), ("test_resnet", {}))
        }
    assert {name: {column: list(value.shape) for column, value in one.items()} for name, one in found.items()} == {
        "deit_tiny_patch16_224": {"class_token": [2, 192], "patch_mean": [2, 192]},
        "test_resnet": {"pooled": [2, 96]},
    }


def test_a_bad_image_is_named_and_leaves_no_file(student: Path, tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / "data" / str(number)).mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(tmp_path / "data" / str(number) / "a.png")
    (tmp_path / "data" / "2" / "a.png").write_bytes(b"\x89PNG torn")
    with pytest.raises(DeitPipeError, match=r"2/a\.png") as error:
        features.run(options(student, tmp_path / "data", tmp_path / "f.parquet", batch_size=1))
    assert error.value.exit_code == 6
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("given", "says", "code"),
    [
        ({"run": "test_resnet", "data": None}, "nothing says of which images", 2),
        ({"split": "val"}, "has no val split", 3),
        ({"out": "nowhere/f.parquet"}, "--out nowhere/f.parquet cannot be written", 2),
    ],
)
def test_what_cannot_be_done_is_said(
    given: dict[str, Any], says: str, code: int, student: Path, data: Path, tmp_path: Path
) -> None:
    usual: dict[str, Any] = {"run": student, "data": data, "out": tmp_path / "f.parquet"}
    with pytest.raises(DeitPipeError) as error:
        features.run(options(**(usual | given)))
    assert says in str(error.value)
    assert error.value.exit_code == code
