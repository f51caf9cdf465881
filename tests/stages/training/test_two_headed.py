"""Every family of timm with a distillation head is trained through both heads, from the cache as with the teacher."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from stage_fakes import cache_options, student_options
from two_processes import run_on_two, share_on_rank

from deit_pipe.stages import cache_teacher, evaluate, export, train_student
from deit_pipe.stages.machine.distributed import Processes
from deit_pipe.stages.networks.adapted_weights import start_from
from deit_pipe.stages.networks.starting_weights import find_start
from deit_pipe.stages.networks.student import build_student, describe_student, takes
from deit_pipe.stages.networks.two_heads import has_two_heads, head_names, heads
from deit_pipe.stages.options.evaluate import EvaluateOptions
from deit_pipe.stages.options.export import ExportOptions

# A family's smallest, at the smallest side it takes here; the first two run by default, the others take minutes.
FAMILIES = [
    ("repvit_m0_9", 32),
    ("pit_ti_distilled_224", 32),
    ("levit_128s", 64),
    ("swiftformer_xs", 32),
    ("efficientformerv2_s0", 64),
    ("efficientvim_m1_dist", 64),
    ("iformer_m_distilled", 64),
    ("efficientformer_l1", 224),
    ("deit_tiny_distilled_patch16_224", 32),
]
SLOW = [pytest.param(*family, marks=pytest.mark.slow) for family in FAMILIES[2:]]
ONE_HEADED = ["levit_256d", "pit_ti_224", "iformer_t", "efficientvim_m1", "test_vit", "resnet10t"]


def known(model: str) -> str:
    """The model, where this timm has it; its older versions lack some families."""
    if not timm.is_model(model):
        pytest.skip(f"timm {timm.__version__} has no {model}")
    return model


def student(model: str, size: int) -> torch.nn.Module:
    known(model)
    torch.manual_seed(0)
    rate = 0.1 if takes(model, drop_path_rate=0.1) else 0.0
    described = describe_student(model, image_size=size, class_names=tuple("abcd"), crop_ratio=1.0, drop_path=rate)
    return build_student(described)


@pytest.mark.parametrize(("model", "size"), FAMILIES)
def test_both_heads_are_read_in_any_mode(model: str, size: int) -> None:
    network = student(model, size)
    assert has_two_heads(network)
    pixels = torch.randn(4, 3, size, size)
    network.train()
    with torch.no_grad():
        first, second = network(pixels)  # timm gives both in training
    assert first.shape == second.shape == (4, 4)
    network.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    with torch.no_grad():
        class_logits, dist_logits = heads(network, pixels)
        assert dist_logits is not None
        torch.testing.assert_close((class_logits + dist_logits) / 2, network(pixels), rtol=1e-6, atol=1e-6)
    assert not torch.equal(class_logits, dist_logits)
    # looking at both changes nothing: no statistics, no mode
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes


@pytest.mark.parametrize("model", ONE_HEADED)
def test_models_without_the_head_are_told_apart(model: str) -> None:
    with torch.device("meta"):
        assert not has_two_heads(timm.create_model(known(model), num_classes=4))


def test_every_family_of_timm_is_known() -> None:
    """A model of timm with a distillation head by its name, or by what it answers in training, is found."""
    named = [name for name in timm.list_models("*dist*") if "distill" in name or name.endswith("_dist")]
    assert len(named) > 10
    with torch.device("meta"):
        for name in named:
            assert has_two_heads(timm.create_model(name, num_classes=2)), name


@pytest.mark.parametrize(("model", "count"), [("repvit_m0_9", 1), ("levit_128s", 2), ("test_vit", 1)])
def test_heads_are_found_by_name(model: str, count: int) -> None:
    with torch.device("meta"):
        network = timm.create_model(model, num_classes=4)
    names = head_names(network)
    assert len(names) == count
    assert all(name.startswith("head") for name in names)


@pytest.fixture(scope="module")
def caches(data: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache and one that is only planned, for views of a side; made when they are asked for."""
    made: dict[int, tuple[Path, Path]] = {}

    def of(size: int) -> tuple[Path, Path]:
        if size not in made:
            root = tmp_path_factory.mktemp(f"px{size}")
            for name, planned in (("full", False), ("planned", True)):
                options = cache_options(data, root / name, recipe=str(recipe), img_size=size, plan_only=planned)
                cache_teacher.run(options)
            made[size] = root / "full", root / "planned"
        return made[size]

    return of


