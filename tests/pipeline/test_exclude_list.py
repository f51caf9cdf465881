"""Images that a list names are left away: of every split, before anything is drawn, and nothing else changes."""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from split_fakes import image_bytes, write_parquet, write_tree

from deit_pipe.pipeline.data_set import DataChoice, DataSet, open_data
from deit_pipe.pipeline.errors import ChoiceError, DataAmbiguous, DataMissing, PipelineError
from deit_pipe.pipeline.sources.exclude_list import digest_of, read_exclude_list, write_exclude_list


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tree(
        tmp_path / "d",
        {"train/ant": 4, "train/bee": 4, "val/ant": 2, "val/bee": 2, "test/ant": 2, "test/bee": 2},
    )


def without(data: Path, *names: str, **choice: Any) -> DataSet:
    return open_data(str(data), DataChoice(excluded=names, **choice))


def names_of(table: Any) -> list[str]:
    return [image.decode() for image in image_bytes(table)]


def test_the_named_images_are_gone_and_no_others(data: Path) -> None:
    every = open_data(str(data))
    found = without(data, "train/ant/001.jpg", "bee/003.jpg", "val/bee/000.jpg", "test/ant/001.jpg")
    for split in ("train", "val", "test"):
        gone = {"train/ant/001.jpg", "train/bee/003.jpg", "val/bee/000.jpg", "test/ant/001.jpg"}
        assert names_of(getattr(found, split)) == [n for n in names_of(getattr(every, split)) if n not in gone]
    assert found.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.train.class_names == every.train.class_names
    assert found.lines[3].startswith("d: excluded 2 of train, 1 of val, 1 of test (list sha256 ")


def test_the_digest_says_what_is_gone_of_training_and_nothing_else(data: Path) -> None:
    whole = open_data(str(data)).train.digest
    one, other = (without(data, name).train.digest for name in ("train/ant/000.jpg", "train/ant/001.jpg"))
    assert len({whole, one, other}) == 3
    assert without(data, "ant/000.jpg").train.digest == one
    assert without(data, "val/ant/000.jpg").train.digest == whole
    assert without(data).train.digest == whole


def test_draws_of_the_others_stay_where_they_were(data: Path, tmp_path: Path) -> None:
    single = write_tree(tmp_path / "single", {"ant": 40, "bee": 40})
    every = open_data(str(single), DataChoice(val_fraction=0.25))
    victim = every.train.keys[3]
    found = without(single, victim, val_fraction=0.25)
    assert victim not in set(found.train.keys) | set(found.val.keys if found.val else ())
    assert len(set(found.train.keys) & set(every.train.keys)) >= len(every.train) - 2
    assert found.val is not None
    assert set(found.train.keys).isdisjoint(found.val.keys)
    half = without(single, victim, val_fraction=0, fraction=0.5, labelled_fraction=0.5)
    assert victim not in set(half.train.keys)
    assert (len(half.train), half.train.num_labelled) == (40, 20)


def test_a_shared_file_that_is_excluded_is_no_leak(data: Path) -> None:
    (data / "train" / "ant" / "seen.jpg").hardlink_to(data / "test" / "ant" / "000.jpg")
    with pytest.raises(DataAmbiguous, match="the same file"):
        open_data(str(data))
    assert len(without(data, "train/ant/seen.jpg").train) == 8
    assert len(without(data, "test/ant/000.jpg").test or ()) == 3
    with pytest.raises(DataAmbiguous, match="the same file"):
        without(data, "train/ant/000.jpg")


def test_rows_of_parquet_are_named_by_their_row(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["ant", "bee"] * 3)
    write_parquet(tmp_path / "test.parquet", ["ant", "bee"])
    found = without(tmp_path, "row 1", "test/row 0")
    assert found.train.labels.tolist() == [0, 0, 1, 0, 1]
    assert found.test is not None
    assert found.test.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("names", "problem", "words"),
    [
        (["train/ant/01.jpg"], DataMissing, r"train/ant/01\.jpg\n  nearest   train/ant/001\.jpg"),
        (["val/ant/003.jpg", "x", "y"], DataMissing, "val/ant/003.jpg\n  nearest  .*\n  and 2 more names"),
        (["train/elephant.txt"], DataMissing, "no image of .* is called train/elephant.txt"),
        ([f"train/ant/00{i}.jpg" for i in range(4)], ChoiceError, "leaves classes of .* without an image: ant"),
        ([f"val/{c}/00{i}.jpg" for c in ("ant", "bee") for i in (0, 1)], ChoiceError, "no image of the val split"),
    ],
)
def test_what_cannot_be_excluded_is_refused(
    data: Path, names: list[str], problem: type[PipelineError], words: str
) -> None:
    with pytest.raises(problem, match=words):
        without(data, *names)


