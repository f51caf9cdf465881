"""`predict` says what evaluation would count, of every image that can be read, and names the others."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from answering_fakes import write_student
from click.testing import CliRunner
from PIL import Image

from deit_pipe import DeitPipeError, PredictOptions
from deit_pipe.cli import main
from deit_pipe.pipeline.compose import normalise
from deit_pipe.stages import export, predict
from deit_pipe.stages.networks.student import load_student
from deit_pipe.stages.networks.two_heads import heads
from deit_pipe.stages.options.export import ExportOptions

NAMES = ("cat", "dög", "eel", "fox", "gnu")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that holds a student and no more."""
    return write_student(tmp_path_factory.mktemp("student"), NAMES, 0.8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven pictures of different sizes in two folders, and a text file."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    random = np.random.default_rng(0)
    for number in range(7):
        pixels = random.integers(0, 255, (40 + 9 * number, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / ("more" if number > 4 else "") / f"{number}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


def options(run: Path, *images: Path | str, **more: Any) -> PredictOptions:
    return PredictOptions(run=str(run), images=tuple(map(str, images)), device="cpu", **more)


def straight(run: Path, path: Path) -> dict[str, torch.Tensor]:
    """Probabilities [C] of each head, by a computation of its own: short side to 40 px, 32 px in the centre."""
    facts, model = load_student(run, CPU)
    with Image.open(path) as image:
        wide, high = (40 * side // min(image.size) for side in image.size)
        half = image.resize((wide, image.height), Image.Resampling.BICUBIC)
        small = half.resize((wide, high), Image.Resampling.BICUBIC)
    left, top = round((wide - 32) / 2), round((high - 32) / 2)
    pixels = torch.tensor(np.asarray(small.crop((left, top, left + 32, top + 32)))).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        own, dist = heads(model, normalise(pixels, facts.mean, facts.std))
    assert dist is not None
    return {
        "fused": ((own + dist) / 2).softmax(1)[0],
        "class": own.softmax(1)[0],
        "dist": dist.softmax(1)[0],
    }


def test_each_heads_likeliest_classes_are_those_of_a_straight_computation(run: Path, photos: Path) -> None:
    result = predict.run(options(run, photos / "3.png", photos / "0.png", top_k=5, batch_size=2))
    assert [one["image"] for one in result.data["images"]] == [str(photos / "3.png"), str(photos / "0.png")]
    for one in result.data["images"]:
        for head, right in straight(run, Path(one["image"])).items():
            said = one[head]
            assert [entry["label"] for entry in said] == right.argsort(descending=True).tolist()
            assert [entry["class"] for entry in said] == [NAMES[entry["label"]] for entry in said]
            np.testing.assert_allclose(
                [entry["probability"] for entry in said], right.sort(descending=True).values, atol=2e-5
            )
    assert len({str(one["fused"]) for one in result.data["images"]}) == 2


def test_the_answer_does_not_depend_on_the_batch(run: Path, photos: Path) -> None:
    one, all_ = (predict.run(options(run, photos, batch_size=size)).data["images"] for size in (1, 7))
    assert [image["image"] for image in one] == [image["image"] for image in all_]
    for a, b in zip(one, all_, strict=True):
        assert [said["label"] for said in a["fused"]] == [said["label"] for said in b["fused"]]
        assert a["dist"][0]["probability"] == pytest.approx(b["dist"][0]["probability"], abs=1e-5)


def test_folders_are_searched_and_stdin_is_a_list(run: Path, photos: Path) -> None:
    whole = [str(photos / name) for name in ("0.png", "1.png", "2.png", "3.png", "4.png", "more/5.png", "more/6.png")]
    assert [one["image"] for one in predict.run(options(run, photos)).data["images"]] == whole
    words = ["predict", str(run), "-", str(photos / "1.png"), "--device", "cpu", "--json"]
    done = CliRunner().invoke(main, words, input=f"{whole[6]}\n\n{photos / 'more'}\n")
    assert done.exit_code == 0
    assert [one["image"] for one in json.loads(done.stdout)["images"]] == [whole[6], whole[5], whole[6], whole[1]]


def test_what_cannot_be_read_is_named_after_the_others_were_answered(run: Path, photos: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes((photos / "1.png").read_bytes()[:300])
    words = ["predict", str(run), str(torn), str(photos / "0.png"), str(tmp_path / "gone.jpg"), str(photos / "1.png")]
    words += ["/dev/zero", "--device", "cpu", "--top-k", "1", "--csv", str(tmp_path / "rows.csv")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 6
    assert "error: 3 of 5 images cannot be read\n" in done.stderr
    for line in (f"{torn}: ", f"{tmp_path / 'gone.jpg'}: No such file or directory", "/dev/zero: no regular file"):
        assert f"  {line}" in done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith(str(photos))] == [str(photos / "0.png"), str(photos / "1.png")]
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert [(row["head"], row["rank"]) for row in rows] == 2 * [("fused", "1"), ("class", "1"), ("dist", "1")]
    assert rows[0]["class"] == NAMES[int(rows[0]["label"])]
    told = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert [one["image"] for one in told["unreadable"]] == [str(torn), str(tmp_path / "gone.jpg"), "/dev/zero"]
    assert told["error"]["exit_code"] == 6
    with pytest.raises(DeitPipeError, match="1 of 1 images cannot be read") as error:
        predict.run(options(run, torn))
    assert error.value.exit_code == 6


@pytest.mark.parametrize("kind", ["timm", "huggingface"])
def test_an_export_says_what_its_run_says(kind: str, run: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export.run(ExportOptions(run=str(run), format=kind, out=str(out)))
    own, other = (predict.run(options(place, photos)).data for place in (run, out))
    assert own["images"] == other["images"]


def test_weights_that_do_not_name_their_classes(photos: Path, tmp_path: Path, capsys: Any) -> None:
    for count in (1000, 7):
        torch.manual_seed(0)
        model = timm.create_model("test_resnet", num_classes=count)
        torch.save(model.state_dict(), tmp_path / f"test_resnet-{count}.pth")
    found = predict.run(options(tmp_path / "test_resnet-1000.pth", photos / "0.png", top_k=1000)).data["images"][0]
    assert set(found) == {"image", "class"}
    assert {said["label"]: said["class"] for said in found["class"]}[0] == "tench, Tinca tinca"
    assert "taken to be ImageNet's" in capsys.readouterr().err
    found = predict.run(options(tmp_path / "test_resnet-7.pth", photos / "0.png", top_k=9)).data["images"][0]
    assert sorted(said["class"] for said in found["class"]) == list("0123456")
    headless = {name: value for name, value in model.state_dict().items() if not name.startswith("fc.")}
    torch.save(headless, tmp_path / "test_resnet.pth")
    with pytest.raises(DeitPipeError, match="has no head") as error:
        predict.run(options(tmp_path / "test_resnet.pth", photos))
    assert error.value.exit_code == 4


def test_the_picture_shows_every_image_above_its_answers(run: Path, photos: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    predict.run(options(run, photos, picture=str(sheet)))
    with Image.open(sheet) as image:
        drawn = np.asarray(image)
    assert drawn.shape == (2 * (224 + 4 * 17 + 8) + 8, 4 * 232 + 8, 3)
    inside = drawn[8:232, 8:232].std()
    assert inside > 20  # noise, not white
    assert (drawn[232 + 8 + 224 + 60 :, -232:] == 255).all()  # seven of eight places


@pytest.mark.parametrize(
    ("images", "says", "code"),
    [(("empty",), "holds no image", 3), (("-",), "no image is named", 3)],
)
def test_nothing_to_ask_about(images: tuple[str, ...], says: str, code: int, run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    words = [str(tmp_path / one) if one != "-" else one for one in images]
    done = CliRunner().invoke(main, ["predict", str(run), *words], input="")
    assert done.exit_code == code
    assert says in done.stderr
