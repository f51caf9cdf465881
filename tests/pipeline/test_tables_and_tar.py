"""Flat folders with a table of labels, and tar files: the same samples as class folders hold."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from split_fakes import image_bytes, write_tar
from view_images import encoded, photo

from deit_pipe.pipeline.cells import render_cells
from deit_pipe.pipeline.data_set import DataChoice, DataSet, open_data
from deit_pipe.pipeline.errors import BadImage, DataCorrupt
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.recipe import load_recipe
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.pipeline.sources.open_samples import open_samples
from deit_pipe.pipeline.sources.packed import pack_samples

CLASSES = ("ant", "bee", "cat")


def opened(data: Path | str, **choice: Any) -> DataSet:
    return open_data(str(data), DataChoice(**choice))


def images(count: int) -> list[tuple[str, bytes]]:
    """(class, file) in the order of class folders."""
    return [
        (name, encoded(photo(1000 * label + i, 24, 20), quality=60))
        for label, name in enumerate(CLASSES)
        for i in range(count)
    ]


def write_everything(root: Path, count: int) -> dict[str, Path]:
    """The same images in every form."""
    found = images(count)
    folder, flat = root / "folder", root / "flat"
    flat.mkdir(parents=True)
    lines = ["filename,label"]
    for i, (name, data) in enumerate(found):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"{i:04}.jpg").write_bytes(data)
        (flat / f"{i:04}.jpg").write_bytes(data)
        lines.append(f"{i:04}.jpg,{name}")
    (flat / "labels.csv").write_text("\n".join(lines) + "\n")
    table = root / "table"
    (table / "pictures").mkdir(parents=True)
    for i, (_, data) in enumerate(found):
        (table / "pictures" / f"{i:04}.jpg").write_bytes(data)
    rows = {"image_id": [f"{i:04}" for i in range(len(found))], "breed": [name for name, _ in found]}
    parquet.write_table(pa.table(rows), table / "labels.parquet")
    cut = len(found) // 2
    for shard, part in enumerate((range(cut), range(cut, len(found)))):
        members: dict[str, bytes] = {}
        for i in part:
            members[f"./{i:04}.cls"] = found[i][0].encode() + b"\n"
            members[f"./{i:04}.jpg"] = found[i][1]
        write_tar(root / "tar" / f"shard-{shard:05}.tar", members)
    with_json = {}
    for i, (name, data) in enumerate(found):
        with_json |= {f"{i:04}.JPG": data, f"{i:04}.json": json.dumps({"label": name, "other": 1}).encode()}
    write_tar(root / "json" / "all.tar", with_json)
    for kind, parts in (("one", [range(len(found))]), ("many", [range(cut), range(cut, len(found))])):
        (root / kind).mkdir()
        for number, part in enumerate(parts):
            columns = {"image": [found[i][1] for i in part], "label": [found[i][0] for i in part]}
            parquet.write_table(pa.table(columns), root / kind / f"train-{number:05}-of-{len(parts):05}.parquet")
    (root / "config" / "default" / "train").mkdir(parents=True)
    parquet.write_table(
        pa.table({"image": [data for _, data in found], "label": [name for name, _ in found]}),
        root / "config" / "default" / "train" / "0000.parquet",
    )
    (root / "packed").mkdir()
    pack_samples(open_samples(str(folder)), root / "packed" / "train.arrow")
    (root / "raw").mkdir()
    pack_samples(open_samples(str(folder)), root / "raw" / "train.arrow", raw=True)
    names = ("folder", "flat", "table", "tar", "json", "one", "many", "config", "packed", "raw")
    return {name: root / name for name in names}


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_everything(tmp_path_factory.mktemp("forms"), 20)


def fingerprints(table: SampleTable) -> list[int]:
    recipe = load_recipe("deit")
    plan = ViewPlan.for_recipe(len(table), recipe, 3)
    return render_cells(table, recipe, plan, Cells(0, np.arange(24)), 24).fingerprints.tolist()


@pytest.mark.parametrize("form", ["flat", "table", "tar", "json", "one", "many", "config", "packed", "raw"])
def test_the_same_images_are_the_same_samples_in_every_form(forms: dict[str, Path], form: str) -> None:
    expected, found = opened(forms["folder"]), opened(forms[form])
    assert found.train.digest == expected.train.digest
    assert found.train.class_names == CLASSES
    assert found.train.labels.tolist() == expected.train.labels.tolist()
    assert found.val is not None
    assert expected.val is not None
    assert (len(found.train), len(found.val)) == (54, 6)
    assert found.val.digest == expected.val.digest
    assert fingerprints(found.train) == fingerprints(expected.train)
    if form != "raw":
        assert image_bytes(found.train) == image_bytes(expected.train)
        assert found.train.byte_sizes.tolist() == expected.train.byte_sizes.tolist()
    if form == "tar":
        assert opened(forms[form], val_fraction=0).train.keys[:2] == ["0000", "0001"]
    again = pickle.loads(pickle.dumps(found.train))
    assert image_bytes(again) == image_bytes(found.train)


def picture(seed: int) -> bytes:
    return encoded(photo(seed, 12, 12))


def flat(root: Path, names: list[str], table: str | None, name: str = "labels.csv") -> Path:
    for i, file in enumerate(names):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(picture(i))
    if table is not None:
        (root / name).write_text(table, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("table", "labels", "classes"),
    [
        ("file,label\na.jpg,0\nb.jpg,2\n", [0, 2], ("0", "1", "2")),
        ("file,label\na.jpg,\nb.jpg,2\n", [-1, 2], ("0", "1", "2")),
        ("file,label\na.jpg,-1\nb.jpg,x\n", [-1, 0], ("x",)),
        ("file,label\na.jpg,007\nb.jpg,8\n", [0, 1], ("007", "8")),
        ("\ufefffile;label\r\nb.jpg;z\r\na.jpg;y\r\n", [1, 0], ("y", "z")),
        ("id\tspecies\nb\tz\na\ty\n", [1, 0], ("y", "z")),
        ('path,class\n"./a.jpg","y, z"\nb.jpg,z\n', [0, 1], ("y, z", "z")),
        ("a.jpg,0\nb.jpg,1\n", [0, 1], ("0", "1")),
        ("more,file,label\n1,a.jpg,x\n2,b.jpg,x\n", [0, 0], ("x",)),
    ],
)
def test_tables_as_people_write_them(tmp_path: Path, table: str, labels: list[int], classes: tuple[str, ...]) -> None:
    found = opened(flat(tmp_path, ["a.jpg", "b.jpg"], table), val_fraction=0)
    assert found.train.labels.tolist() == labels
    assert found.train.class_names == classes


def test_splits_are_a_column_or_folders(tmp_path: Path) -> None:
    names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    column = "file,label,split\na.jpg,x,train\nb.jpg,y,train\nc.jpg,y,valid\nd.jpg,x,test\n"
    found = opened(flat(tmp_path / "column", names, column))
    assert [list(t.keys) for t in (found.train, found.val, found.test) if t is not None] == [
        ["a.jpg", "b.jpg"],
        ["c.jpg"],
        ["d.jpg"],
    ]
    assert found.val is not None
    assert found.val.labels.tolist() == [1]
    folders = "file,label\ntrain/a.jpg,x\ntrain/b.jpg,y\ntest/c.jpg,y\n"
    found = opened(flat(tmp_path / "folders", ["train/a.jpg", "train/b.jpg", "test/c.jpg"], folders))
    assert (len(found.train), found.val, len(found.test or ())) == (2, None, 1)
    other = "file,label,split\na.jpg,x,one\nb.jpg,y,one\nc.jpg,y,two\n"
    data = flat(tmp_path / "other", names, other)
    assert len(opened(data, val_fraction=0).train) == 3
    assert len(opened(data, train_split="one", val_fraction=0).train) == 2
    found = opened(data, train_split="one", val_split="two")
    assert (len(found.train), len(found.val or ())) == (2, 1)
    assert any("images that the table does not name: 1, the first d.jpg" in line for line in found.lines)


def test_a_table_elsewhere_is_named_and_columns_too(tmp_path: Path) -> None:
    data = flat(tmp_path / "data", ["in/a.jpg", "in/b.jpg", "out/c.jpg"], None)
    table = tmp_path / "mine.csv"
    table.write_text("name,one,two\nin/a.jpg,x,p\nin/b.jpg,y,p\nout/c.jpg,x,q\n")
    found = opened(data, labels=str(table), image_column="name", label_column="two", val_fraction=0)
    assert found.train.labels.tolist() == [0, 0, 1]
    assert open_data(str(data)).train.class_names == ("in", "out")
    assert DataChoice.from_json(found.choice.to_json()) == found.choice


def test_beside_class_folders_a_table_is_only_a_file(tmp_path: Path) -> None:
    data = flat(tmp_path, ["x/a.jpg", "y/b.jpg"], "file,label\na.jpg,q\n")
    assert opened(data).train.class_names == ("x", "y")


def test_tar_splits_and_what_is_left_out(tmp_path: Path) -> None:
    both = {"a.jpg": picture(0), "a.cls": b"1", "b.png": picture(1), "b.cls": b"0"}
    write_tar(tmp_path / "cars-train-000000.tar", both | {"README": b"x", ".hidden.jpg": b"x", "lonely.cls": b"1"})
    write_tar(tmp_path / "cars-train-000001.tar", both | {"c.webp": picture(2), "c.seg.png": b"x"})
    write_tar(tmp_path / "cars-test-000000.tar", {"a.jpg": picture(0), "a.cls": b"1"})
    found = opened(tmp_path)
    assert (len(found.train), found.val, len(found.test or ())) == (5, None, 1)
    assert found.train.labels.tolist() == [1, 0, 1, 0, -1]
    assert found.train.keys[2] == "cars-train-000001/a"
    assert sum("tar samples without an image: 2" in line for line in found.lines) == 1


def test_members_in_any_order_belong_together(tmp_path: Path) -> None:
    members = {f"{i}.jpg": picture(i) for i in range(4)} | {f"{i}.cls": b"%d" % (i % 2) for i in range(4)}
    file = write_tar(tmp_path / "x.tar", members)
    found = opened(file, val_fraction=0)
    assert image_bytes(found.train) == [picture(i) for i in range(4)]
    assert found.train.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("how", ["a broken head", "joined by cat", "cut between members"])
def test_a_tar_file_whose_rest_would_be_missed_is_refused(tmp_path: Path, how: str) -> None:
    """Python's tarfile stops at each of them as at the end."""
    file = write_tar(tmp_path / "x.tar", {f"{i}.{kind}": b"1" for i in range(6) for kind in ("jpg", "cls")})
    assert len(opened(file, val_fraction=0).train) == 6
    whole = bytearray(file.read_bytes())
    if how == "a broken head":
        whole[6 * 1024 + 3] ^= 4  # of 3.jpg
    elif how == "joined by cat":
        whole *= 2
    else:
        del whole[6 * 1024 :]
    file.write_bytes(whole)
    with pytest.raises(DataCorrupt, match="not a whole tar file"):
        opened(file, val_fraction=0)


@pytest.mark.parametrize("how", ["shorter", "same size, in place", "same size, another file"])
def test_a_tar_file_changed_while_it_is_used_never_gives_images_to_the_old_labels(tmp_path: Path, how: str) -> None:
    file = write_tar(tmp_path / "x.tar", {"a.jpg": picture(0), "a.cls": b"0"})
    table = pickle.loads(pickle.dumps(opened(file, val_fraction=0).train))  # as a worker has it
    before = file.read_bytes()
    assert table.read(0) == picture(0)
    if how == "same size, another file":
        file.unlink()
    file.write_bytes(before[:600] if how == "shorter" else before[:600] + b"?" + before[601:])
    os.utime(file, ns=(1, 1))
    with pytest.raises(DataCorrupt, match="was changed after it was opened"):
        table.read(0)
    file.unlink()
    with pytest.raises(BadImage, match=r"sample 0 \(a\).*No such file"):
        table.read(0)
