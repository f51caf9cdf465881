"""Each source gives the same samples in the same order, whatever the files look like."""

import gzip
import json
import pickle
import struct
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from numpy.typing import NDArray
from PIL import Image
from view_images import encoded, photo

from deit_pipe.pipeline.decode import decode
from deit_pipe.pipeline.errors import BadImage, DataCorrupt, DataMissing
from deit_pipe.pipeline.samples import ArraySamples, KeyList, SampleTable
from deit_pipe.pipeline.sources import packed as packed_module
from deit_pipe.pipeline.sources.kept import row_groups
from deit_pipe.pipeline.sources.open_samples import open_samples
from deit_pipe.pipeline.sources.packed import pack_samples

CLASSES = ["ant", "bee", "cat"]


def write_folder(root: Path, count: int = 10) -> list[bytes]:
    """Class folders with JPEG files; returns the files in sample order."""
    written = []
    for label, name in enumerate(CLASSES):
        (root / name / "more").mkdir(parents=True)
        for i in range(count):
            data = encoded(photo(100 * label + i, 30, 20), "JPEG")
            where = root / name / ("more" if i % 4 == 3 else ".") / f"{i:02}.jpg"
            where.write_bytes(data)
            written.append((where.relative_to(root).as_posix(), data))
        (root / name / "notes.txt").write_text("not an image")
    (root / ".hidden").mkdir()
    return [data for _, data in sorted(written)]


def all_bytes(table: SampleTable) -> list[bytes]:
    return [image if isinstance(image := table.read(i), bytes) else image.tobytes() for i in range(len(table))]


def test_digits_are_the_embedded_1797_in_a_fixed_split() -> None:
    train, val = open_samples("digits", "train"), open_samples("digits", "val")
    assert (len(train), len(val)) == (1437, 360)
    assert train.class_names == tuple("0123456789")
    assert np.bincount(val.labels).min() >= 34
    assert train.read(0).shape == (8, 8)  # type: ignore[union-attr]
    assert set(train.keys).isdisjoint(val.keys)
    assert train.digest.startswith("8ab0f72e")
    assert int(train.byte_sizes.sum()) == 1437 * 64


def test_digits_are_scikit_learns() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    for split in ("train", "val"):
        table = open_samples("digits", split)
        rows = [int(key.split()[1]) for key in table.keys]
        np.testing.assert_array_equal(table.labels, labels[rows])
        scaled = np.stack([table.read(i) for i in range(len(table))]).reshape(-1, 64)
        np.testing.assert_array_equal(scaled, np.floor(images[rows] * 255 / 16 + 0.5).astype(np.uint8))


def test_class_folders_are_sorted_and_splits_are_found(tmp_path: Path) -> None:
    files = write_folder(tmp_path / "train")
    write_folder(tmp_path / "validation", 2)
    table = open_samples(str(tmp_path))
    assert all_bytes(table) == files
    assert table.class_names == tuple(CLASSES)
    assert table.labels.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert list(table.keys) == sorted(table.keys)
    assert table.keys[3] == "ant/04.jpg"
    assert table.byte_sizes.tolist() == [len(data) for data in files]
    assert len(open_samples(str(tmp_path), "val")) == 6


def test_bare_class_folders_have_no_validation_split(tmp_path: Path) -> None:
    write_folder(tmp_path)
    assert len(open_samples(str(tmp_path))) == 30
    with pytest.raises(DataMissing, match="--val-data") as caught:
        open_samples(str(tmp_path), "val")
    assert caught.value.exit_code == 3


