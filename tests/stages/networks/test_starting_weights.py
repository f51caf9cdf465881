"""Whatever a student can start from ends in the same weights; what was taken, resized and made new is said."""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from stage_fakes import cache_options, student_options
from torch import Tensor, nn

from deit_pipe import DeitPipeError
from deit_pipe.stages import cache_teacher, evaluate, export, train_student
from deit_pipe.stages.console.errors import Mismatch, Missing, UsageProblem
from deit_pipe.stages.networks.adapted_weights import start_from
from deit_pipe.stages.networks.naming.hugging_face import in_their_names
from deit_pipe.stages.networks.starting_weights import find_start, is_run
from deit_pipe.stages.networks.student import StudentFacts, build_student, describe_student, read_facts
from deit_pipe.stages.networks.weights import digest
from deit_pipe.stages.options.evaluate import EvaluateOptions
from deit_pipe.stages.options.export import ExportOptions

DEIT = "deit_tiny_distilled_patch16_224"
TAG = f"{DEIT}.fb_in1k"
STILL: dict[str, Any] = {
    "epochs": 1,
    "lr": 0.0,
    "min_lr": 0.0,
    "warmup_lr": 0.0,
    "warmup_epochs": 0,
    "weight_decay": 0.0,
    "student": None,
}


def facts(model: str = DEIT, size: int = 32, classes: int = 4) -> StudentFacts:
    names = tuple(f"{number}" for number in range(classes))
    return describe_student(model, image_size=size, class_names=names, crop_ratio=1.0, drop_path=0.0)


def network(seed: int = 1, **settings: Any) -> nn.Module:
    torch.manual_seed(seed)
    model: nn.Module = timm.create_model(DEIT, **settings)
    return model


def contiguous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in state.items()}


def loaded(start: str, described: StudentFacts, student: str | None = None) -> tuple[dict[str, Tensor], str]:
    torch.manual_seed(7)
    model = build_student(described)
    taken = start_from(model, described, find_start(start, student))
    return model.state_dict(), "\n".join(taken.lines)