ODD = [
    "train/a b.jpg",
    " train/x",
    "x\t",
    "train/new\nline.jpg",
    '"quoted".jpg',
    "# no comment.jpg",
    "back\\slash.jpg",
    "träin/é.jpg",
    b"caf\xe9".decode("utf-8", "surrogateescape"),
    "\u00a0x",
]


def test_any_name_survives_the_file(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    write_exclude_list(file, [("why\nnot", name) for name in ODD])
    assert read_exclude_list(str(file)) == tuple(sorted(ODD))
    assert file.read_text().count("# why") == 1
    by_hand = "# mine\r\n\r\ntrain/a b.jpg\r\n  train/b.jpg  \n" + "train/a b.jpg\n"
    file.write_bytes(b"\xef\xbb\xbf" + by_hand.encode())
    assert read_exclude_list(str(file)) == ("train/a b.jpg", "train/b.jpg")


def test_a_list_of_another_system_finds_the_images_it_means(tmp_path: Path) -> None:
    composed = unicodedata.normalize("NFC", "käfer")
    data = write_tree(tmp_path, {f"train/{unicodedata.normalize('NFD', composed)}": 2, "train/bee": 2})
    assert len(without(data, f"train/{composed}/000.jpg", val_fraction=0).train) == 3
    # where both spellings are there, each name means its own
    write_tree(tmp_path, {f"train/{composed}": 2})
    found = without(data, f"train/{composed}/000.jpg", val_fraction=0)
    assert len(found.train) == 5
    assert f"train/{composed}/000.jpg" not in names_of(found.train)


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (None, 3, "no exclude list"),
        (b"a\0b", 2, "is no list of images"),
        (b'ok\n"half a string\n', 2, "line 2 of the exclude list"),
        (b'"1" 2\n', 2, "line 1 of the exclude list"),
    ],
)
def test_files_that_are_no_lists_are_refused(tmp_path: Path, content: bytes | None, code: int, words: str) -> None:
    file = tmp_path / "list.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(PipelineError, match=words) as caught:
        read_exclude_list(str(file))
    assert caught.value.exit_code == code
    with pytest.raises(ChoiceError, match="cannot be read"):
        read_exclude_list(str(tmp_path))


def test_a_choice_without_a_list_is_written_as_before_and_read_from_then() -> None:
    before = {
        "train_split": None,
        "val_split": None,
        "image_column": None,
        "label_column": None,
        "val_data": None,
        "val_fraction": 0.1,
        "fraction": 1.0,
        "labelled_fraction": 1.0,
        "subset_seed": 0,
    }
    assert DataChoice(val_fraction=0.1).to_json() == before
    assert DataChoice.from_json(before) == DataChoice(val_fraction=0.1)
    listed = DataChoice(exclude="/somewhere/list.txt", excluded=("b", "a", "b"))
    assert DataChoice.from_json(listed.to_json()) == listed == DataChoice(excluded=("a", "b"))
    assert listed.to_json()["exclude"] == "/somewhere/list.txt"
    assert digest_of(("a", "b")) != digest_of(("a,b",)) != digest_of(("a\nb",))
    with pytest.raises(ChoiceError):
        DataChoice(excluded="abc")  # type: ignore[arg-type]


def test_positions_of_the_excluded_are_those_of_the_whole_split(data: Path) -> None:
    found = without(data, "ant/002.jpg", "bee/000.jpg")
    np.testing.assert_array_equal(found.train.selected_positions, [0, 1, 3, 5, 6, 7])


def test_a_list_that_a_manifest_could_not_hold_is_refused() -> None:
    names = tuple(f"train/a folder with a long name/{i:08}.jpg" for i in range(60_000))
    assert len(DataChoice(excluded=names[:40_000]).excluded) == 40_000
    with pytest.raises(ChoiceError, match="60,000 excluded images are too many"):
        DataChoice(excluded=names)
