"""Exports load with the line that is printed, and answer as the run does; folders are whole or not there."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from deit_pipe import DeitPipeError
from deit_pipe.stages import export
from deit_pipe.stages.exporting.hugging_face_folder import has_transformers
from deit_pipe.stages.networks.adapted_weights import start_from
from deit_pipe.stages.networks.starting_weights import find_start
from deit_pipe.stages.networks.student import StudentFacts, build_student, describe_student, load_student
from deit_pipe.stages.networks.two_heads import heads
from deit_pipe.stages.options.export import ExportOptions

CPU = torch.device("cpu")
NAMES = ("cat", "dög", "eel", "fox", "gnu")
OWN = {"patch_size": 8, "width": 24, "depth": 2, "heads": 3}


def student(folder: Path, model: str = "custom", size: int = 32) -> Path:
    """A run folder that holds a student with random weights and no more."""
    facts = describe_student(
        model, image_size=size, class_names=NAMES, crop_ratio=0.8, drop_path=0.0, **(OWN if model == "custom" else {})
    )
    torch.manual_seed(3)
    folder.mkdir(parents=True)
    facts_json = json.dumps(facts.to_json())
    (folder / "student.json").write_text(facts_json)
    state = build_student(facts).state_dict()
    for name, value in state.items():  # heads of zeros answer alike, whatever they are given
        if value.is_floating_point() and "running" not in name:
            torch.nn.init.normal_(value, std=0.05)
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "student.safetensors")
    return folder


def answers(folder: Path, count: int = 3) -> tuple[StudentFacts, Tensor, Tensor]:
    facts, model = load_student(folder, CPU)
    pixels = torch.randn(count, 3, facts.image_size, facts.image_size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return facts, pixels, model(pixels)


def runs(line: str, more: str, place: Path) -> None:
    """Run a printed line, then checks, in another process."""
    done = subprocess.run(
        [sys.executable, "-c", f"{line}\n{more}"], cwd=place, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def exported(run: Path, kind: str, out: Path | None = None) -> Any:
    return export.run(ExportOptions(run=str(run), format=kind, out=None if out is None else str(out)))


SAME = """
import torch
pixels, expected = torch.load("asked.pt")
with torch.inference_mode():
    answered = {answer}
