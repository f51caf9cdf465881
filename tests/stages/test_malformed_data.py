"""Data sets and data options that cannot work: one message each, the right exit code, no traceback, quickly."""

import gzip
import io
import json
import os
import struct
import tarfile
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from click.testing import CliRunner
from split_fakes import write_cifar, write_idx, write_packed, write_parquet, write_tree
from view_images import encoded, photo

from deit_pipe.cli import main
from deit_pipe.pipeline.sources.open_samples import open_samples

PICTURE = encoded(photo(1, 16, 16))
Words = Sequence[str]


def tree(**folders: int) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        write_tree(root, {name.replace("__", "/"): count for name, count in folders.items()})

    return write


def files(content: Mapping[str, bytes | str]) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for name, data in content.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data.encode() if isinstance(data, str) else data)

    return write


def flat(table: str | bytes, name: str = "labels.csv") -> Callable[[Path], None]:
    return files({"a.jpg": PICTURE, "b.jpg": PICTURE, "sub/b.jpg": PICTURE, name: table})


def tar(members: Mapping[str, bytes], name: str = "train.tar") -> Callable[[Path], None]:
    def write(root: Path) -> None:
        with tarfile.open(root / name, "w") as shard:
            for member, data in members.items():
                head = tarfile.TarInfo(member)
                head.size = len(data)
                shard.addfile(head, io.BytesIO(data))

    return write


def rows(name: str, **columns: Sequence[object]) -> Callable[[Path], None]:
    return lambda root: parquet.write_table(pa.table(columns), root / name)


def together(*writers: Callable[[Path], object]) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for writer in writers:
            writer(root)

    return write


def after(writer: Callable[[Path], object], change: Callable[[Path], object]) -> Callable[[Path], None]:
    return together(writer, change)


def cut(name: str, length: int) -> Callable[[Path], None]:
    return lambda root: os.truncate(root / name, length)


def idx_head(root: Path, kind: int, *shape: int) -> None:
    head = struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape)
    (root / "train-images-idx3-ubyte").write_bytes(head)


def listed(text: str | bytes) -> Callable[[Path], None]:
    return together(CLASSES, files({"list.txt": text}))


