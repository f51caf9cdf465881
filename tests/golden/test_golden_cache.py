"""A cache that the command wrote in each format version stays readable, value by value, and every command opens it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden.regenerate_cache import TEACHERS
from golden.regenerate_run import SETTINGS, STEPS, STOPPED
from stage_fakes import student_options
from store_fakes import fill

from deit_pipe.stages import cache_teacher, inspect_cache, train_student
from deit_pipe.stages import report as run_report
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
from deit_pipe.stages.options.run_report import RunReportOptions
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.store.errors import CacheOld, FormatInvalid
from deit_pipe.store.identity import FORMAT_VERSION
from deit_pipe.store.ledger import coverage
from deit_pipe.store.manifest import list_teachers, read_manifest, read_samples, read_teacher
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.verify import verify

CACHES = sorted(Path(__file__).parent.glob("cache_v*/"))
NAMES = sorted(TEACHERS)
SAMPLES = 1437

# digests of the views and of each teacher, as they were recorded
DIGESTS = {
    "cache_v1": {
        "views": "79d6cf177d75c271c78677273a395ca733f2101d9b4c15a8408983208ad1b889",
        "dense": "0c1499f33258efb23450251189d03bba6d1fcd417b88bb682c40d539702aa68f",
        "none": "ae7ac4a98dd471708494c7c06579073df333a2646f03bb24681ce3a53028e70d",
        "topk-3": "43d772bc7af4c7ddd3c6172615a2da133cc7b04f63056f1b5236bd2cf558027a",
    },
    "cache_v2": {
        "views": "065dc9cc83e8d934e1567b3366772e70db51002184963cafa794924cbdbf030f",
        "dense": "0c1499f33258efb23450251189d03bba6d1fcd417b88bb682c40d539702aa68f",
        "none": "ae7ac4a98dd471708494c7c06579073df333a2646f03bb24681ce3a53028e70d",
        "topk-3": "43d772bc7af4c7ddd3c6172615a2da133cc7b04f63056f1b5236bd2cf558027a",
    },
    "cache_v3": {
        "views": "2a50b5b797264f63af0f79c3b9e8bf875829b67838b86f725ed82e118262024d",
        "dense": "0c1499f33258efb23450251189d03bba6d1fcd417b88bb682c40d539702aa68f",
        "none": "ae7ac4a98dd471708494c7c06579073df333a2646f03bb24681ce3a53028e70d",
        "topk-3": "43d772bc7af4c7ddd3c6172615a2da133cc7b04f63056f1b5236bd2cf558027a",
    },
}

each_earlier_cache = pytest.mark.parametrize("cache", CACHES[:-1], ids=lambda path: path.name)
each_cache = pytest.mark.parametrize("cache", CACHES, ids=lambda path: path.name)


def test_there_is_one_for_every_format_version() -> None:
    assert [cache.name for cache in CACHES] == [f"cache_v{version + 1}" for version in range(FORMAT_VERSION)]


def inspect(cache: Path, **changed: Any) -> Any:
    return inspect_cache.run(InspectCacheOptions(cache=str(cache), **changed))


@each_cache
def test_identities_are_the_ones_of_then(cache: Path) -> None:
    found = {"views": read_manifest(cache).digest} | {n: read_teacher(cache, n).digest for n in NAMES}
    assert found == DIGESTS[cache.name]
    assert list_teachers(cache) == NAMES
    assert read_samples(cache).keys[SAMPLES - 1] == "digit 1796"


@each_cache
@pytest.mark.parametrize("name", NAMES)
def test_every_value_reads_as_then(cache: Path, name: str) -> None:
    values = np.load(cache.with_suffix(".npz"))
    targets = TargetReader(cache, name).read(0, np.arange(SAMPLES))
    kept = [key for key in values.files if key.startswith(f"{name}/")]
    assert len(kept) == {"dense": 3, "none": 2, "topk-3": 5}[name]
    for key in kept:
        stored = getattr(targets, key.partition("/")[2])
        assert stored.dtype == values[key].dtype
        np.testing.assert_array_equal(stored, values[key])


@each_cache
def test_inspection_finds_it_whole_to_the_last_value(cache: Path) -> None:
    result = inspect(cache, verify="deep")
    assert (result.exit_code, result.data["state"], result.data["verified"]) == (0, "complete", "deep")
    assert {t["name"]: t["views"] for t in result.data["teachers"]} == dict.fromkeys(NAMES, SAMPLES)
    assert all(coverage(cache, name).sealed.all() for name in NAMES)


@each_cache
@pytest.mark.parametrize("name", NAMES)
def test_all_views_are_made_again(cache: Path, name: str) -> None:
    result = inspect(cache, replay="all", teacher=name)
    assert result.exit_code == 0
    assert (result.data["replay"]["checked"], result.data["replay"]["equal"]) == (SAMPLES, SAMPLES)


@each_cache
def test_its_page_shows_every_teacher(cache: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert inspect(cache, report=str(page)).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert all(name in text for name in NAMES)
    assert DIGESTS[cache.name]["views"][:12] in text


@each_cache
@pytest.mark.parametrize(
    ("name", "loss"), [("dense", {"loss": "soft", "tau": 2.0}), ("topk-3", {"loss": "soft", "tau": 3.0}), ("none", {})]
)
def test_a_student_learns_from_it_and_its_run_is_reported(
    cache: Path, name: str, loss: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = student_options(cache, run, teacher=name, epochs=1, batch_size=64, student="custom:16x1x2", **loss)
    train_student.run(options)  # compares every fingerprint
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "step"]
    assert len(losses) == SAMPLES // 64
    assert np.isfinite(losses).all()
    reported = run_report.run(RunReportOptions(run=str(run)))
    assert reported.data["run"]["epochs"] == 1
    assert (run / "report.html").stat().st_size > 1000


def written_anew(cache: Path, folder: Path) -> Path:
    """A copy that can be written: of an earlier format, its upgrade."""
    if cache == CACHES[-1]:
        return Path(shutil.copytree(cache, folder))
    result = inspect(cache, upgrade=str(folder))
    assert (result.data["copied"], result.data["blocks"]) == (18, 18)
    return folder


@each_earlier_cache
def test_it_is_copied_into_a_new_cache_without_its_teacher_and_the_same_command_goes_on(
    cache: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    written_anew(cache, new)
    for name in ("dense", "none"):  # as if it had been interrupted
        shutil.rmtree(new / "ledger" / name / "sealed")
    lost = new / "targets.zarr/none/teacher_label/c/0/3"
    lost.unlink()
    assert inspect(cache, upgrade=str(new)).data["copied"] == 1
    values = np.load(cache.with_suffix(".npz"))
    for name in NAMES:
        targets = TargetReader(new, name).read(0, np.arange(SAMPLES))
        for key in (key for key in values.files if key.startswith(f"{name}/")):
            np.testing.assert_array_equal(getattr(targets, key.partition("/")[2]), values[key])
    result = inspect(new, verify="deep", replay="all", teacher="dense")
    assert (result.exit_code, result.data["manifest"]["format_version"]) == (0, FORMAT_VERSION)
    assert result.data["replay"]["equal"] == SAMPLES
    assert inspect(new, diff=str(cache)).data["same_views"] is True
    with pytest.raises(FormatInvalid, match="is of format 3 already"):
        inspect(new, upgrade=str(tmp_path / "other"))


@each_earlier_cache
def test_it_is_not_written_any_more_and_the_message_names_the_one_command(cache: Path, tmp_path: Path) -> None:
    place = shutil.copytree(cache, tmp_path / "c")
    teacher = read_teacher(place, "topk-3")
    assert fill(place, teacher, 1) == []  # nothing to do is no writing
    path = sorted(p for p in (place / "targets.zarr/topk-3/topk_logp/c").rglob("*") if p.is_file())[0]
    cases = {"6 of 12 blocks": lambda: fill(place, teacher, 2), "cannot join": lambda: join(place)}
    for what, write in cases.items():
        with pytest.raises(CacheOld, match=f"not written any more: .*{what}") as caught:
            write()
        assert caught.value.exit_code == 4
        assert f"deit-pipe inspect-cache {place} --upgrade NEW" in str(caught.value)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CacheOld, match="topk_logp, epoch 0"):
        fill(place, teacher, 1)


@each_cache
def test_another_teacher_joins_its_views(cache: Path, tmp_path: Path) -> None:
    place = written_anew(cache, tmp_path / "c")
    assert join(place).data["written"] == 6
    slots = np.arange(SAMPLES)
    late, old = (TargetReader(place, name).read(0, slots) for name in ("late", "none"))
    np.testing.assert_array_equal(late.fingerprint, old.fingerprint)
    assert inspect(place, diff=str(cache)).data["same_views"] is True


def join(place: Path) -> Any:
    options = CacheTeacherOptions(
        teacher="test_resnet",
        teacher_weights="random",
        recipe="deit",
        img_size=32,
        epochs=1,
        seed=7,
        logits="none",
        name="late",
        cache=str(place),
        device="cpu",
        workers=0,
    )
    return cache_teacher.run(options)


@each_cache
def test_it_can_be_extended(cache: Path, tmp_path: Path) -> None:
    place = written_anew(cache, tmp_path / "c")
    teacher = read_teacher(place, "topk-3")
    assert {block.epoch for block in fill(place, teacher, 2)} == {1}
    assert verify(place, "deep").ok


@each_cache
def test_a_run_that_was_begun_then_goes_on_where_it_stopped(cache: Path, tmp_path: Path) -> None:
    run = shutil.copytree(cache.with_name(cache.name.replace("cache", "run")), tmp_path / "run")
    before = (run / "metrics.jsonl").read_text()
    result = train_student.run(TrainStudentOptions(cache=str(cache), out=str(run), **SETTINGS))
    after = (run / "metrics.jsonl").read_text()
    assert after.startswith(before)
    steps = [line["step"] for line in map(json.loads, after.splitlines()) if line["kind"] == "step"]
    assert steps == list(range(1, STEPS + 1))
    assert json.loads(before.splitlines()[-1])["step"] == STOPPED
    assert result.data["steps"] == STEPS
