"""What a second start reads of the data again, and that no change is missed for it."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from split_fakes import write_tar

from deit_pipe.pipeline.data_set import DataChoice, DataSet, open_data
from deit_pipe.pipeline.errors import BadImage
from deit_pipe.pipeline.sources import tar_shards
from deit_pipe.pipeline.sources.kept import own_folder, shard_index

COUNT = 12


def members(count: int = COUNT, salt: bytes = b"") -> dict[str, bytes]:
    found = {"README": b"x", "lonely.cls": b"1", "\udcff.jpg": b"odd", ".hidden.jpg": b""}
    for i in range(count):
        found |= {
            f"{i:04}.jpg": b"image %d" % i + salt,
            f"{i:04}.json": b'{"label": "%s", "size": %d}' % (b"xy"[i % 2 :][:1], i),
        }
    return found


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    monkeypatch.setattr(own_folder, "SETTLED_NS", -(10**15))
    monkeypatch.setattr(shard_index, "FEWEST", 1)
    return tmp_path / "own" / "deit-pipe"


@pytest.fixture
def shards_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    real: Callable[..., Any] = tar_shards._read_shard

    def counting(file: Path, *others: Any) -> Any:
        names.append(file.name)
        return real(file, *others)

    monkeypatch.setattr(tar_shards, "_read_shard", counting)
    return names


def opened(data: Path, **choice: Any) -> DataSet:
    return open_data(str(data), DataChoice(val_fraction=0, **choice))


def everything(found: DataSet) -> tuple[Any, ...]:
    table = found.train
    images = [table.read(sample) for sample in range(len(table))]
    return found.lines, list(table.keys), table.labels.tolist(), table.class_names, images, table.byte_sizes.tolist()


def test_the_heads_of_a_shard_are_read_once(tmp_path: Path, own: Path, shards_read: list[str]) -> None:
    for part in range(2):
        write_tar(tmp_path / "data" / f"x-{part:05}.tar", members())
    first = everything(opened(tmp_path / "data"))
    assert len(first[1]) == 2 * (COUNT + 1)
    assert first[2].count(-1) == 2
    assert any("without an image: 4" in line for line in first[0])
    assert sorted(shards_read) == ["x-00000.tar", "x-00001.tar"]
    shards_read.clear()
    assert everything(opened(tmp_path / "data")) == first
    assert shards_read == []
    opened(tmp_path / "data", label_column="size")  # another question
    assert len(shards_read) == 2


@pytest.mark.parametrize("change", ["label", "image", "added", "renamed shard", "moved"])
def test_a_changed_shard_is_read_again_whatever_its_times_say(
    tmp_path: Path, own: Path, shards_read: list[str], change: str
) -> None:
    file = tmp_path / "data" / "x.tar"
    write_tar(file, members())
    before, about = everything(opened(file.parent)), file.stat()
    shards_read.clear()
    changed = members()
    if change == "label":
        changed["0003.json"] = changed["0003.json"].replace(b'"y"', b'"x"')
    elif change == "image":
        changed["0003.jpg"] = b"IMAGE 3"
    elif change == "added":
        changed |= {"zz.jpg": b"more", "zz.json": b'{"label": "x"}'}
    if change in ("renamed shard", "moved"):
        target = file.with_name("y.tar") if change == "renamed shard" else tmp_path / "other" / "x.tar"
        target.parent.mkdir(exist_ok=True)
        file = file.rename(target)
        assert everything(opened(file.parent))[1:] == before[1:]
    else:
        write_tar(file, changed)
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
        assert everything(opened(file.parent)) != before
    assert len(shards_read) == 1


def test_a_shard_changed_a_moment_ago_is_not_kept(
    tmp_path: Path, own: Path, shards_read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_folder, "SETTLED_NS", 10**18)
    write_tar(tmp_path / "x.tar", members())
    for _ in range(2):
        opened(tmp_path / "x.tar")
    assert len(shards_read) == 2
    assert not own.exists() or not list(own.rglob("*.index"))


def test_a_shard_that_settles_while_it_is_read_is_not_kept(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been written again after its beginning was read, at the same time by the file system's clock."""
    real: Callable[..., Any] = tar_shards._read_shard

    def slow(*args: Any) -> Any:
        found = real(*args)
        monkeypatch.setattr(own_folder, "SETTLED_NS", -(10**15))
        return found

    monkeypatch.setattr(tar_shards, "_read_shard", slow)
    monkeypatch.setattr(own_folder, "SETTLED_NS", 10**18)
    write_tar(tmp_path / "x.tar", members())
    opened(tmp_path / "x.tar")
    assert not own.exists() or not list(own.rglob("*.index"))


