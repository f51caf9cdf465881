"""What has become of the images since a cache was made is said by name and number."""

import os
from pathlib import Path

import numpy as np
import pytest
from stage_fakes import cache_options
from view_images import encoded, photo

from deit_pipe.pipeline.samples import ArraySamples
from deit_pipe.stages import cache_teacher, inspect_cache, train_student
from deit_pipe.stages.opened.changed_samples import describe_changes
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.store.errors import CacheMismatch
from deit_pipe.store.manifest import SampleIndex, read_samples


def index(keys: str, labels: list[int], names: str = "ab", size: int = 10) -> SampleIndex:
    return SampleIndex(list(keys), np.asarray(labels), np.asarray([size + ord(k) for k in keys]), tuple(names))


def table(keys: str, labels: list[int], names: str = "ab", size: int = 10) -> ArraySamples:
    made = ArraySamples("x", np.zeros((len(keys), 1, 1), np.uint8), np.asarray(labels), list(names), list(keys))
    made.__dict__["byte_sizes"] = np.asarray([size + ord(k) for k in keys])
    return made


def test_nothing_is_said_of_the_same_images() -> None:
    assert describe_changes(index("pqr", [0, 0, 1]), table("pqr", [0, 0, 1])) == []


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        (table("pqrs", [0, 0, 1, 1]), ["1 added: s"]),
        (table("pr", [0, 1]), ["1 removed: q"]),
        (table("pqr", [0, 1, 1]), ["1 labelled otherwise: q (cached a, now b)"]),
        (table("pqr", [0, -1, 1]), ["1 labelled otherwise: q (cached a, now unlabelled)"]),
        (table("prq", [0, 1, 0]), ["the same images in another order"]),
        (table("pqr", [1, 1, 0], "ba"), ["the same classes in another order"]),
        (
            table("pqr", [0, 0, 1], "ac"),
            ["1 classes added: c", "1 classes removed: b", "1 labelled otherwise: r (cached b, now c)"],
        ),
    ],
)
def test_each_kind_of_change_has_its_line(given: ArraySamples, lines: list[str]) -> None:
    assert describe_changes(index("pqr", [0, 0, 1]), given) == lines


def test_a_file_of_the_same_size_and_class_was_renamed() -> None:
    given = table("pqz", [0, 0, 1])
    given.__dict__["byte_sizes"] = np.asarray([10 + ord(k) for k in "pqr"])
    assert describe_changes(index("pqr", [0, 0, 1]), given) == ["1 renamed: r -> z"]


def test_many_are_counted_and_a_few_named() -> None:
    (line,) = describe_changes(index("p", [0]), table("pqrstu", [0] * 6))
    assert line == "5 added: q, r, s and 2 more"


def test_every_command_names_the_files(tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    for split, count in (("train", 6), ("val", 2)):
        for label, name in enumerate(("ant", "bee")):
            (data / split / name).mkdir(parents=True)
            for i in range(count):
                picture = encoded(photo(100 * label + i, 24, 24), "PNG")
                (data / split / name / f"{i}.png").write_bytes(picture)
    options = cache_options(data, cache, epochs=1, recipe="basic", batch_size=4, block=4)
    cache_teacher.run(options)
    (data / "train" / "ant" / "3.png").rename(data / "train" / "ant" / "new.png")
    (data / "train" / "bee" / "5.png").unlink()
    calls = (
        lambda: cache_teacher.run(options),
        lambda: train_student.run(
            TrainStudentOptions(cache=str(cache), out=str(tmp_path / "run"), device="cpu", workers=0)
        ),
        lambda: inspect_cache.run(InspectCacheOptions(cache=str(cache), replay="4")),
    )
    for call in calls:
        with pytest.raises(CacheMismatch) as caught:
            call()
        assert "1 renamed: ant/3.png -> ant/new.png" in str(caught.value)
        assert "1 removed: bee/5.png" in str(caught.value)
        assert caught.value.exit_code == 4


def test_names_of_files_that_are_no_utf8_are_recorded_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "data" / "ant" / os.fsdecode(b"caf\xe9.jpg")
    for file in (odd, tmp_path / "data" / "bee" / "b.jpg", odd.with_name("c.jpg")):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(photo(len(file.name), 20, 20)))
    options = cache_options(tmp_path / "data", tmp_path / "cache", val_fraction=0, recipe="small", plan_only=True)
    cache_teacher.run(options)
    cache_teacher.run(options)
    assert list(read_samples(tmp_path / "cache").keys) == ["ant/c.jpg", "ant/caf\\udce9.jpg", "bee/b.jpg"]
    odd.with_name("c.jpg").unlink()
    with pytest.raises(CacheMismatch) as caught:
        cache_teacher.run(options)
    assert "1 removed: ant/c.jpg" in str(caught.value)
    assert "added" not in str(caught.value)
