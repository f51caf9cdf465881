"""Class folders that people and systems have left things in: right counts, one line for each kind of thing."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from split_fakes import image_bytes, write_parquet, write_tree

from deit_pipe.pipeline.data_set import DataChoice, DataSet, open_data
from deit_pipe.pipeline.errors import DataAmbiguous, DataCorrupt, DataMissing
from deit_pipe.pipeline.sources.open_samples import open_samples


def left_out(found: DataSet) -> list[str]:
    return [line.split("left out: ")[1] for line in found.lines if "left out: " in line]


def everything(data: Path) -> DataSet:
    return open_data(str(data), DataChoice(val_fraction=0))


def test_a_folder_with_every_defect_at_once(tmp_path: Path) -> None:
    data = write_tree(
        tmp_path / "Föhn photos",
        {"train/bär": 5, "train/cars/more": 3, "train/cars": 2, "train/Unlabelled": 4, "test/cars": 2},
    )
    train = data / "train"
    (train / "cars" / "loop").symlink_to("..")
    (train / "cars" / "up").symlink_to(data)
    (train / "autos").symlink_to("cars")
    (train / "cars" / "itself").symlink_to("itself")
    (train / "cars" / "gone.jpg").symlink_to("nowhere.jpg")
    (train / "bär" / "._000.jpg").write_bytes(b"x")
    (train / ".ipynb_checkpoints").mkdir()
    (train / ".ipynb_checkpoints" / "000.jpg").write_bytes(b"x")
    (train / "bär" / "Thumbs.db").write_bytes(b"x")
    (train / "cars" / "desktop.ini").write_bytes(b"x")
    write_tree(data, {"train/__MACOSX/cars": 2, "train/bär/@eaDir": 3})
    os.mkfifo(train / "cars" / "pipe.jpg")
    (train / "bär" / "notes.txt").write_text("not an image")
    (train / "bär" / "phone.heic").write_bytes(b"x")
    (train / "loose.jpg").write_bytes(b"x")
    (data / ".git").mkdir()
    found = everything(data)
    assert found.train.class_names == ("bär", "cars")
    assert found.train.labels.tolist() == [0] * 5 + [1] * 5 + [-1] * 4
    assert found.train.num_labelled == 10
    assert [image.decode() for image in image_bytes(found.train)] == [f"train/{key}" for key in found.train.keys]
    assert found.train.keys[10] == "Unlabelled/000.jpg"
    assert found.lines[:3] == (
        "Föhn photos: train 14 images in 2 classes, 4 of them unlabelled (14 files)",
        "Föhn photos: val none",
        "Föhn photos: test 2 images in 2 files, not used in training or selection",
    )
    assert sorted(left_out(found)) == [
        "files and folders of an operating system: 4, the first train/__MACOSX",
        "files that are no images by their name: 2, the first train/bär/notes.txt",
        "hidden files and folders: 3, the first .git",
        "images in no class folder: 1, the first train/loose.jpg",
        "links that lead nowhere: 2, the first train/cars/gone.jpg",
        "links to what is counted already: 3, the first train/autos",
        "neither files nor folders: 1, the first train/cars/pipe.jpg",
    ]


def test_a_link_to_the_folder_around_adds_nothing(tmp_path: Path) -> None:
    data = write_tree(tmp_path, {"train/cars": 3, "train/birds": 2, "val/cars": 1})
    before = everything(data).train
    (data / "train" / "cars" / "loop").symlink_to("..")
    (data / "train" / "birds" / "root").symlink_to("/")
    after = everything(data).train
    assert after.digest == before.digest
    assert list(after.keys) == list(before.keys)


def test_links_to_folders_elsewhere_are_followed_once(tmp_path: Path) -> None:
    data = write_tree(tmp_path / "data", {"ant": 2, "bee": 1})
    pool = write_tree(tmp_path / "pool", {"wasps": 4, "wasps/more": 3})
    (pool / "wasps" / "back").symlink_to(pool)
    (data / "ant" / "again").symlink_to(pool / "wasps" / "more")
    (data / "ant" / "one.jpg").symlink_to(pool / "wasps" / "more" / "000.jpg")
    (data / "bee" / "pool").symlink_to(pool / "wasps")
    found = everything(data)
    # ant comes first, so what is in `more` is its own; bee gets the rest, and the way back leads nowhere new.
    assert found.train.labels.tolist() == [0] * (2 + 3 + 1) + [1] * (1 + 4)
    assert left_out(found) == ["links to what is counted already: 2, the first bee/pool/more"]


def test_names_that_cannot_be_printed_are_escaped(tmp_path: Path) -> None:
    data = write_tree(tmp_path, {"ant": 1})
    (data / "ant" / "a\nb\x1b[31m.txt").write_text("x")
    (data / "bee").mkdir()
    Path(os.fsdecode(os.fsencode(data) + b"/bee/\xfe.jpg")).write_bytes(b"x")
    found = everything(data)
    assert len(found.train) == 2
    assert image_bytes(found.train)[1] == b"x"
    assert found.lines[-1].endswith("the first ant/a\\nb\\x1b[31m.txt")
    assert all(line.isprintable() for line in found.lines)


def test_a_class_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    data = write_tree(tmp_path, {"ant": 1})
    odd = Path(os.fsdecode(os.fsencode(data) + b"/b\xff"))
    odd.mkdir()
    (odd / "000.jpg").write_bytes(b"x")
    with pytest.raises(DataCorrupt, match=r"name of a class is not UTF-8: b\\udcff of"):
        everything(data)


@pytest.mark.parametrize("below", ["", "ant", "ant/more"])
def test_a_folder_that_cannot_be_listed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    data = write_tree(tmp_path, {"ant": 2, "ant/more": 2, "bee": 1})
    scandir: Callable[[Any], Iterator[os.DirEntry[str]]] = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path) == data / below:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataMissing, match=r"cannot list the folder .*: Permission denied") as caught:
        everything(data)
    assert str(data / below) in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "table", ["mine_labels.csv", "images/metadata.jsonl", "anything.tsv", "train_labels.txt", "annotations.json"]
)
def test_a_table_of_labels_beside_a_single_folder_is_refused(tmp_path: Path, table: str) -> None:
    data = write_tree(tmp_path, {"images": 5})
    (data / table).write_text("000.jpg,cat\n")
    with pytest.raises(DataAmbiguous, match="one folder of images and a table: ") as caught:
        everything(data)
    assert table in str(caught.value)
    write_tree(data, {"others": 2})
    assert len(everything(data).train) == 7  # beside several classes it is only a file
    assert [line for line in left_out(everything(data)) if table in line]


def test_a_table_in_parquet_is_no_data_set(tmp_path: Path) -> None:
    data = write_tree(tmp_path, {"train/images": 5})
    write_parquet(data / "metadata.parquet", [0, 1])
    with pytest.raises(DataAmbiguous, match=r"a table: metadata\.parquet"):
        everything(data)


def test_a_table_beside_splits_without_classes_is_named(tmp_path: Path) -> None:
    data = write_tree(tmp_path, {"train": 5, "test": 2})
    (data / "train.csv").write_text("000.jpg,cat\n")
    with pytest.raises(DataMissing, match=r"as CSV or Parquet: --labels .*train\.csv"):
        everything(data)


def test_a_table_beside_a_single_class_of_test_images_is_only_a_file(tmp_path: Path) -> None:
    data = write_tree(tmp_path, {"train/ant": 5, "train/bee": 5, "test/ant": 2})
    (data / "results.csv").write_text("x")
    found = everything(data)
    assert found.test is not None
    assert len(found.test) == 2


def test_links_into_a_hidden_store_are_followed(tmp_path: Path) -> None:
    data = write_tree(tmp_path, {".store/one": 3, ".store/two": 2, "bee": 1})
    (data / "ant").symlink_to(data / ".store" / "one")
    found = everything(data)
    assert found.train.labels.tolist() == [0, 0, 0, 1]


def test_a_readme_beside_a_single_class_is_no_table(tmp_path: Path) -> None:
    data = write_tree(tmp_path, {"images": 5})
    (data / "README.txt").write_text("hello")
    assert len(everything(data).train) == 5


@pytest.mark.parametrize("name", ["unlabelled", "Unlabeled", "UNLABELLED"])
def test_unlabelled_images_come_last_and_are_no_class(tmp_path: Path, name: str) -> None:
    data = write_tree(tmp_path, {"ant": 2, "zebra": 2, name: 3, f"{name}/more": 1})
    table = open_samples(str(data))
    assert table.class_names == ("ant", "zebra")
    assert table.labels.tolist() == [0, 0, 1, 1, -1, -1, -1, -1]
    (data / name / "test").mkdir()
    (data / name / "test" / "x.jpg").write_bytes(b"x")
    with pytest.raises(DataAmbiguous, match="a split where a class should be"):
        open_samples(str(data))


def test_images_are_in_the_order_of_their_paths(tmp_path: Path) -> None:
    table = open_samples(str(write_tree(tmp_path, {"ant": 2, "ant/0": 1, "ant/z": 1, "bee": 1})))
    assert list(table.keys) == ["ant/0/000.jpg", "ant/000.jpg", "ant/001.jpg", "ant/z/000.jpg", "bee/000.jpg"]


def test_unlabelled_images_beside_the_splits_are_said(tmp_path: Path) -> None:
    found = everything(write_tree(tmp_path, {"train/ant": 2, "train/bee": 1, "unlabelled": 3}))
    assert len(found.train) == 3
    assert left_out(found) == [
        "unlabelled images beside the splits (inside the training split they are used): 1, the first unlabelled"
    ]


def test_unlabelled_images_of_a_test_split_are_left_out(tmp_path: Path) -> None:
    found = everything(write_tree(tmp_path, {"train/ant": 2, "test/ant": 3, "test/unlabelled": 4}))
    assert found.test is not None
    assert len(found.test) == 3
    assert "unlabelled images of the test split: 4, the first unlabelled/000.jpg" in left_out(found)
