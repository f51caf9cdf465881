"""--loss none learns from labels: the planned cache is all it needs; what is committed is still compared."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stage_fakes import cache_options, student_options, write_idx

from deit_pipe.stages import cache_teacher, train_student
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.networks.student import build_student, read_student
from deit_pipe.store.errors import CacheIncomplete
from deit_pipe.store.removal import remove_teacher


def same(one: Path, two: Path) -> bool:
    a, b = (load_file(run / "student.safetensors") for run in (one, two))
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, data: Path, recipe: Path) -> Path:
    place = tmp_path_factory.mktemp("planned") / "cache"
    cache_teacher.run(cache_options(data, place, recipe=str(recipe), plan_only=True))
    return place


def test_a_planned_cache_gives_the_weights_of_a_complete_one(
    planned: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {"loss": "none", "epochs": 3}
    complete = train_student.run(student_options(cache, tmp_path / "complete", **given))
    assert "compared with nothing" not in capsys.readouterr().err
    bare = train_student.run(student_options(planned, tmp_path / "planned", **given))
    assert "no teacher in" in (said := capsys.readouterr().err)
    assert "its views are compared with nothing" in said
    assert same(tmp_path / "complete", tmp_path / "planned")
    assert bare.data["val"] == complete.data["val"]
    lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("complete", "planned")]
    assert ["agreement" in text for text in lines] == [True, False]  # there is nobody to agree with


def test_the_other_losses_still_need_the_teacher(planned: Path, tmp_path: Path) -> None:
    with pytest.raises(CacheIncomplete):
        train_student.run(student_options(planned, tmp_path / "run", loss="hard"))


def test_not_even_a_teacher_is_needed_and_each_epoch_has_its_own_views(tmp_path: Path) -> None:
    data, place = write_idx(tmp_path / "data"), tmp_path / "cache"
    cache_teacher.run(cache_options(data, place, recipe="small", name="t", plan_only=True, epochs=4))
    train_student.run(student_options(place, tmp_path / "with", loss="none", epochs=4))
    remove_teacher(place, "t")
    values = train_student.run(student_options(place, tmp_path / "x", loss="none", epochs=4, print_config=True)).data
    assert (values["teacher"], values["teacher_digests"], values["cached_epochs"]) == ("", [], 4)
    train_student.run(student_options(place, tmp_path / "without", loss="none", epochs=4))
    assert same(tmp_path / "with", tmp_path / "without")


def test_a_complete_teacher_is_preferred_and_its_fingerprints_are_compared(tmp_path: Path) -> None:
    data, place = write_idx(tmp_path / "data"), tmp_path / "cache"
    for name, only in (("a", True), ("b", False)):
        cache_teacher.run(cache_options(data, place, recipe="small", name=name, plan_only=only))
    run = student_options(place, tmp_path / "run", loss="none", print_config=True)
    assert train_student.run(run).data["teacher"] == "b"
    pixels = bytearray((data / "train-images-idx3-ubyte").read_bytes())
    pixels[16 + 300] ^= 0x40
    (data / "train-images-idx3-ubyte").write_bytes(bytes(pixels))
    with pytest.raises(Exception, match="replay differs"):
        train_student.run(student_options(place, tmp_path / "run", loss="none"))


def test_a_run_goes_on_although_its_teacher_was_completed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, place = write_idx(tmp_path / "data"), tmp_path / "cache"
    for name in ("a", "b"):
        cache_teacher.run(cache_options(data, place, recipe="small", name=name, plan_only=True))
    original = train_student.Fit._stop_if_asked

    def cutting(self: Any, stop: Any) -> None:
        if self.position.total == 7:
            raise KeyboardInterrupt
        original(self, stop)

    with monkeypatch.context() as patch:
        patch.setattr(train_student.Fit, "_stop_if_asked", cutting)
        with pytest.raises(KeyboardInterrupt):
            train_student.run(student_options(place, tmp_path / "cut", loss="none"))
    cache_teacher.run(cache_options(data, place, recipe="small", name="b"))
    assert train_student.run(student_options(place, tmp_path / "cut", loss="none")).data["steps"] == 12


# -- images without labels


@pytest.mark.parametrize(
    ("given", "asked"), [({"loss": "none"}, "--loss none"), ({"alpha": 0.0}, "--loss hard --set alpha=0")]
)
def test_a_loss_of_labels_alone_is_refused_where_images_have_none(
    given: dict[str, Any], asked: str, data: Path, tmp_path: Path
) -> None:
    place = tmp_path / "cache"
    cache_teacher.run(cache_options(data, place, recipe="small", epochs=1, labelled_fraction=20 / 96))
    with pytest.raises(Mismatch) as error:
        train_student.run(student_options(place, tmp_path / "run", **given))
    assert str(error.value).startswith(f"{asked} learns from labels only, and 76 of the 96 training images")
    assert "--loss hard" in str(error.value).splitlines()[-1]
    assert not (tmp_path / "run" / "config.json").exists()
    done = train_student.run(student_options(place, tmp_path / "run", epochs=1))
    assert done.data["steps"] == 6


@pytest.mark.parametrize("term", ["ce", "bce"])
def test_without_any_label_only_the_teacher_teaches_and_its_head_is_the_result(
    term: str, data: Path, tmp_path: Path
) -> None:
    place, run = tmp_path / "cache", tmp_path / "run"
    cache_teacher.run(cache_options(data, place, recipe="deit", epochs=1, labelled_fraction=0.0))
    given: dict[str, Any] = {"label_loss": term, "smoothing": 0.0, "weight_decay": 0.0, "epochs": 2}
    done = train_student.run(student_options(place, run, preset="small", **given))
    assert done.data["answer"] == "dist"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(line["label_loss"] == 0 for line in lines)
    assert all(line["distillation_loss"] > 0 for line in lines)
    torch.manual_seed(0)
    fresh = build_student(read_student(run)[0]).state_dict()
    trained = load_file(run / "student.safetensors")
    assert torch.equal(trained["head.weight"], fresh["head.weight"])
    assert not torch.equal(trained["head_dist.weight"], fresh["head_dist.weight"])