CLASSES = tree(ant=3, bee=3)
GOOD_TAR = {"a.jpg": PICTURE, "a.cls": b"0", "b.jpg": PICTURE, "b.cls": b"1"}
NO_ROWS = {"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}
PARQUET = rows("train.parquet", image=[b"a", b"b"], label=[0, 1])

# name: (what is written, options, exit code, words of the message)
CASES: dict[str, tuple[Callable[[Path], object], Words, int, str]] = {
    # class folders
    "nothing there": (lambda root: root.rmdir(), (), 3, "no data at"),
    "an empty folder": (lambda root: None, (), 3, "no images that we know how to read"),
    "a text file": (files({"notes.txt": "x"}), (), 3, "no images that we know how to read"),
    "images without classes": (files({"a.jpg": PICTURE}), (), 3, "no images that we know how to read"),
    "splits without classes": (tree(train=3, test=2), (), 3, "are in no class folder"),
    "splits without classes, but a table": (
        together(tree(train=3), files({"train.csv": "x"})),
        (),
        3,
        "name the table, as CSV or Parquet: --labels",
    ),
    "an unclear folder": (tree(train=3, ant=3), (), 2, "split or class?"),
    "two training splits": (tree(train_a__ant=2, train_b__ant=2), (), 2, "which images of"),
    "a split among the classes": (tree(ant__train=2, ant__test=2, bee=2), (), 2, "a split where a class should be"),
    "another class in val": (
        tree(train__ant=2, train__bee=2, val__cat=2),
        (),
        4,
        "a class that training does not know",
    ),
    "a table beside one folder": (
        together(tree(images=2), files({"annotations.tsv": "x"})),
        (),
        2,
        "one folder of images and a table",
    ),
    "only unlabelled": (tree(unlabelled=2), (), 3, "no class folders"),
    # options
    "no such training split": (CLASSES, ("--train-split", "extra"), 3, "no split extra"),
    "no such validation split": (CLASSES, ("--val-split", "dev2"), 3, "no split dev2"),
    "train as val": (tree(train__a=2, test__a=2), ("--val-split", "train"), 2, "cannot be both train and val"),
    "an empty split name": (CLASSES, ("--train-split", ""), 2, "is no name"),
    "a column of folders": (CLASSES, ("--image-column", "x"), 2, "is for Parquet files and label tables"),
    "a label column of folders": (CLASSES, ("--label-column", "x"), 2, "is for Parquet files, label tables and tar"),
    "validation images that are not there": (CLASSES, ("--val-data", "nowhere"), 3, "no data at nowhere"),
    "no workers": (CLASSES, ("--deep", "--workers", "0"), 2, "--workers cannot be 0"),
    # exclude lists
    "no list": (CLASSES, ("--exclude", "none.txt"), 3, "no exclude list"),
    "a list that is a folder": (CLASSES, ("--exclude", "."), 2, "cannot be read"),
    "a list of bytes": (listed(b"a\0b"), ("--exclude", "D/list.txt"), 2, "is no list of images"),
    "half a string": (listed('"train/ant\n'), ("--exclude", "D/list.txt"), 2, "line 1 of the exclude list"),
    "a name of nothing": (listed("train/ant/01.jpg"), ("--exclude", "D/list.txt"), 3, "nearest   train/ant/001.jpg"),
    "a list of a whole class": (
        listed("\n".join(f"ant/00{i}.jpg" for i in range(3))),
        ("--exclude", "D/list.txt"),
        2,
        "without an image: ant",
    ),
    # label tables
    "a table that is not there": (CLASSES, ("--labels", "none.csv"), 3, "no table of labels none.csv"),
    "a table of another kind": (flat("x", "labels.json"), ("--labels", "D/labels.json"), 5, "not a table of labels"),
    "a table for no folder": (PARQUET, ("--labels", "D/x.csv"), 3, "no table of labels"),
    "an empty table": (flat(""), (), 3, "no rows in"),
    "a table of names only": (flat("file,label\n"), (), 3, "no rows in"),
    "no file column": (flat("what,label\na.jpg,0\n"), (), 3, "no file column"),
    "no label column": (flat("file,what\na.jpg,0\n"), (), 3, "no label column"),
    "two file columns": (flat("file,path,label\na.jpg,a.jpg,0\n"), (), 2, "which column of"),
    "two label columns": (flat("file,label,class\na.jpg,0,1\n"), (), 2, "which column of"),
    "columns of one name": (flat("file,label,label\na.jpg,0,1\n"), (), 2, "two columns of"),
    "a column that is not there": (flat("file,label\na.jpg,0\n"), ("--label-column", "x"), 3, "no column x in"),
    "a short row": (flat("file,label\na.jpg\n"), (), 5, "row 2 of"),
    "an open quote": (flat('file,label\n"a.jpg,0\n'), (), 5, "not CSV"),
    "a table in another encoding": (flat("file,label\nä.jpg,0\n".encode("latin-1")), (), 5, "not UTF-8"),
    "a row without a file": (flat("file,label\n,0\n"), (), 5, "names no file"),
    "files that are not there": (flat("file,label\nx.jpg,0\na.jpg,1\n"), (), 3, "1 of the 2 images of"),
    "a file outside": (flat("file,label\n../a.jpg,0\n"), (), 3, "are not below"),
    "a name of two files": (flat("file,label\nb,0\n"), (), 2, "which image is b of"),
    "an image twice": (flat("file,label\na.jpg,x\na,y\n"), (), 2, "is twice in"),
    "a negative label": (flat("file,label\na.jpg,-3\nb.jpg,0\n"), (), 5, "label -3 of"),
    "a huge label": (flat("file,label\na.jpg,99999999999\n"), (), 5, "is no class number"),
    "no labels at all": (flat("file,label\na.jpg,\n"), (), 3, "no labels in the training split"),
    "two tables": (together(flat("file,label\na.jpg,0\n"), flat("x", "metadata.csv")), (), 2, "which table holds"),
    "a broken Parquet table": (flat("PAR1", "labels.parquet"), (), 5, "not a Parquet file"),
    # tar
    "half a tar": (after(tar(GOOD_TAR), cut("train.tar", 700)), (), 5, "not a whole tar file"),
    "no tar": (files({"train.tar": b"no tar file at all" * 99}), (), 5, "not a whole tar file"),
    "an empty tar file": (files({"train.tar": b""}), (), 5, "not a whole tar file"),
    "a compressed tar": (files({"train.tar.gz": gzip.compress(b"x")}), (), 5, "a compressed tar file"),
    "a tar without images": (tar({"readme.txt": b"x"}), (), 3, "no images in the tar files"),
    "a tar without labels": (tar({"a.jpg": PICTURE}), (), 3, "no image of the tar files"),
    "two images in a sample": (tar(GOOD_TAR | {"a.png": PICTURE}), (), 2, "two images in one sample"),
    "two labels in a sample": (tar(GOOD_TAR | {"a.json": b'{"label": 5}'}), (), 2, "has two labels"),
    "two keys of a label": (tar({"a.jpg": PICTURE, "a.json": b'{"label": 1, "class": 2}'}), (), 2, "is the label?"),
    "a label that is a list": (tar({"a.jpg": PICTURE, "a.json": b'{"label": [1]}'}), (), 5, "neither a number"),
    "broken JSON": (tar({"a.jpg": PICTURE, "a.json": b"{"}), (), 5, "not JSON"),
    "a label of bytes": (tar({"a.jpg": PICTURE, "a.cls": b"\xff"}), (), 5, "a label that is no text"),
    "a tar label key that is not there": (tar(GOOD_TAR), ("--label-column", "kind"), 0, "nothing is wrong"),
    # Parquet
    "no Parquet": (files({"train.parquet": b"PAR1 no PAR1"}), (), 5, "not a Parquet file"),
    "no image column": (rows("train.parquet", what=[b"a"], label=[0]), (), 5, "no image column"),
    "two image columns": (rows("train.parquet", image=[b"a"], img=[b"a"], label=[0]), (), 2, "which column of"),
    "an image column of numbers": (rows("train.parquet", image=[1], label=[0]), (), 5, "no image column"),
    "a Parquet column that is not there": (PARQUET, ("--label-column", "x"), 3, "no label column x"),
    "Parquet labels below -1": (rows("train.parquet", image=[b"a"], label=[-2]), (), 5, "do not fit"),
    "no rows": (rows("train.parquet", **NO_ROWS), (), 3, "no images in the training split"),
    "a part is missing": (rows("train-00000-of-00002.parquet", image=[b"a"], label=[0]), (), 3, "parts of the split"),
    "several data sets": (
        lambda root: [write_parquet(root / name / "train.parquet", [0, 1]) for name in "ab"],
        (),
        2,
        "several data sets",
    ),
    # others
    "half an IDX": (
        after(lambda root: write_idx(root, "train", [0, 1], 0), cut("train-images-idx3-ubyte", 18)),
        (),
        5,
        "another size than its header",
    ),
    "IDX of another type": (
        after(lambda root: write_idx(root, "train", [0], 0), lambda root: idx_head(root, 9, 1, 2, 2)),
        (),
        5,
        "not an IDX file of unsigned bytes",
    ),
    "an IDX that promises terabytes": (
        after(lambda root: write_idx(root, "train", [0], 0), lambda root: idx_head(root, 8, 2**31, 2**20, 2**20)),
        (),
        5,
        "another size than its header",
    ),
    "IDX pairs of other counts": (
        together(
            lambda root: write_idx(root, "train", [0, 1], 0, kinds=["images"]),
            lambda root: write_idx(root, "train", [0], 0, kinds=["labels"]),
        ),
        (),
        5,
        "do not belong together",
    ),
    "half a CIFAR": (
        after(lambda root: write_cifar(root / "data_batch_1.bin", [0, 1], 0), cut("data_batch_1.bin", 4000)),
        (),
        5,
        "data_batch_1.bin",
    ),
    "half a packed file": (
        after(lambda root: write_packed(root / "train.arrow", [0, 1], 0), cut("train.arrow", 500)),
        (),
        5,
        "not a packed file",
    ),
    "two kinds of data": (
        together(lambda root: write_packed(root / "train.arrow", [0, 1], 0), PARQUET),
        (),
        2,
        "packed Arrow and Parquet",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_message_and_the_right_exit_code(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, options, code, words = CASES[name]
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "D"
    data.mkdir()
    write(data)
    tracemalloc.start()
    begun = time.monotonic()
    result = CliRunner().invoke(main, ["check-data", "D", *options, "--json"])
    seconds, (_, most) = time.monotonic() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(result.exception, SystemExit) or result.exception is None, result.exception
    assert result.exit_code == code, result.output
    assert words in result.stderr if code else json.loads(result.stdout)["findings"] == []
    assert result.stderr.count("rror: ") == (code != 0)
    if code and not result.stderr.startswith("Usage"):
        error = json.loads(result.stdout)["error"]
        assert error["exit_code"] == code
        assert error["what"] in result.stderr
        assert error["cure"] or "expected" in error["what"]
    assert (seconds, most) < (10, 200 << 20)


def test_there_are_as_many_of_them_as_the_readme_says() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"| {len(CASES)} malformed data sets and data options" in readme


def test_bad_images_are_refused_by_the_commands_that_use_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tree(tmp_path / "D", {"ant": 2, "bee": 2})
    for words in (["show-views", "D"], ["pack", "--raw", "--data", "D", "-o", "x"]):
        result = CliRunner().invoke(main, words)
        assert isinstance(result.exception, SystemExit)
        assert result.exit_code == 6
        assert "ant/000.jpg" in result.output


def test_names_of_other_systems_are_sorted_by_their_code_points(tmp_path: Path) -> None:
    """The order of samples does not hang on the file system or the language of the machine."""
    names = ["Z.jpg", "a.jpg", "ä.jpg", "a\u0308.jpg", "b\\c.jpg", "10.jpg", "9.jpg"]
    for name in np.random.default_rng(0).permutation(names).tolist():
        (tmp_path / "D" / "ant").mkdir(parents=True, exist_ok=True)
        (tmp_path / "D" / "ant" / name).write_bytes(PICTURE)
    assert list(open_samples(str(tmp_path / "D")).keys) == [f"ant/{name}" for name in sorted(names)]
