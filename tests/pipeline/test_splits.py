"""Which images are train, val and test: counted for every source and layout; what is unclear is refused."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from split_fakes import image_bytes, write_cifar, write_idx, write_packed, write_parquet, write_tree
from view_images import encoded, photo

from deit_pipe.pipeline.data_set import DataChoice, DataSet, open_data
from deit_pipe.pipeline.errors import (
    ChoiceError,
    ClassMismatch,
    DataAmbiguous,
    DataCorrupt,
    DataMissing,
    PipelineError,
)
from deit_pipe.pipeline.sources import folder_walk
from deit_pipe.pipeline.sources import parquet as parquet_module
from deit_pipe.pipeline.sources.open_samples import open_samples
from deit_pipe.pipeline.sources.split_names import kinds_of, names_only_a_split, without_shard

LABELS = [0, 1, 2] * 4  # of the files of a Parquet data set, as many rows as asked for


def counts(found: DataSet) -> tuple[int, int | None, int | None]:
    return (
        len(found.train),
        None if found.val is None else len(found.val),
        None if found.test is None else len(found.test),
    )


def opened(data: Path, **choice: Any) -> DataSet:
    return open_data(str(data), DataChoice(**choice))


def no_image_twice(found: DataSet) -> bool:
    """No image of one split is in another."""
    splits = [image_bytes(table) for table in (found.train, found.val, found.test)]
    together = [image for split in splits for image in split]
    return len(set(together)) == len(together)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("train", {"train"}),
        ("Training", {"train"}),
        ("my-data_TRAIN", {"train"}),
        ("train2017", {"train"}),
        ("valid", {"val"}),
        ("dev", {"val"}),
        ("2012 val", {"val"}),
        ("eval", {"test"}),
        ("evaluation.set", {"test"}),
        ("train_test", {"train", "test"}),
        ("trains", set()),
        ("constrained", set()),
        ("attest", set()),
        ("trainval", set()),
    ],
)
def test_words_of_a_name(name: str, kinds: set[str]) -> None:
    assert kinds_of(name) == kinds


def test_a_name_can_be_a_split_and_nothing_else() -> None:
    assert all(names_only_a_split(name) for name in ("train", "Test-Images", "val2017", "dev set"))
    assert not any(names_only_a_split(name) for name in ("test_tube", "images", "dev board", "train_station"))


@pytest.mark.parametrize(
    ("stem", "name", "shard"),
    [
        ("train-00000-of-00005", "train", (0, 5)),
        ("train-00001-of-00002-0123456789abcdef", "train", (1, 2)),
        ("train_small-3-of-4", "train_small", (3, 4)),
        ("validation-0", "validation", None),
        ("0000", "", None),
        ("test", "test", None),
    ],
)
def test_the_part_is_cut_off(stem: str, name: str, shard: tuple[int, int] | None) -> None:
    assert without_shard(stem) == (name, shard)


PARQUET_LAYOUTS: list[tuple[Mapping[str, int], dict[str, Any], tuple[int, int | None, int | None]]] = [
    ({"train.parquet": 9, "val.parquet": 3, "test.parquet": 6}, {}, (9, 3, 6)),
    ({"mydata-train.parquet": 9, "mydata-test.parquet": 6}, {}, (9, None, 6)),
    ({"mydata-train.parquet": 9, "mydata-dev.parquet": 6}, {}, (9, 6, None)),
    ({"Train.parquet": 9, "VALIDATION.parquet": 3}, {}, (9, 3, None)),
    ({"data/train-00000-of-00002.parquet": 9, "data/train-00001-of-00002.parquet": 3}, {}, (11, 1, None)),
    ({"data/train-00000-of-00001.parquet": 9, "data/test-00000-of-00001.parquet": 3}, {}, (9, None, 3)),
    ({"default/train/0000.parquet": 9, "default/test/0000.parquet": 6}, {}, (9, None, 6)),
    ({"plain_text/train/0000.parquet": 6, "plain_text/train/0001.parquet": 3}, {}, (8, 1, None)),
    ({"train/a.parquet": 6, "train/b.parquet": 3, "validation/a.parquet": 3}, {}, (9, 3, None)),
    ({"train-00000-of-00001.parquet": 9, "train_small-00000-of-00001.parquet": 3}, {}, (8, 1, None)),
    ({"train.parquet": 9, "train_test.parquet": 3, "test.parquet": 3}, {}, (9, None, 3)),
    ({"train.parquet": 9, "val.parquet": 3, "extra.parquet": 3, "more/extra.parquet": 3}, {}, (9, 3, None)),
    ({"train.parquet": 9, "val.parquet": 3, "extra-00000-of-00002.parquet": 3}, {}, (9, 3, None)),
    ({"one.parquet": 9, "two.parquet": 3}, {}, (11, 1, None)),
    ({"train_small.parquet": 3, "val.parquet": 3}, {}, (3, 3, None)),
    ({"train_a.parquet": 9, "train_b.parquet": 4}, {"train_split": "train_b"}, (3, 1, None)),
    ({"train.parquet": 9, "train_b.parquet": 6, "val.parquet": 3}, {"train_split": "train_b"}, (6, 3, None)),
    ({"train.parquet": 9, "val.parquet": 3, "test.parquet": 6}, {"val_split": "test"}, (9, 6, None)),
    ({"train.parquet": 9, "my-eval.parquet": 6}, {"val_split": "test"}, (9, 6, None)),
    ({"train.parquet": 9, "val.parquet": 3, "validation.parquet": 6}, {"val_split": "val"}, (9, 3, None)),
    ({"one.parquet": 9, "two.parquet": 3}, {"val_split": "two"}, (9, 3, None)),
    ({"train.parquet": 9, "two.parquet": 3}, {"val_split": "two"}, (9, 3, None)),
    ({"train.parquet": 9, "test_a.parquet": 3, "test_b.parquet": 6}, {"val_split": "test_b"}, (9, 6, 3)),
    ({"train.parquet": 9, "test.parquet": 3, "test_b.parquet": 6}, {"val_split": "test"}, (9, 3, None)),
    ({"train_val.parquet": 9, "test.parquet": 3}, {"train_split": "train_val"}, (9, None, 3)),
    ({"train.parquet": 9, "test.parquet": 3}, {"val_fraction": 1 / 3}, (6, 3, 3)),
    ({"train.parquet": 9}, {"val_fraction": 0}, (9, None, None)),
]


@pytest.mark.parametrize(("files", "choice", "expected"), PARQUET_LAYOUTS)
def test_parquet_layouts(
    tmp_path: Path,
    files: Mapping[str, int],
    choice: dict[str, Any],
    expected: tuple[int, int | None, int | None],
) -> None:
    for name, count in files.items():
        write_parquet(tmp_path / name, LABELS[:count])
    found = opened(tmp_path, **choice)
    assert counts(found) == expected
    assert no_image_twice(found)
    assert not any("test" in image.decode().split("/")[-1] for image in image_bytes(found.train))


REFUSED: list[tuple[Mapping[str, int], dict[str, Any], type[PipelineError], str]] = [
    (
        {"train_small.parquet": 3, "train_large.parquet": 3},
        {},
        DataAmbiguous,
        r"train_large, train_small\n.*--train-split",
    ),
    (
        {"train.parquet": 3, "val.parquet": 3, "validation.parquet": 3},
        {},
        DataAmbiguous,
        r"val, validation\n.*--val-split",
    ),
    (
        {"train.parquet": 3, "test_a.parquet": 3, "test_b.parquet": 3},
        {},
        DataAmbiguous,
        "test_a, test_b\n.*--val-split",
    ),
    ({"train_val.parquet": 3, "test.parquet": 3}, {}, DataAmbiguous, "train_val\n.*--train-split"),
    ({"train.parquet": 3, "val_test.parquet": 3}, {}, DataAmbiguous, "val_test\n.*--val-split"),
    ({"train/test-0.parquet": 3, "train/train-0.parquet": 3}, {}, DataAmbiguous, "train/test"),
    ({"a/train/0000.parquet": 3, "b/train/0000.parquet": 3}, {}, DataAmbiguous, r"a, b\n.*--data .*/a or"),
    ({"train.parquet": 3, "data/train-0.parquet": 3}, {}, DataAmbiguous, "several data sets"),
    ({"train.parquet": 3}, {"train_split": "nope"}, DataMissing, "no split nope .*\n.*found +train\n"),
    (
        {"train.parquet": 3, "test.parquet": 3},
        {"val_split": "val"},
        DataMissing,
        "no split val .*\n.*test, train\n",
    ),
    (
        {"train.parquet": 3, "test.parquet": 3},
        {"train_split": "test", "val_split": "test"},
        DataAmbiguous,
        "both",
    ),
    ({"train.parquet": 3, "test.parquet": 3}, {"val_split": "train"}, DataAmbiguous, "both train and val"),
    (
        {"test.parquet": 3, "extra.parquet": 3},
        {},
        DataMissing,
        "no train split .*\n.*extra, test\n.*--train-split",
    ),
    (
        {"train-00000-of-00003.parquet": 3, "train-00002-of-00003.parquet": 3},
        {},
        DataMissing,
        "expected  3 files",
    ),
    (
        {"train-00000-of-00001.parquet": 3, "train-00001-of-00002.parquet": 3},
        {},
        DataAmbiguous,
        "more than once",
    ),
    (
        {"train.parquet": 3, "val.parquet": 3},
        {"val_fraction": 0.1},
        DataAmbiguous,
        "validation images twice",
    ),
]


@pytest.mark.parametrize(("files", "choice", "error", "message"), REFUSED)
def test_what_is_unclear_is_refused(
    tmp_path: Path, files: Mapping[str, int], choice: dict[str, Any], error: type[PipelineError], message: str
) -> None:
    for name, count in files.items():
        write_parquet(tmp_path / name, LABELS[:count])
    with pytest.raises(error, match=message) as caught:
        opened(tmp_path, **choice)
    assert caught.value.exit_code == (2 if error is DataAmbiguous else 3)


def test_what_is_not_used_is_said_in_one_line_a_kind(tmp_path: Path) -> None:
    for name in ("train", "train_a", "train_b", "val", "extra", "other"):
        write_parquet(tmp_path / f"{name}.parquet", LABELS[:6])
    write_parquet(tmp_path / "._train.parquet", LABELS[:6])
    found = opened(tmp_path)
    name = tmp_path.name
    assert found.lines == (
        f"{name}: train 6 images in 3 classes (1 file)",
        f"{name}: val 6 images in 1 file",
        f"{name}: left out: hidden files and folders: 1, the first ._train.parquet",
        f"{name}: left out: without a split's word (train, val, test) in the name: 2, the first extra",
        f"{name}: left out: splits that are not used (--train-split NAME or --val-split NAME takes one): 2, "
        "the first train_a",
    )


TREES: list[tuple[Mapping[str, int], dict[str, Any], tuple[int, int | None, int | None]]] = [
    ({"train/ant": 9, "train/bee": 3, "val/ant": 2, "test/bee": 4}, {}, (12, 2, 4)),
    ({"Training/ant": 9, "Training/bee": 3, "dev/ant": 2, "Evaluation/bee": 4}, {}, (12, 2, 4)),
    ({"ant": 10, "bee": 10}, {}, (18, 2, None)),
    ({"ant/more": 10, "bee": 10}, {}, (18, 2, None)),
    ({"train/ant": 9, "train/bee": 3, "test/ant": 2}, {}, (12, None, 2)),
    ({"train/ant": 9, "train/bee": 3, "test/ant": 2}, {"val_split": "test"}, (12, 2, None)),
    ({"photos-train/ant": 9, "photos-train/bee": 3, "photos-val/ant": 2}, {}, (12, 2, None)),
    ({"train/ant": 9, "train/bee": 3, "extra/ant": 8, "val/ant": 1, "test": 5}, {}, (12, 1, None)),
    # A class that is called like a split: the images are in it, not in folders below.
    ({"train/train": 9, "train/bus": 3, "val/train": 2}, {}, (12, 2, None)),
    ({"bus": 10, "train": 10}, {"train_split": "."}, (18, 2, None)),
    ({"bus/a": 10, "train/b": 10}, {"train_split": "."}, (18, 2, None)),
    ({"bus/a": 10, "test/b": 10}, {"train_split": "."}, (18, 2, None)),
    ({"birds/a": 10, "train_station/b": 10}, {"train_split": "."}, (18, 2, None)),
    ({"bus": 10, "test_tube": 10}, {}, (18, 2, None)),
    ({"train/ant": 9, "train/bee": 3, "train/unlabelled": 5, "val/ant": 2}, {}, (17, 2, None)),
]


@pytest.mark.parametrize(("tree", "choice", "expected"), TREES)
def test_class_folder_layouts(
    tmp_path: Path,
    tree: Mapping[str, int],
    choice: dict[str, Any],
    expected: tuple[int, int | None, int | None],
) -> None:
    found = opened(write_tree(tmp_path, tree), **choice)
    assert counts(found) == expected
    assert no_image_twice(found)


REFUSED_TREES: list[tuple[Mapping[str, int], dict[str, Any], type[PipelineError], str]] = [
    (
        {"train/ant": 1, "val/ant": 1, "validation/ant": 1},
        {},
        DataAmbiguous,
        "val, validation\n.*--val-split",
    ),
    (
        {"data/train/ant": 2, "data/test/ant": 2},
        {},
        DataAmbiguous,
        r"a class should be.*\n.*\n.*--data .*/data",
    ),
    ({"ant/train": 2, "ant/test": 2, "bee/train": 2, "bee/test": 2}, {}, DataAmbiguous, "sort the images by"),
    ({"ant/more/test": 2, "bee": 2}, {}, DataAmbiguous, "a split where a class should be: .*ant/more/test"),
    ({"ant/my-train": 2, "ant/my-test": 2, "bee": 2}, {}, DataAmbiguous, "a split where a class should be"),
    (
        {"train/ant": 2, "train/test/ant": 2},
        {},
        DataAmbiguous,
        "a split where a class should be: .*train/test",
    ),
    ({"train/ant/test": 2, "train/bee": 2}, {}, DataAmbiguous, "a split where a class should be"),
    ({"bus": 2, "train": 2, "car": 2}, {}, DataAmbiguous, r"split or class\? train .*\n.*--train-split \. "),
    ({"birds/owl": 2, "train_station/big": 2}, {}, DataAmbiguous, r"split or class\? train_station"),
    ({"train": 2, "test": 2}, {}, DataMissing, "are in no class folder"),
    ({"test/ant": 2, "val/ant": 2}, {}, DataMissing, "no train split"),
    ({"ant": 2, "bee": 0}, {}, DataMissing, "no images in the class folder"),
    ({"unlabelled": 2}, {}, DataMissing, "no class folders"),
    ({"train/ant": 2, "test/ant": 2, "test/wasp": 1}, {}, ClassMismatch, "does not know: wasp"),
    ({"ant": 2}, {"image_column": "x"}, ChoiceError, "--image-column is for Parquet"),
]


@pytest.mark.parametrize(("tree", "choice", "error", "message"), REFUSED_TREES)
def test_class_folders_that_are_unclear_are_refused(
    tmp_path: Path, tree: Mapping[str, int], choice: dict[str, Any], error: type[PipelineError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        opened(write_tree(tmp_path, tree), **choice)
    assert caught.value.exit_code == {DataMissing: 3, ClassMismatch: 4}.get(error, 2)


def make_idx(root: Path) -> None:
    write_idx(root, "train", [0, 1, 2] * 4, 10)
    write_idx(root, "t10k", [0, 1, 0], 20)
    write_idx(root, "lost", [0, 1, 0], 30, kinds=["images"])


def make_cifar10(root: Path) -> None:
    for part in range(1, 6):
        write_cifar(root / "cifar-10-batches-bin" / f"data_batch_{part}.bin", [0, 9], part)
    write_cifar(root / "cifar-10-batches-bin" / "test_batch.bin", [3] * 4, 20)


def make_cifar100(root: Path) -> None:
    write_cifar(root / "train.bin", [0, 99, 5], 10, label_bytes=2)
    write_cifar(root / "test.bin", [3] * 4, 20, label_bytes=2)
    (root / "fine_label_names.txt").write_text("\n".join(f"fine{i}" for i in range(100)))


def make_packed(root: Path) -> None:
    write_packed(root / "train.arrow", [0, 1] * 4, 10)
    write_packed(root / "val.arrow", [1, 0, 1], 15)
    write_packed(root / "test.arrow", [0, 0], 20)


SOURCES: list[tuple[Callable[[Path], None], tuple[int, int | None, int | None], int]] = [
    (make_idx, (12, None, 3), 3),
    (make_cifar10, (10, None, 4), 10),
    (make_cifar100, (3, None, 4), 100),
    (make_packed, (8, 3, 2), 2),
]


@pytest.mark.parametrize(("make", "expected", "classes"), SOURCES)
def test_a_test_image_is_in_no_training_and_no_selection(
    tmp_path: Path, make: Callable[[Path], None], expected: tuple[int, int | None, int | None], classes: int
) -> None:
    make(tmp_path)
    found = opened(tmp_path)
    assert counts(found) == expected
    assert no_image_twice(found)
    assert found.test is not None
    assert found.test.class_names == found.train.class_names
    assert len(found.train.class_names) == classes
    assert all(image[1] == 20 for image in image_bytes(found.test))
    assert not any(image[1] == 20 for image in image_bytes(found.train) + image_bytes(found.val))
    assert found.choice.val_fraction == 0
    assert any("not used in training or selection" in line for line in found.lines)
    as_val = opened(tmp_path, val_split="test")
    assert as_val.val is not None
    assert (len(as_val.val), as_val.test) == (expected[2], None)
    np.testing.assert_array_equal(as_val.val.labels, open_samples(str(tmp_path), "test").labels)


def test_images_without_their_label_file_are_said(tmp_path: Path) -> None:
    make_idx(tmp_path)
    assert any("lost-images-idx3-ubyte" in line for line in opened(tmp_path).lines)
    write_idx(tmp_path, "emnist-letters-train", [0], 1)
    assert len(opened(tmp_path).train) == 12
    write_idx(tmp_path / "e", "emnist-letters-train", [0, 1], 1)
    write_idx(tmp_path / "e", "emnist-letters-test", [0], 1)
    assert counts(opened(tmp_path / "e")) == (2, None, 1)


def test_several_kinds_of_data_in_one_folder_are_refused(tmp_path: Path) -> None:
    make_idx(tmp_path)
    write_parquet(tmp_path / "train.parquet", LABELS)
    with pytest.raises(DataAmbiguous, match="holds IDX and Parquet"):
        opened(tmp_path)
    for name in ("cifar-10-batches-bin/test_batch.bin", "cifar-100-binary/test.bin"):
        write_cifar(tmp_path / "c" / name, [1], 5)
    (tmp_path / "c" / "cifar-100-binary" / "fine_label_names.txt").write_text("x")
    with pytest.raises(DataAmbiguous, match="cifar-10-batches-bin, cifar-100-binary"):
        opened(tmp_path / "c")
    for name in ("one", "two"):
        write_packed(tmp_path / "p" / f"{name}.arrow", [0, 1], 1)
    with pytest.raises(DataAmbiguous, match="2 packed files"):
        opened(tmp_path / "p")


def test_a_single_file_is_all_training(tmp_path: Path) -> None:
    write_parquet(tmp_path / "mydata-test.parquet", LABELS[:10])
    assert counts(opened(tmp_path / "mydata-test.parquet")) == (9, 1, None)
    write_packed(tmp_path / "a-val.arrow", [0, 1] * 5, 1)
    assert counts(opened(tmp_path / "a-val.arrow")) == (9, 1, None)


def test_labels_of_val_are_numbered_by_the_classes_of_train(tmp_path: Path) -> None:
    words = tmp_path / "words"
    write_parquet(words / "train.parquet", ["cat", "ant", "bee"])
    write_parquet(words / "val.parquet", ["cat", "bee"])
    found = opened(words)
    assert found.train.labels.tolist() == [2, 0, 1]
    assert found.val is not None
    assert found.val.labels.tolist() == [2, 1]
    assert found.val.class_names == ("ant", "bee", "cat")
    write_parquet(words / "val.parquet", ["cat", "wasp"])
    with pytest.raises(ClassMismatch, match="does not know: wasp") as caught:
        opened(words)
    assert caught.value.exit_code == 4

    declared = tmp_path / "declared"
    write_parquet(declared / "train.parquet", [0, 1, 2], names=["ant", "bee", "cat"])
    write_parquet(declared / "val.parquet", [0, 1], names=["cat", "ant"])
    write_parquet(declared / "test.parquet", [2, 0])  # numbers without names are those of training
    found = opened(declared)
    assert found.val is not None
    assert found.test is not None
    assert found.val.labels.tolist() == [2, 0]
    assert found.test.labels.tolist() == [2, 0]
    write_parquet(declared / "test.parquet", [3])
    with pytest.raises(ClassMismatch, match=r"label 3 .* is none of the training classes"):
        opened(declared)

    mixed = tmp_path / "mixed"
    write_parquet(mixed / "train.parquet", ["10", "2", "10"])
    write_parquet(mixed / "val.parquet", [2, 10])  # numbers that are the training split's words
    found = opened(mixed)
    assert found.val is not None
    assert [found.val.class_names[label] for label in found.val.labels] == ["2", "10"]

    folders = write_tree(tmp_path / "folders", {f"train/{name}": 2 for name in ("ant", "bee", "cät")})
    write_tree(folders, {"val/ca\u0308t": 1, "val/bee": 2})  # as another system writes the umlaut
    found = opened(folders)
    assert found.val is not None
    assert found.val.labels.tolist() == [1, 1, 2]


def test_files_of_one_split_must_agree(tmp_path: Path) -> None:
    names = ["ant", "bee"]
    for other in ({"names": ["bee", "ant"]}, {"names": None}, {"labels": ["ant", "bee"]}):
        write_parquet(tmp_path / "train-0.parquet", [0, 1], names=names)
        write_parquet(tmp_path / "train-1.parquet", **{"labels": [0, 1], "names": names} | other)
        with pytest.raises(ClassMismatch, match=r"train-1\.parquet do not mean the same"):
            opened(tmp_path)
    write_parquet(tmp_path / "train-1.parquet", [0, 1], label_column="target")
    with pytest.raises(DataCorrupt, match=r"no label column label in .*train-1"):
        opened(tmp_path)


def test_columns(tmp_path: Path) -> None:
    file = tmp_path / "train.parquet"
    write_parquet(file, [0, 1], more={"img": [b"x", b"y"], "path": ["a", "b"]})
    with pytest.raises(DataAmbiguous, match=r"found     image, img\n.*--image-column NAME"):
        opened(tmp_path)
    assert image_bytes(opened(tmp_path, image_column="img", val_fraction=0).train) == [b"x", b"y"]
    with pytest.raises(DataMissing, match=r"no image column picture .*\n.*\n.*image, label, img, path"):
        opened(tmp_path, image_column="picture")
    with pytest.raises(DataCorrupt, match=r"column path .* cannot be images"):
        opened(tmp_path, image_column="path")
    # A column of that name that cannot hold images is no candidate.
    write_parquet(file, [0, 1], more={"img": ["x", "y"]})
    assert image_bytes(opened(tmp_path, val_fraction=0).train)[0].endswith(b"train.parquet:0")
    write_parquet(file, [0, 1], more={"labels": [1, 0]})
    with pytest.raises(DataAmbiguous, match=r"found     label, labels\n.*--label-column NAME"):
        opened(tmp_path)
    assert opened(tmp_path, label_column="labels", val_fraction=0).train.labels.tolist() == [1, 0]
    write_parquet(file, [3, 1], label_column="fine_label", more={"coarse_label": [0, 1]})
    assert opened(tmp_path, val_fraction=0).train.labels.tolist() == [3, 1]
    assert opened(tmp_path, val_fraction=0, label_column="coarse_label").train.labels.tolist() == [0, 1]


def test_a_split_without_labels_counts_as_absent(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", LABELS)
    write_parquet(tmp_path / "test.parquet", [-1, -1], names=None)
    found = opened(tmp_path)
    assert counts(found) == (11, 1, None)  # so a part of train is held out
    assert any("the test split, which has no labels; its images: 2" in line for line in found.lines)
    parquet.write_table(pa.table({"image": [b"a", b"b"]}), tmp_path / "test.parquet")
    assert counts(opened(tmp_path)) == (11, 1, None)
    with pytest.raises(DataMissing, match="no labelled images in the split test"):
        opened(tmp_path, val_split="test")
    write_parquet(tmp_path / "test.parquet", [0, None, 2])
    found = opened(tmp_path)
    assert found.test is not None
    assert found.test.labels.tolist() == [0, 2]
    assert [image[-1:] for image in image_bytes(found.test)] == [b"0", b"2"]
    assert any("unlabelled images of the test split: 1, the first row 1" in line for line in found.lines)
    write_parquet(tmp_path / "train.parquet", [None] * 3)
    with pytest.raises(DataMissing, match="no labels in the training split"):
        opened(tmp_path)


def test_other_validation_images(tmp_path: Path) -> None:
    data = write_tree(tmp_path / "data", {"ant": 10, "bee": 10})
    other = write_tree(tmp_path / "other", {"train/bee": 5, "test/bee": 2, "val/bee": 3})
    assert counts(opened(data, val_data=str(other))) == (20, 3, None)
    found = opened(data, val_data=str(other), val_split="test")
    assert counts(found) == (20, 2, None)
    assert found.val is not None
    assert found.val.labels.tolist() == [1, 1]
    assert found.lines[1] == f"data: val 2 images in 2 files of {other} (called test)"
    assert counts(opened(data, val_data=str(write_tree(tmp_path / "bare", {"ant": 4})))) == (20, 4, None)
    twice = write_tree(tmp_path / "twice", {"train/ant": 4, "train/bee": 1, "val/ant": 1, "validation/ant": 1})
    found = opened(twice, val_data=str(other))  # so it does not matter which of the two is meant
    assert counts(found) == (5, 3, None)
    assert any("splits that are not used" in line and ": 2, the first val" in line for line in found.lines)
    with pytest.raises(DataAmbiguous, match="validation images twice"):
        opened(data, val_data=str(other), val_fraction=0.2)
    with pytest.raises(ClassMismatch, match="wasp"):
        opened(data, val_data=str(write_tree(tmp_path / "wasps", {"wasp": 4})))
    # Numbers of other data are not the numbers of these classes.
    numbers = write_parquet(tmp_path / "numbers.parquet", [0, 1])
    with pytest.raises(ClassMismatch, match="does not know: 0"):
        opened(write_packed(tmp_path / "named.arrow", [0, 1] * 5, 1), val_data=str(numbers))
    digits = write_idx(tmp_path / "idx", "train", [3, 9], 7)
    found = open_data("digits", DataChoice(val_data=str(digits)))
    assert found.val is not None
    assert found.val.labels.tolist() == [3, 9]
    # The same images by another way.
    with pytest.raises(DataAmbiguous, match="the same file is in the train split and in the val split"):
        opened(data, val_data=str(data))
    splits = write_tree(tmp_path / "splits", {"train/ant": 4, "test/ant": 2})
    found = opened(splits, val_data=str(splits / "test"))
    assert counts(found) == (4, 2, None)
    assert any("as --val-data uses its files" in line for line in found.lines)


def test_a_file_linked_into_two_splits_is_refused(tmp_path: Path) -> None:
    data = write_tree(tmp_path, {"train/ant": 4, "train/bee": 1, "test/ant": 2})
    (data / "train" / "bee" / "hard.jpg").hardlink_to(data / "test" / "ant" / "001.jpg")
    with pytest.raises(DataAmbiguous, match=r"in the train split and in the test split: .*test/ant/001"):
        opened(data)
    (data / "train" / "bee" / "hard.jpg").unlink()
    (data / "train" / "wasp").symlink_to(data / "test" / "ant")
    with pytest.raises(DataAmbiguous, match="in the train split and in the test split"):
        opened(data)


def test_a_link_to_one_image_of_another_split_is_refused(tmp_path: Path) -> None:
    data = write_tree(tmp_path, {"train/ant": 4, "test/ant": 2})
    (data / "train" / "ant" / "link.jpg").symlink_to(data / "test" / "ant" / "000.jpg")
    with pytest.raises(DataAmbiguous, match=r"train split and in the test split: .*test/ant/000"):
        opened(data)


def test_a_file_in_val_and_test_is_refused(tmp_path: Path) -> None:
    data = write_tree(tmp_path, {"train/ant": 4, "val/ant": 2, "test/ant": 2})
    (data / "test" / "ant" / "hard.jpg").hardlink_to(data / "val" / "ant" / "000.jpg")
    with pytest.raises(DataAmbiguous, match="in the val split and in the test split"):
        opened(data)


def test_what_files_say_of_themselves_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataCorrupt, match=r"labels 0\.\.5 do not fit 2 classes"):
        opened(write_packed(tmp_path / "a.arrow", [0, 5], 1))
    file = write_parquet(tmp_path / "a.parquet", [0, 1, 0])
    monkeypatch.setattr(parquet_module, "_read_column", lambda *_: pa.chunked_array([[0, 1]]))
    with pytest.raises(DataCorrupt, match=r"expected  3 labels\n.*got       2"):
        opened(file)


def test_files_that_only_seem_to_be_one_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_tree(tmp_path, {"train/ant": 4, "test/ant": 2})
    monkeypatch.setattr(folder_walk, "identity_of", lambda device, inode: 7)
    assert counts(opened(data)) == (4, None, 2)


def test_two_classes_of_one_name_cannot_be_told_apart_by_name(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [0, 1, 2], names=["crane", "crane", "ant"])
    write_parquet(tmp_path / "val.parquet", [0, 1], names=["crane", "crane", "ant"])
    assert opened(tmp_path).train.labels.tolist() == [0, 1, 2]
    write_parquet(tmp_path / "val.parquet", [0, 1], names=["ant", "crane"])
    with pytest.raises(ClassMismatch, match="two classes have one name"):
        opened(tmp_path)


def test_one_split_is_opened_as_it_is_on_disk(tmp_path: Path) -> None:
    write_tree(tmp_path, {"ant": 10, "bee": 10})
    assert len(open_samples(str(tmp_path))) == 20
    for split in ("val", "test"):
        with pytest.raises(DataMissing, match=f"no {split} split"):
            open_samples(str(tmp_path), split)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad",
    [
        {"val_fraction": 1.0},
        {"val_fraction": -0.1},
        {"val_fraction": float("nan")},
        {"fraction": 0.0},
        {"fraction": 1.1},
        {"fraction": float("nan")},
        {"labelled_fraction": -1e-9},
        {"labelled_fraction": float("inf")},
        {"labelled_fraction": True},
        {"subset_seed": -1},
        {"subset_seed": 1 << 63},
        {"subset_seed": 1.0},
        {"train_split": ""},
        {"val_data": 3},
    ],
)
def test_choices_out_of_range_are_refused_in_one_line(bad: dict[str, Any]) -> None:
    with pytest.raises(ChoiceError, match=f"^--{next(iter(bad)).replace('_', '-')} ") as caught:
        DataChoice(**bad)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_choice_survives_json_and_opens_the_same_again() -> None:
    found = open_data("digits", DataChoice(fraction=0.5, val_split="val", subset_seed=3))
    again = DataChoice.from_json(found.choice.to_json())
    assert again == found.choice
    assert open_data("digits", again).train.digest == found.train.digest


def test_labels_as_pandas_writes_them_are_numbers_and_gaps(tmp_path: Path) -> None:
    """A column of integers with gaps becomes floats; a missing word is often an empty one."""
    images = [encoded(photo(i, 9, 9), "PNG") for i in range(6)]
    for name, labels, classes, expected in [
        ("floats", [0.0, 1.0, float("nan"), 2.0, -1.0, None], ("0", "1", "2"), [0, 1, -1, 2, -1, -1]),
        ("words", ["a", "", "b", "-1", "a", None], ("a", "b"), [0, -1, 1, -1, 0, -1]),
    ]:
        file = tmp_path / f"{name}.parquet"
        parquet.write_table(pa.table({"image": images, "label": labels}), file)
        table = open_samples(str(file))
        assert table.class_names == classes
        assert table.labels.tolist() == expected


@pytest.mark.parametrize("names", [("trainset", "testset"), ("TrainImages", "TestImages"), ("train_set", "Test-Set")])
def test_a_split_is_known_by_names_that_run_into_their_word(names: tuple[str, str], tmp_path: Path) -> None:
    for split, count in zip(names, (4, 3), strict=True):
        for label, name in enumerate(("ant", "bee")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                data = encoded(photo(10 * label + i + 100 * count, 9, 9), "PNG")
                (tmp_path / split / name / f"{i}.png").write_bytes(data)
    assert open_samples(str(tmp_path)).class_names == ("ant", "bee")
    assert (len(open_samples(str(tmp_path), "train")), len(open_samples(str(tmp_path), "test"))) == (8, 6)


def test_links_to_files_that_are_counted_are_left_out_and_said(tmp_path: Path) -> None:
    for label, name in enumerate(("ant", "bee")):
        (tmp_path / name).mkdir()
        for i in range(6):
            (tmp_path / name / f"{i}.png").write_bytes(encoded(photo(10 * label + i, 9, 9), "PNG"))
            (tmp_path / name / f"x{i}.png").symlink_to(f"{i}.png")
    (tmp_path / "bee" / "zz.png").symlink_to("../ant/0.png")  # the same image under another class
    found = open_data(str(tmp_path))
    assert len(found.train) + len(found.val or ()) == 12
    assert any("links to what is counted already: 13" in line for line in found.lines)