assert torch.equal(answered, expected) if {exact} else (answered - expected).abs().max() < 1e-5, answered - expected
"""


@pytest.mark.parametrize(
    ("model", "size"), [("custom", 32), ("deit_tiny_distilled_patch16_224", 48), ("pit_ti_distilled_224", 64)]
)
def test_the_printed_line_loads_timms_folder(model: str, size: int, tmp_path: Path, monkeypatch: Any) -> None:
    student(tmp_path / "it's a run", model, size)
    monkeypatch.chdir(tmp_path)
    result = exported(Path("it's a run"), "timm")
    assert result.data["largest_difference"] == 0
    _, pixels, expected = answers(Path("it's a run"))
    torch.save((pixels, expected), tmp_path / "asked.pt")
    said = result.text.splitlines()[-1]
    assert said.startswith("use: ")
    runs(said.removeprefix("use: "), SAME.format(answer="model(pixels)", exact=False), tmp_path)


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("custom", 32),
        ("deit_tiny_distilled_patch16_224", 48),
        ("deit_tiny_patch16_224", 48),
        ("deit3_small_patch16_224", 32),
        ("pit_ti_distilled_224", 64),
        ("repvit_m0_9", 64),
        ("test_resnet", 40),
    ],
)
def test_a_run_comes_back_from_timms_folder_as_it_was(model: str, size: int, tmp_path: Path) -> None:
    run = student(tmp_path / "run", model, size)
    result = exported(run, "timm")
    facts, pixels, expected = answers(run)
    for place in (result.data["out"], f"{result.data['out']}/model.safetensors"):
        start = find_start(place)
        assert (start.model, start.sizes, start.image_size) == (facts.model, facts.sizes, size)
        assert (start.class_names, start.mean, start.std) == (NAMES, facts.mean, facts.std)
        assert start.crop_ratio == 0.8
        copy = build_student(facts)
        assert start_from(copy, facts, start).new_heads == ()
        with torch.inference_mode():
            assert torch.equal(copy.eval()(pixels), expected)


def test_timm_adapts_a_folder_to_other_classes_and_sizes(tmp_path: Path) -> None:
    run = student(tmp_path / "run")
    out = exported(run, "timm").data["out"]
    other = timm.create_model(f"local-dir:{out}", pretrained=True, num_classes=7, img_size=64)
    assert (other.head.out_features, other.head_dist.out_features) == (7, 7)
    assert other.pos_embed.shape[1] == 2 + 64
    kept = load_file(run / "student.safetensors")
    assert torch.equal(other.state_dict()["blocks.1.attn.qkv.weight"], kept["blocks.1.attn.qkv.weight"])
    assert not torch.equal(other.head.weight[:5], kept["head.weight"])
    config = timm.data.resolve_model_data_config(timm.create_model(f"local-dir:{out}"))
    assert (config["input_size"], config["crop_pct"], config["interpolation"]) == ((3, 32, 32), 0.8, "bicubic")


@pytest.mark.parametrize("model", ["custom", "deit_tiny_distilled_patch16_224", "deit_tiny_patch16_224"])
def test_a_run_comes_back_from_hugging_faces_folder(model: str, tmp_path: Path, monkeypatch: Any) -> None:
    run = student(tmp_path / "run", model, 48)
    monkeypatch.setattr("deit_pipe.stages.exporting.hugging_face_folder.find_spec", lambda name: None)
    result = exported(run, "huggingface")
    assert result.data["largest_difference"] == 0
    assert "transformers is not installed: the copy was checked by reading it back" in result.text
    facts, _, _ = answers(run)
    start = find_start(result.data["out"])
    assert (start.model, start.sizes, start.image_size, start.class_names) == (facts.model, facts.sizes, 48, NAMES)
    assert (start.mean, start.std, start.crop_ratio) == (facts.mean, facts.std, pytest.approx(0.8))
    said = json.loads((Path(result.data["out"]) / "config.json").read_text())
    assert said["layer_norm_eps"] == 1e-6
    assert said["id2label"]["1"] == "dög"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["custom", "deit_tiny_distilled_patch16_224", "deit_tiny_patch16_224"])
def test_the_printed_line_loads_hugging_faces_folder(model: str, tmp_path: Path, monkeypatch: Any) -> None:
    if not has_transformers():
        pytest.skip("transformers is not installed")
    student(tmp_path / "run", model, 48)
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:  # the copy is judged below, in a process without this one's warnings
        patch.setattr("deit_pipe.stages.exporting.hugging_face_folder.find_spec", lambda name: None)
        result = exported(Path("run"), "huggingface")
    _, pixels, expected = answers(Path("run"))
    torch.save((pixels, expected), tmp_path / "asked.pt")
    image = np.random.default_rng(0).integers(0, 255, (90, 60, 3), dtype=np.uint8)
    np.save(tmp_path / "image.npy", image)
    more = (
        SAME.format(answer="model(pixel_values=pixels).logits", exact=False)
        + "\nimport numpy as np\nfrom PIL import Image\n"
        + 'image = Image.fromarray(np.load("image.npy"))\n'
        + 'seen = processor(images=image, return_tensors="pt")["pixel_values"]\n'
        + "small = image.resize((60, 90), Image.Resampling.BICUBIC).crop((6, 21, 54, 69))\n"
        + "mean, std = (torch.tensor(value).view(3, 1, 1) for value in (processor.image_mean, processor.image_std))\n"
        + "right = (torch.tensor(np.asarray(small)).permute(2, 0, 1) / 255 - mean) / std\n"
        + "assert seen.shape == (1, 3, 48, 48) and (seen[0] - right).abs().max() < 0.05\n"
        + 'assert model.config.id2label[1] == "dög"\n'
    )
    runs(result.data["use"], more, tmp_path)


def test_another_architecture_is_no_deit_for_transformers(tmp_path: Path) -> None:
    run = student(tmp_path / "run", "deit3_small_patch16_224", 32)
    with pytest.raises(DeitPipeError, match="cannot be exported for transformers") as error:
        exported(run, "huggingface")
    assert error.value.exit_code == 4
    assert list((run / "export").iterdir()) == []


def test_the_printed_line_loads_the_graph_with_all_heads(tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    student(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    result = exported(Path("run"), "onnx", Path("graph"))
    _, model = load_student(Path("run"), CPU)
    pixels = torch.randn(5, 3, 32, 32)  # another batch size than the one it was traced with
    with torch.inference_mode():
        own, dist = heads(model, pixels)
    assert dist is not None
    np.savez(tmp_path / "asked.npz", pixels=pixels, fused=(own + dist) / 2, dist=dist, **{"class": own})
    more = (
        "import json, numpy as np\nasked = np.load('asked.npz')\nnames = ['fused', 'class', 'dist']\n"
        "assert [one.name for one in session.get_outputs()] == names\n"
        "for name, found in zip(names, session.run(names, {'pixels': asked['pixels']})):\n"
        "    assert abs(found - asked[name]).max() < 1e-4, name\n"
        "said = session.get_modelmeta().custom_metadata_map\n"
        f"assert json.loads(said['class_names']) == {list(NAMES)!r}\n"
        "assert json.loads(said['mean']) == [0.485, 0.456, 0.406] and len(json.loads(said['std'])) == 3\n"
    )
    runs(result.text.splitlines()[-1].removeprefix("use: "), more, tmp_path)
    assert "outputs fused, class, dist [batch, 5]" in result.text


def test_a_wrong_copy_is_refused_and_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = student(tmp_path / "run")
    monkeypatch.setitem(export.WRITERS, "timm", lambda *args: 0.5)
    with pytest.raises(DeitPipeError, match="answers otherwise") as error:
        exported(run, "timm", tmp_path / "out")
    assert error.value.exit_code == 5
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_sums_vouch_for_a_folder_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    out = Path(exported(student(tmp_path / "run"), "timm").data["out"])
    done = subprocess.run(["sha256sum", "--check", "SUMS"], cwd=out, capture_output=True, text=True, check=False)
    assert done.stdout == "README.md: OK\nconfig.json: OK\nmodel.safetensors: OK\n"
    (out / "config.json").write_text((out / "config.json").read_text().replace("0.8", "0.9"))
    with pytest.raises(DeitPipeError, match=r"config\.json is not the file that was written"):
        find_start(str(out))


def test_an_earlier_export_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    run, out = student(tmp_path / "run"), tmp_path / "out"
    exported(run, "timm", out)
    exported(run, "huggingface", out)
    assert {path.name for path in out.iterdir()} == {
        *("README.md", "SUMS", "config.json", "model.safetensors", "preprocessor_config.json")
    }
    (out / "notes.txt").write_text("mine")
    with pytest.raises(DeitPipeError, match=r"holds notes\.txt, which is not exported") as error:
        exported(run, "timm", out)
    assert error.value.exit_code == 2
    (out / "notes.txt").unlink()
    (out / "README.md").write_text("a better card")
    with pytest.raises(DeitPipeError, match=r"holds README\.md, which is changed since it was exported"):
        exported(run, "timm", out)
    assert (out / "README.md").read_text() == "a better card"


@pytest.mark.parametrize("name", ["s.safetensors", "s.onnx"])
def test_the_name_of_a_file_gets_the_name_of_a_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(DeitPipeError, match="names a file") as error:
        exported(student(tmp_path / "run"), "timm", tmp_path / name)
    assert str(error.value).endswith(f"--out {tmp_path}/s")
    assert error.value.exit_code == 2