@pytest.fixture
def official(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """A checkpoint as facebookresearch/deit writes it: 1,000 classes at 224 px."""
    state = network().state_dict()
    path = tmp_path / f"{DEIT}-b40b3cf7.pth"
    torch.save({"model": state, "epoch": 299, "args": argparse.Namespace(model=DEIT)}, path)
    return path, state


# -- weights files


def test_an_official_checkpoint_says_by_its_name_whose_it_is(official: tuple[Path, dict[str, Tensor]]) -> None:
    path, old = official
    assert find_start(str(path)).model == DEIT
    new, said = loaded(str(path), facts())
    assert torch.equal(new["blocks.5.attn.qkv.weight"], old["blocks.5.attn.qkv.weight"])
    assert torch.equal(new["dist_token"], old["dist_token"])
    assert new["head.weight"].shape == (4, 192)
    assert "position embeddings 14x14 -> 2x2 (bicubic, 2 prefix tokens kept)" in said
    assert "new heads: 1000 classes -> 4 other classes" in said
    assert f"weights of {path} (file, {DEIT}, sha256 {digest(old)[:12]})" in said
    assert f"{len(old) - 4} tensors taken" in said


def test_heads_of_as_many_classes_are_taken_and_that_is_said(official: tuple[Path, dict[str, Tensor]]) -> None:
    path, old = official
    new, said = loaded(str(path), facts(size=224, classes=1000))
    assert all(torch.equal(new[name], old[name]) for name in old)
    assert "heads taken: as many classes, 1,000" in said
    assert "new" not in said


def test_a_file_that_does_not_say_whose_it_is_needs_student(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(contiguous(network(img_size=32, num_classes=4).state_dict()), path)
    with pytest.raises(UsageProblem, match="does not say which student") as error:
        find_start(str(path))
    assert "--student" in str(error.value)
    new, _ = loaded(str(path), facts(), student=DEIT)
    assert torch.equal(new["head.weight"], load_file(path)["head.weight"])


def test_deit3s_own_names_are_understood(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = timm.create_model("deit3_small_patch16_224", img_size=32, num_classes=4).state_dict()
    named = {name.replace(".ls1.gamma", ".gamma_1").replace(".ls2.gamma", ".gamma_2"): v for name, v in state.items()}
    assert named.keys() != state.keys()
    path = tmp_path / "deit3_small_patch16_224.pth"
    torch.save({"model": named}, path)
    new, _ = loaded(str(path), facts("deit3_small_patch16_224"))
    assert all(torch.equal(new[name], state[name]) for name in state)


def test_another_familys_own_names_are_translated_by_timm(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = timm.create_model("efficientformer_l1", num_classes=4).state_dict()
    translate = [("stem.conv1.", "patch_embed.0."), ("stem.norm1.", "patch_embed.1."), ("head_dist", "dist_head")]
    assert any("stem.conv1" in name for name in state)
    named = dict(state)
    for ours, theirs in translate[2:]:
        named = {name.replace(ours, theirs): value for name, value in named.items()}
    path = tmp_path / "other.pth"
    torch.save(named, path)
    described = facts("efficientformer_l1", 224)
    with pytest.raises(DeitPipeError):  # most names are timm's, so nothing is translated behind one's back
        loaded(str(path), described, student="efficientformer_l1")
    again = tmp_path / "efficientformer_l1.pth"
    torch.save({"model": state}, again)
    new, _ = loaded(str(again), described)
    assert all(torch.equal(new[name], state[name]) for name in state)


def test_pits_map_of_positions_is_resized(tmp_path: Path) -> None:
    torch.manual_seed(0)
    old = timm.create_model("pit_ti_distilled_224", num_classes=4).state_dict()
    path = tmp_path / "pit_ti_distilled_224.safetensors"
    save_file(contiguous(old), path)
    new, said = loaded(str(path), facts("pit_ti_distilled_224", 64))
    assert new["pos_embed"].shape != old["pos_embed"].shape
    assert "position embeddings 27x27 -> 7x7 (bicubic)" in said
    assert torch.equal(new["head_dist.weight"], old["head_dist.weight"])


# -- timm's tags


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """A hub that has one tag's weights."""
    state = network(seed=3).state_dict()

    def published(tag: str, cure: str | None = None) -> nn.Module:
        if tag != TAG:
            raise Missing(f"the weights of {tag} are not here", cure=cure)
        return network(seed=3)

    monkeypatch.setattr("deit_pipe.stages.networks.starting_weights.hub_weights", published)
    return state


@pytest.mark.parametrize(
    ("name", "student"), [(TAG, None), (DEIT, None), ("pretrained", None), ("pretrained", DEIT), ("pretrained", TAG)]
)
def test_a_tag_names_student_and_weights(name: str, student: str | None, hub: dict[str, Tensor]) -> None:
    start = find_start(name, student)
    assert (start.model, start.tag, start.image_size, start.num_classes) == (DEIT, TAG, 224, 1000)
    new, said = loaded(name, facts(), student)
    assert torch.equal(new["blocks.0.norm1.weight"], hub["blocks.0.norm1.weight"])
    assert torch.equal(new["dist_token"], hub["dist_token"])
    assert f"({TAG}, sha256 {digest(hub)[:12]})" in said


@pytest.mark.parametrize(
    ("name", "student", "kind", "says"),
    [
        ("runs/nothing", None, Missing, "no such file or folder, and timm has no model of that name"),
        ("deit_tinny_distilled_patch16_224", None, Missing, f"nearest in timm: {DEIT}"),
        (f"{DEIT}.fb_in22k", None, UsageProblem, "has no weights 'fb_in22k'"),
        ("pretrained", "custom:64x3x2", UsageProblem, "no published weights of --student custom:64x3x2"),
        ("pretrained", "deit_tinny", UsageProblem, "has no model 'deit_tinny'"),
    ],
)
def test_names_that_are_nothing(name: str, student: str | None, kind: type[DeitPipeError], says: str) -> None:
    with pytest.raises(kind) as error:
        find_start(name, student)
    assert says in str(error.value)


# -- runs and their exports


@pytest.fixture(scope="module")
def run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, its export for timm, and one as version 0.2 wrote it: a file with a description beside it."""
    folder = tmp_path_factory.mktemp("run") / "run"
    train_student.run(student_options(cache, folder))
    export.run(ExportOptions(run=str(folder)))
    facts = read_facts(folder)
    said = {
        "architecture": "VisionTransformerDistilled",
        "model_args": {"num_classes": facts.num_classes, "img_size": facts.image_size, **facts.sizes},
        "class_names": facts.class_names,
        "mean": facts.mean,
        "std": facts.std,
        "crop_ratio": facts.crop_ratio,
    }
    (folder / "old").mkdir()
    (folder / "old" / "student.json").write_text(json.dumps(said))
    shutil.copy(folder / "student.safetensors", folder / "old")
    return folder


@pytest.mark.parametrize(
    "place",
    [
        *("", "student.safetensors", "best.safetensors", "old", "old/student.safetensors"),
        *("export/timm", "export/timm/model.safetensors"),
    ],
)
def test_a_run_its_files_and_its_export_give_its_student(
    place: str, run: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, of_export = run / place, place.startswith(("old", "export"))
    kept = load_file(run / ("best.safetensors" if place == "best.safetensors" else "student.safetensors"))
    train_student.run(student_options(cache, tmp_path / "second", init_from=str(source), **STILL))
    ended = load_file(tmp_path / "second" / "student.safetensors")
    assert all(torch.equal(value, ended[name]) for name, value in kept.items())
    config = json.loads((tmp_path / "second" / "config.json").read_text())
    assert config["init_sha256"] == digest(kept)
    assert config["init_tag"] == ("export, custom" if of_export else "run, custom")
    assert config["preset"] == "finetune"
    assert f"sha256 {digest(kept)[:12]}" in capsys.readouterr().err


def test_other_weights_under_the_same_name_are_another_run(cache: Path, run: Path, tmp_path: Path) -> None:
    source = tmp_path / "student.safetensors"
    (tmp_path / "student.json").write_bytes((run / "old" / "student.json").read_bytes())
    state = load_file(run / "student.safetensors")
    save_file(state, source)
    options = student_options(cache, tmp_path / "second", init_from=str(source), **STILL)
    train_student.run(options)
    assert "nothing to do" in train_student.run(options).text
    save_file({name: value + 1 for name, value in state.items()}, source)
    with pytest.raises(Mismatch, match=r"init-sha256: there [0-9a-f]{64}   given [0-9a-f]{64}"):
        train_student.run(options)


@pytest.mark.parametrize("place", ["old/student.safetensors", "export/timm"])
def test_evaluate_takes_the_same_names(place: str, run: Path, data: Path) -> None:
    own = evaluate.run(EvaluateOptions(run=str(run), device="cpu", workers=0)).data
    other = EvaluateOptions(run=str(run / place), data=str(data), device="cpu", workers=0, split="test")
    found = evaluate.run(other).data
    assert found["scores"] == own["scores"]
    assert found["images"] == 32


def test_evaluate_needs_images_for_weights_that_are_no_runs(run: Path) -> None:
    with pytest.raises(UsageProblem, match="nothing says which images") as error:
        evaluate.run(EvaluateOptions(run=str(run / "export/timm"), device="cpu"))
    assert "--data" in str(error.value)


def test_evaluate_refuses_weights_of_other_classes(official: tuple[Path, dict[str, Tensor]], data: Path) -> None:
    with pytest.raises(Mismatch, match="does not answer with the classes") as error:
        evaluate.run(EvaluateOptions(run=str(official[0]), data=str(data), device="cpu", workers=0))
    assert "got       1,000 classes" in str(error.value)


def test_a_folder_is_a_run_unless_it_is_something_else(run: Path, tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text('{"model_type": "deit"}')
    (tmp_path / "begun").mkdir()
    assert [
        is_run(str(place)) for place in (run, run / "export/timm", tmp_path / "begun", run / "student.safetensors")
    ] == [
        True,
        False,
        True,
        False,
    ]
    with pytest.raises(Missing, match="holds no trained student"):
        find_start(str(tmp_path / "begun"))
    with pytest.raises(DeitPipeError, match=r"config.json cannot be read: KeyError: 'hidden_size'"):
        find_start(str(tmp_path / "hf"))


def test_a_student_that_follows_from_a_tag_learns(
    hub: dict[str, Tensor], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way: new heads, preset transfer, the student of the tag, recorded."""
    cache_teacher.run(cache_options(data, tmp_path / "cache", epochs=1))
    done = train_student.run(
        student_options(tmp_path / "cache", tmp_path / "run", init_from=TAG, student=None, epochs=2)
    ).data
    assert done["student"] == DEIT
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["init_tag"], config["init_sha256"], config["preset"]) == (TAG, digest(hub), "transfer")
    said = capsys.readouterr().err
    assert "position embeddings 14x14 -> 2x2" in said
    assert "new heads: 1000 classes -> 4 other classes" in said


def test_as_many_other_classes_get_new_heads(run: Path) -> None:
    """The run's four classes have names, and these are others: its heads would answer nonsense."""
    described = describe_student(
        "custom", image_size=32, class_names=tuple("wxyz"), crop_ratio=1.0, drop_path=0.0, width=16, depth=2, heads=2
    )
    new, said = loaded(str(run / "export/timm"), described)
    old = load_file(run / "student.safetensors")
    assert not torch.equal(new["head.weight"], old["head.weight"])
    assert torch.equal(new["blocks.1.mlp.fc1.weight"], old["blocks.1.mlp.fc1.weight"])
    assert "new heads: 4 classes -> 4 other classes" in said


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("./student-run", "holds no trained student: student.json is not there"),
        ("deit_tinny_distilled_patch16_224", f"nearest in timm: {DEIT}"),
    ],
)
def test_evaluate_says_what_is_not_there(name: str, says: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Missing) as error:
        evaluate.run(EvaluateOptions(run=name, data="digits", device="cpu"))
    assert says in str(error.value)


def test_a_file_with_hugging_faces_names_keeps_its_heads(tmp_path: Path) -> None:
    old = contiguous(network(img_size=32, num_classes=4).state_dict())
    path = tmp_path / "pytorch_model.bin"
    torch.save(in_their_names(old, two_heads=True), path)
    new, said = loaded(str(path), facts(), student=DEIT)
    assert all(torch.equal(new[name], old[name]) for name in old)
    assert "heads taken: as many classes, 4" in said