def test_folders_without_images_or_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="no data at"):
        open_samples(str(tmp_path / "none"))
    with pytest.raises(DataMissing, match="no images that we know"):
        open_samples(str(tmp_path))
    (tmp_path / "loose.jpg").write_bytes(encoded(photo(1, 9, 9)))
    with pytest.raises(DataMissing, match="no images that we know"):
        open_samples(str(tmp_path))
    write_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataMissing, match="no images in the class folder"):
        open_samples(str(tmp_path))


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    table = open_samples(str(tmp_path))
    (tmp_path / "ant" / "00.jpg").unlink()
    with pytest.raises(BadImage, match=r"sample 0 \(ant/00.jpg\)"):
        table.read(0)


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize("packer", [lambda data: data, gzip.compress])
@pytest.mark.parametrize("dot", "-.")
def test_idx_files_plain_or_gzipped(tmp_path: Path, packer: object, dot: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    labels = (np.arange(20) % 10).astype(np.uint8)
    end = "" if packer(b"") == b"" else ".gz"  # type: ignore[operator]
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    for prefix in ("train", "t10k"):
        (folder / f"{prefix}-images{dot}idx3-ubyte{end}").write_bytes(packer(idx_bytes(pixels)))  # type: ignore[operator]
        (folder / f"{prefix}-labels{dot}idx1-ubyte{end}").write_bytes(packer(idx_bytes(labels)))  # type: ignore[operator]
    table = open_samples(str(folder), "test")
    assert table.class_names[9] == "Ankle boot"
    np.testing.assert_array_equal(table.labels, labels)
    np.testing.assert_array_equal(np.stack([table.read(i) for i in range(20)]), pixels)


def test_idx_damage_is_found(tmp_path: Path) -> None:
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    good = idx_bytes(np.zeros((3, 4, 4), np.uint8))
    labels.write_bytes(idx_bytes(np.zeros(3, np.uint8)))
    for bad in (good[:-1], good + b"x", b"\x00\x00\x0d\x03" + good[4:], b""):
        images.write_bytes(bad)
        with pytest.raises(DataCorrupt) as caught:
            open_samples(str(tmp_path))
        assert caught.value.exit_code == 5
    images.write_bytes(idx_bytes(np.zeros((4, 4, 4), np.uint8)))
    with pytest.raises(DataCorrupt, match="do not belong together"):
        open_samples(str(tmp_path))
    images.write_bytes(good)
    assert open_samples(str(tmp_path)).class_names == ("0",)
    with pytest.raises(DataMissing, match="no val split"):
        open_samples(str(tmp_path), "val")


def hf_table(images: Iterable[bytes], labels: NDArray[np.int64]) -> pa.Table:
    rows = [{"bytes": data, "path": None} for data in images]
    struct_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    about = {"info": {"features": {"label": {"names": CLASSES, "_type": "ClassLabel"}}}}
    table = pa.table({"image": pa.array(rows, struct_type), "label": labels})
    return table.replace_schema_metadata({"huggingface": json.dumps(about)})


def test_a_folder_and_its_parquet_and_packed_copies_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_folder(tmp_path / "folder")
    folder = open_samples(str(tmp_path / "folder"))
    (tmp_path / "hf" / "data").mkdir(parents=True)
    whole = hf_table(files, folder.labels)
    for part, (start, stop) in enumerate([(0, 13), (13, 30)]):
        name = f"train-{part:05}-of-00002.parquet"
        parquet.write_table(whole.slice(start, stop - start), tmp_path / "hf" / "data" / name, row_group_size=4)
    parquet.write_table(whole.slice(0, 5), tmp_path / "hf" / "data" / "validation-0.parquet")
    monkeypatch.setattr(packed_module, "ROWS", 7)
    monkeypatch.setattr(row_groups, "KEPT_BYTES", 5000)
    (tmp_path / "packed").mkdir()
    pack_samples(folder, tmp_path / "packed" / "train.arrow")
    pack_samples(folder, tmp_path / "raw.arrow", raw=True)
    tables = [open_samples(str(tmp_path / name)) for name in ("hf", "packed", "raw.arrow")]
    for table in [*tables, *[pickle.loads(pickle.dumps(table)) for table in tables]]:
        assert table.digest == folder.digest
        assert table.class_names == folder.class_names
        np.testing.assert_array_equal(table.labels, folder.labels)
        order = np.random.default_rng(0).permutation(30)
        for sample in order.tolist():
            np.testing.assert_array_equal(np.asarray(decode(table.read(sample))), np.asarray(decode(files[sample])))
    assert tables[0].byte_sizes.tolist() == folder.byte_sizes.tolist() == tables[1].byte_sizes.tolist()
    assert tables[2].byte_sizes.tolist() == [30 * 20 * 3] * 30
    assert list(tables[1].keys) == list(folder.keys)
    assert len(open_samples(str(tmp_path / "hf"), "val")) == 5
    for name in ("packed", "raw.arrow"):
        with pytest.raises(DataMissing, match="no val split"):
            open_samples(str(tmp_path / name), "val")


def test_parquet_without_declared_names_and_with_words_as_labels(tmp_path: Path) -> None:
    images = [encoded(photo(i, 9, 9), "PNG") for i in range(4)]
    parquet.write_table(pa.table({"img": images, "label": [3, 0, 1, 3]}), tmp_path / "numbers.parquet")
    table = open_samples(str(tmp_path / "numbers.parquet"))
    assert table.class_names == ("0", "1", "2", "3")
    assert table.read(2) == images[2]
    parquet.write_table(pa.table({"img": images, "label": ["b", "a", "b", "c"]}), tmp_path / "words.parquet")
    table = open_samples(str(tmp_path / "words.parquet"))
    assert table.labels.tolist() == [1, 0, 1, 2]
    for columns, message in [
        ({"picture": images, "label": [0] * 4}, "no image column"),
        ({"img": images, "label": [0, -2, 1, 2]}, "do not fit"),
        ({"img": images, "label": [[0], [1], [0], [1]]}, "no label column"),
    ]:
        parquet.write_table(pa.table(columns), tmp_path / "bad.parquet")
        with pytest.raises(DataCorrupt, match=message):
            open_samples(str(tmp_path / "bad.parquet"))


@pytest.mark.parametrize(
    ("labels", "expected", "classes"),
    [
        ([0, None, 1, 2], [0, -1, 1, 2], 3),
        ([0, -1, 1, 2], [0, -1, 1, 2], 3),
        (["b", None, "a", "b"], [1, -1, 0, 1], 2),
        ([0.0, None, 1.0, float("nan")], [0, -1, 1, -1], 2),
    ],
)
def test_a_null_or_minus_one_is_an_unlabelled_image(
    tmp_path: Path, labels: list[object], expected: list[int], classes: int
) -> None:
    images = [encoded(photo(i, 9, 9), "PNG") for i in range(4)]
    parquet.write_table(pa.table({"img": images, "label": labels}), tmp_path / "some.parquet")
    table = open_samples(str(tmp_path / "some.parquet"))
    assert table.labels.tolist() == expected
    assert len(table.class_names) == classes
    assert table.num_labelled == 4 - expected.count(-1)


def test_cifar_binary_files(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    pixels = draw.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    labels = draw.integers(0, 10, 10).astype(np.uint8)
    records = [bytes([label]) + image.transpose(2, 0, 1).tobytes() for label, image in zip(labels, pixels, strict=True)]
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for part in range(5):
        (folder / f"data_batch_{part + 1}.bin").write_bytes(b"".join(records[2 * part : 2 * part + 2]))
    (folder / "batches.meta.txt").write_text("\n".join(f"class{i}" for i in range(10)) + "\n\n")
    table = open_samples(str(tmp_path))
    np.testing.assert_array_equal(np.stack([table.read(i) for i in range(10)]), pixels)
    np.testing.assert_array_equal(table.labels, labels)
    assert table.class_names[3] == "class3"
    with pytest.raises(DataMissing, match="no test split"):
        open_samples(str(tmp_path), "test")
    (folder / "test_batch.bin").write_bytes(records[0][:-1])
    with pytest.raises(DataCorrupt, match="odd size"):
        open_samples(str(tmp_path), "test")
    (folder / "test_batch.bin").write_bytes(bytes([10]) + records[0][1:])
    with pytest.raises(DataCorrupt, match="labels up to 10"):
        open_samples(str(tmp_path), "test")
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(DataMissing, match=r"data_batch_3\.bin"):
        open_samples(str(tmp_path))
    hundred = tmp_path / "hundred"
    hundred.mkdir()
    (hundred / "fine_label_names.txt").write_text("\n".join(f"fine{i}" for i in range(100)))
    (hundred / "train.bin").write_bytes(b"".join(bytes([19, 42]) + record[1:] for record in records))
    table = open_samples(str(hundred))
    assert set(table.labels.tolist()) == {42}
    np.testing.assert_array_equal(table.read(4), pixels[4])
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "data_batch_1").write_bytes(b"\x80\x02")
    with pytest.raises(DataMissing, match="pickle can run any code"):
        open_samples(str(pickled))


def test_a_packed_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.arrow").write_bytes(b"ARROW1 but not really")
    with pytest.raises(DataCorrupt, match="not a packed file"):
        open_samples(str(tmp_path))


def test_packing_reports_progress_and_keeps_raw_grey_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (300, 5, 4), dtype=np.uint8)
    table = ArraySamples("grey", pixels, np.zeros(300, np.int64), ["only"])
    done: list[int] = []
    pack_samples(table, tmp_path / "a.arrow", progress=done.append)
    assert done == [256, 300]
    again = open_samples(str(tmp_path / "a.arrow"))
    assert again.digest == table.digest
    np.testing.assert_array_equal(np.stack([again.read(i) for i in range(300)]), pixels)