@pytest.mark.parametrize(("model", "size"), [*FAMILIES[:2], *SLOW])
def test_cached_equals_online_through_both_heads(model: str, size: int, caches: Any, tmp_path: Path) -> None:
    """24 steps, with drop path where there is any; running statistics of batch normalisation are compared too."""
    known(model)
    full, planned = caches(size)
    how: dict[str, Any] = {"student": model, "batch_size": 4, "preset": "deit", "warmup_epochs": 0, "epochs": 1}
    result = train_student.run(student_options(full, tmp_path / "cached", **how))
    train_student.run(student_options(planned, tmp_path / "online", online_teacher=True, **how))
    cached, online = (load_file(tmp_path / name / "student.safetensors") for name in ("cached", "online"))
    assert cached.keys() == online.keys()
    assert [name for name in cached if not torch.equal(cached[name], online[name])] == []
    assert result.data["steps"] == 24
    assert set(result.data["val"]) == {"class", "dist", "fused", "fused_softmax"}
    fresh = student(model, size).state_dict()
    moved = {name for name in fresh if not torch.equal(fresh[name], cached[name])}
    assert any("dist" in name for name in moved)


def test_a_size_that_a_fixed_model_cannot_see_is_refused() -> None:
    with pytest.raises(Exception, match="efficientformer_l1 cannot be built for 64 px images") as error:
        student("efficientformer_l1", 64)
    assert "it takes images of 224 px only" in str(error.value)
    assert student("swiftformer_xs", 64) is not None  # timm calls its size fixed; it is not


def test_processes_are_given_the_first_ones_statistics(cache: Path, tmp_path: Path) -> None:
    """Batch normalisation on two CPU processes: what is measured is what is kept."""
    run = tmp_path / "run"
    run_on_two(train_student.run, student_options(cache, run, student="test_efficientnet", epochs=1, batch_size=48))
    result = json.loads((run / "result.json").read_text())
    alone = evaluate.run(EvaluateOptions(run=str(run), device="cpu", workers=0)).data
    assert alone["scores"] == result["val"]


def test_shared_values_are_rank_0s(tmp_path: Path) -> None:
    run_on_two(share_on_rank, tmp_path)
    assert [(tmp_path / name).read_text() for name in ("0", "1")] == ["1.0", "1.0"]
    alone = torch.ones(1)
    Processes(0, 1, torch.device("cpu")).share([alone])
    assert float(alone) == 1.0


@pytest.mark.parametrize(
    ("model", "size"),
    [("levit_128s", 64), ("efficientformerv2_s0", 64), ("repvit_m0_9", 32), ("deit_tiny_distilled_patch16_224", 32)],
)
def test_an_export_loads_with_the_printed_line_and_is_started_from(model: str, size: int, tmp_path: Path) -> None:
    """At the run's own image size, which is not the model's."""
    run, network = tmp_path / "run", student(model, size)
    described = describe_student(model, image_size=size, class_names=tuple("abcd"), crop_ratio=1.0, drop_path=0.0)
    run.mkdir()
    (run / "student.json").write_text(json.dumps(described.to_json()))
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, run / "student.safetensors")
    done = export.run(ExportOptions(run=str(run)))
    line = done.text.splitlines()[-1].removeprefix("use: ")
    names: dict[str, Any] = {}
    exec(line, names)
    copy = names["model"]
    start = find_start(str(run / "export" / "timm"))
    assert (start.model, start.image_size) == (model, size)
    again = build_student(described)
    assert start_from(again, described, start).new_heads == ()
    pixels = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        expected = network.eval()(pixels)
        assert torch.equal(copy(pixels), expected)
        assert torch.equal(again.eval()(pixels), expected)
