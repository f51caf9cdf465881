import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from deit_pipe.stages.console.errors import Mismatch, Missing, UsageProblem
from deit_pipe.stages.networks.adapted_weights import start_from
from deit_pipe.stages.networks.file_names import STUDENT_FACTS, STUDENT_WEIGHTS
from deit_pipe.stages.networks.student import (
    StudentFacts,
    build_student,
    describe_student,
    load_student,
)
from deit_pipe.stages.networks.two_heads import heads

CLASSES = tuple("abcd")
THOUSAND = tuple(str(number) for number in range(1000))


def facts(model: str = "custom", size: int = 32, names: tuple[str, ...] = CLASSES) -> StudentFacts:
    return describe_student(
        model, image_size=size, class_names=names, crop_ratio=1.0, drop_path=0.0, width=16, depth=2, heads=2
    )


def write_run(folder: Path, described: StudentFacts, model: torch.nn.Module) -> Path:
    folder.mkdir()
    (folder / STUDENT_FACTS).write_text(json.dumps(described.to_json()))
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / STUDENT_WEIGHTS)
    return folder


@pytest.mark.parametrize(
    ("model", "millions"),
    [
        ("deit_tiny_distilled_patch16_224", 5_910_800),
        ("deit_small_distilled_patch16_224", 22_436_432),
        ("deit_base_distilled_patch16_224", 87_338_192),
    ],
)
def test_published_students_have_the_published_sizes(model: str, millions: int) -> None:
    with torch.device("meta"):
        student = build_student(facts(model, 224, THOUSAND))
    assert sum(parameter.numel() for parameter in student.parameters()) == millions


def test_training_returns_both_heads_and_evaluation_their_mean() -> None:
    torch.manual_seed(0)
    student = build_student(facts())
    pixels = torch.randn(3, 3, 32, 32)
    student.train()
    class_logits, dist_logits = student(pixels)
    student.eval()
    alone = heads(student, pixels)
    assert alone[1] is not None
    torch.testing.assert_close(class_logits, alone[0])
    torch.testing.assert_close(dist_logits, alone[1])
    torch.testing.assert_close(student(pixels), (alone[0] + alone[1]) / 2)


def test_a_student_without_distillation_token_has_one_head() -> None:
    student = build_student(facts("vit_tiny_patch16_224", 224))
    class_logits, dist_logits = heads(student.eval(), torch.randn(1, 3, 224, 224))
    assert class_logits.shape == (1, 4)
    assert dist_logits is None


def test_timm_loads_the_student_file_and_gives_the_same_logits(tmp_path: Path) -> None:
    described = facts("deit_tiny_distilled_patch16_224", 224)
    torch.manual_seed(0)
    run = write_run(tmp_path / "run", described, build_student(described))
    theirs = timm.create_model(
        "deit_tiny_distilled_patch16_224", num_classes=4, checkpoint_path=str(run / STUDENT_WEIGHTS)
    ).eval()
    _, ours = load_student(run, torch.device("cpu"))
    pixels = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(pixels), ours(pixels), rtol=0, atol=0)


def test_higher_resolution_keeps_both_prefix_tokens(tmp_path: Path) -> None:
    small, large = (
        facts("deit_tiny_distilled_patch16_224", 224),
        facts("deit_tiny_distilled_patch16_224", 384),
    )
    torch.manual_seed(0)
    old = build_student(small)
    y, x = torch.meshgrid(torch.arange(14.0), torch.arange(14.0), indexing="ij")
    waves = torch.stack([torch.sin(0.3 * y * k / 192 + 0.2 * x + k) for k in range(192)], dim=-1)
    with torch.no_grad():  # smooth over the grid, as trained embeddings are
        old.pos_embed[0, 2:] = waves.reshape(196, 192)  # type: ignore[operator, index]
    run = write_run(tmp_path / "run", small, old)
    new = build_student(large)
    said = start_from(new, large, run).lines
    before, after = old.state_dict()["pos_embed"], new.state_dict()["pos_embed"]
    assert before.shape[1] == 14 * 14 + 2
    assert after.shape[1] == 24 * 24 + 2
    assert torch.equal(before[:, :2], after[:, :2])
    assert torch.equal(old.state_dict()["blocks.3.mlp.fc1.weight"], new.state_dict()["blocks.3.mlp.fc1.weight"])
    assert any("14x14 -> 24x24" in line for line in said)
    # bicubic without shrinking the vectors, which bilinear does (paper, section 4)
    assert after[:, 2:].norm(dim=-1).mean() > 0.97 * before[:, 2:].norm(dim=-1).mean()
    # and back again
    back = build_student(small)
    again = write_run(tmp_path / "again", large, new)
    start_from(back, small, again)
    drift = (back.state_dict()["pos_embed"][:, 2:] - before[:, 2:]).norm() / before[:, 2:].norm()
    assert drift < 0.03


def test_other_classes_get_new_heads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    old_facts, new_facts = facts(), facts(names=("x", "y", "z"))
    run = write_run(tmp_path / "run", old_facts, build_student(old_facts))
    student = build_student(new_facts)
    fresh = student.state_dict()["head.weight"].clone()
    said = start_from(student, new_facts, run).lines
    assert torch.equal(student.state_dict()["head.weight"], fresh)
    assert any("new heads" in line for line in said)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"patch_size": 7}, "patches cannot see 32 px"),
        ({"heads": 3}, "cannot be shared by 3 heads"),
        ({"model": "deit_tinny_distilled_patch16_224"}, "deit_tiny_distilled_patch16_224"),
        ({"model": "deit_tiny_distilled_patch16_224", "image_size": 230}, "cannot be built for 230 px"),
    ],
)
def test_a_size_the_image_cannot_have_is_refused_with_the_cure(changed: dict[str, object], text: str) -> None:
    arguments: dict[str, object] = {
        "model": "custom",
        "image_size": 32,
        "class_names": CLASSES,
        "crop_ratio": 1.0,
        "drop_path": 0.0,
        "width": 16,
        "heads": 2,
    }
    arguments |= changed
    model = arguments.pop("model")
    with pytest.raises(UsageProblem) as error:
        build_student(describe_student(model, **arguments))  # type: ignore[arg-type]
    assert text in str(error.value)


def test_a_folder_without_student_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="train one with"):
        load_student(tmp_path, torch.device("cpu"))


def test_deit3_students_have_its_layer_scale_and_its_constant_drop_path() -> None:
    described = describe_student(
        "deit3_small_patch16_224", image_size=32, class_names=CLASSES, crop_ratio=1.0, drop_path=0.2
    )
    model = build_student(described)
    assert float(model.blocks[0].ls1.gamma[0].detach()) == pytest.approx(1e-4)  # type: ignore[index, union-attr]
    rates = {block.drop_path1.drop_prob for block in model.blocks}  # type: ignore[union-attr]
    assert rates == {0.2}


def test_deit3_embeddings_without_class_entry_are_resampled(tmp_path: Path) -> None:
    small, large = facts("deit3_small_patch16_224", 32), facts("deit3_small_patch16_224", 64)
    run = write_run(tmp_path / "run", small, build_student(small))
    model = build_student(large)
    assert any("2x2 -> 4x4" in line for line in start_from(model, large, run).lines)


def test_another_architecture_is_refused_with_the_cure(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", facts(), build_student(facts()))
    other = facts("resnet18")
    with pytest.raises(Mismatch, match="--student custom"):
        start_from(build_student(other), other, run)