def test_key_list_is_a_sequence_of_strings_and_small_when_pickled() -> None:
    words = ["", "a/b.jpg", "naïve/ü.png", "x" * 50, ""]
    keys = KeyList(words)
    assert list(keys) == words
    assert keys[-2] == words[-2]
    assert keys[1:3] == words[1:3]
    assert words[2] in keys
    with pytest.raises(IndexError):
        keys[5]
    many = KeyList(f"n{i:08}/n{i:08}_{i}.JPEG" for i in range(10_000))
    assert len(pickle.dumps(many)) < 45 * 10_000


def test_digest_depends_on_count_classes_labels_and_order() -> None:
    def digest(labels: list[int], names: str) -> str:
        table = ArraySamples("x", np.zeros((len(labels), 1, 1), np.uint8), np.asarray(labels), list(names))
        return table.digest

    digests = [
        digest([0, 1, 1], "ab"),
        digest([0, 1], "ab"),
        digest([1, 0, 1], "ab"),
        digest([0, 1, 1], "ac"),
    ]
    assert len(set(digests)) == 4
    assert digests[0] == digest([0, 1, 1], "ab")


def test_raw_images_are_what_pillow_makes_of_them() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (6, 5), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    np.testing.assert_array_equal(np.asarray(decode(buffer.getvalue())), np.asarray(decode(pixels)))