@pytest.mark.parametrize("fault", ["flipped", "shorter", "empty", "foreign", "folder", "forbidden", "others"])
def test_a_damaged_index_is_as_if_it_were_not_there(
    tmp_path: Path, own: Path, shards_read: list[str], fault: str
) -> None:
    write_tar(tmp_path / "x.tar", members())
    first = everything(opened(tmp_path / "x.tar"))
    (file,) = own.rglob("*.index")
    whole = file.read_bytes()
    shards_read.clear()
    if fault == "folder":
        file.unlink()
        file.mkdir()
    elif fault == "forbidden":
        own.rename(own.with_name("away"))
        own.write_text("a file")
    elif fault == "others":
        own.chmod(0o777)
    elif fault == "foreign":
        file.unlink()
        own_folder.write_whole(file, b"of another program")
    else:
        file.write_bytes(
            {"flipped": whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], "shorter": whole[:-1], "empty": b""}[fault]
        )
    assert everything(opened(tmp_path / "x.tar")) == first
    assert len(shards_read) == 1


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the file system was asked about an image, or an image was opened."""
    counts: Counter[str] = Counter()
    for module, name in ((Path, "stat"), (Path, "open"), (Path, "read_bytes"), (os, "stat"), (os, "lstat")):
        real: Callable[..., Any] = getattr(module, name)

        def counting(path: Any, *others: Any, real: Callable[..., Any] = real, name: str = name, **named: Any) -> Any:
            if str(path).endswith(".jpg"):
                counts[name] += 1
            return real(path, *others, **named)

        monkeypatch.setattr(module, name, counting)
    return counts


def write_folder(root: Path) -> Path:
    for i in range(COUNT):
        (root / "train" / "xy"[i % 2]).mkdir(parents=True, exist_ok=True)
        (root / "train" / "xy"[i % 2] / f"{i:03}.jpg").write_bytes(b"image %d" % i)
    return root


def test_the_files_of_a_folder_are_listed_and_never_asked_about(tmp_path: Path, asked: Counter[str]) -> None:
    data = write_folder(tmp_path / "data")
    asked.clear()
    table = opened(data).train
    assert len(table.digest) == 64
    assert len(list(table.keys)) == COUNT
    assert not asked
    assert table.byte_sizes.sum() > 0
    assert asked["stat"] >= COUNT


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "moved to another class"])
def test_a_changed_listing_is_seen_whatever_the_times_say(tmp_path: Path, change: str) -> None:
    data = write_folder(tmp_path / "data")
    folder = data / "train" / "x"
    before, about = list(opened(data).train.keys), folder.stat()
    if change == "added":
        (folder / "new.jpg").write_bytes(b"new")
    elif change == "removed":
        (folder / "004.jpg").unlink()
    elif change == "renamed":
        (folder / "004.jpg").rename(folder / "zzz.jpg")
    else:
        (folder / "004.jpg").rename(data / "train" / "y" / "004.jpg")
    os.utime(folder, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert list(opened(data).train.keys) != before


def test_an_image_that_went_after_the_listing_is_named(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data")
    table = opened(data).train
    (data / "train" / "x" / "004.jpg").unlink()
    with pytest.raises(BadImage, match=r"x/004\.jpg.*No such file"):
        table.read(2)


def test_reading_labels_starts_no_threads(tmp_path: Path) -> None:
    """A pool of threads that a process leaves behind may abort it, or keep it, when it ends."""
    (tmp_path / "data").mkdir()
    table = pa.table({"image": [b"x"] * COUNT, "label": [0, 1] * (COUNT // 2)})
    parquet.write_table(table, tmp_path / "data" / "train.parquet")
    (tmp_path / "flat").mkdir()
    names = [f"{i}.png" for i in range(4)]
    for name in names:
        (tmp_path / "flat" / name).write_bytes(b"x")
    parquet.write_table(pa.table({"file": names, "label": ["a", "b"] * 2}), tmp_path / "flat" / "labels.parquet")
    program = (
        "import sys, pyarrow.parquet; from pathlib import Path\n"
        "from deit_pipe.pipeline.data_set import DataChoice, open_data\n"
        "names = lambda: [one.read_text() for one in Path('/proc/self/task').glob('*/comm')]\n"
        "count = lambda: sum('jemalloc' not in name for name in names())  # that one is the allocator's\n"
        "before = count()\n"
        "found = [open_data(data, DataChoice(val_fraction=0)).train for data in sys.argv[1:]]\n"
        "found[0].read(3); found[0].byte_sizes\n"
        "print([len(one) for one in found], count() - before)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "data"), str(tmp_path / "flat")]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert out.stdout == f"[{COUNT}, 4] 0\n"
