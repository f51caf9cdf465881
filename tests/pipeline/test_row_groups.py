"""Parquet at random: what is decoded, how often, what is kept on the disk, and what is never believed."""

import multiprocessing
import os
import pickle
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from deit_pipe.pipeline.data_set import DataChoice, open_data
from deit_pipe.pipeline.errors import BadImage, DataCorrupt
from deit_pipe.pipeline.sources.kept import decoded_rows, own_folder, row_groups
from deit_pipe.pipeline.sources.open_samples import open_samples
from deit_pipe.pipeline.sources.parquet import ParquetSamples

ROWS, GROUP = 60, 10


def image(row: int, salt: int = 0) -> bytes:
    return random.Random(1000 * salt + row).randbytes(400 + row)


def write(folder: Path, salt: int = 0, files: int = 2) -> Path:
    folder.mkdir(exist_ok=True)
    for part in range(files):
        rows = range(part * ROWS // files, (part + 1) * ROWS // files)
        structs = [{"bytes": image(row, salt), "path": None} for row in rows]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({"image": pa.array(structs, kind), "label": [row % 3 for row in rows]})
        file = folder / f"train-{part:05}-of-{files:05}.parquet"  # of one size, whatever the images are
        parquet.write_table(table, file, row_group_size=GROUP, compression="none", write_statistics=False)
    return folder


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program's folder; memory for about two row groups; files count as settled at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    monkeypatch.setattr(row_groups, "KEPT_BYTES", 10_000)
    monkeypatch.setattr(own_folder, "SETTLED_NS", -(10**15))
    return tmp_path / "own" / "deit-pipe"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, int]]:
    """How often each row group was decoded."""
    counts: Counter[tuple[str, int]] = Counter()

    def counting(opened: Any, column: str, group: Any, file: Path) -> Iterator[Any]:
        counts[file.name, group.number] += 1
        return decoded_rows.decoded_rows(opened, column, group, file)

    monkeypatch.setattr(row_groups, "decoded_rows", counting)
    return counts


def shuffled(seed: int) -> list[int]:
    return random.Random(seed).sample(range(ROWS), ROWS)


def all_right(data: Path, salt: int = 0, passes: int = 2) -> ParquetSamples:
    table = open_samples(str(data))
    assert isinstance(table, ParquetSamples)
    for seed in range(passes):
        assert all(table.read(row) == image(row, salt) for row in shuffled(seed))
    return table


def kept_rows(own: Path) -> list[Path]:
    return sorted(own.rglob("*.rows"))


def test_at_random_no_row_group_is_decoded_more_than_twice_and_later_none(
    tmp_path: Path, own: Path, decoded: Counter[tuple[str, int]]
) -> None:
    data = write(tmp_path / "data")
    all_right(data, passes=4)
    assert len(kept_rows(own)) >= 4  # two may have stayed in memory
    assert max(decoded.values()) <= 2
    decoded.clear()
    all_right(data, passes=4)
    assert sum(decoded.values()) <= 2  # those two
    assert sorted(path.name for path in data.iterdir()) == [f"train-0000{part}-of-00002.parquet" for part in range(2)]


def test_read_from_end_to_end_or_small_it_leaves_nothing(
    tmp_path: Path, own: Path, decoded: Counter[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "data")
    table = open_samples(str(data))
    assert [table.read(row) for row in range(ROWS)] == [image(row) for row in range(ROWS)]
    monkeypatch.setattr(row_groups, "KEPT_BYTES", 1 << 20)
    all_right(data, passes=3)
    assert set(decoded.values()) == {2}  # once by each of the two
    assert kept_rows(own) == []


def test_a_row_group_larger_than_the_memory_is_unpacked_at_once(
    tmp_path: Path, own: Path, decoded: Counter[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_groups, "KEPT_BYTES", 1000)
    all_right(write(tmp_path / "data"))
    assert set(decoded.values()) == {1}
    assert len(kept_rows(own)) == 6


@pytest.mark.parametrize("fault", ["flipped", "shorter", "longer", "empty", "gone", "a folder"])
def test_damage_is_never_believed(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch, fault: str, decoded: Counter[tuple[str, int]]
) -> None:
    monkeypatch.setattr(row_groups, "KEPT_BYTES", 1000)
    data = write(tmp_path / "data")
    table = all_right(data)
    for file in kept_rows(own):
        whole = file.read_bytes()
        if fault in ("gone", "a folder"):
            file.unlink()
        if fault == "a folder":
            file.mkdir()
        elif fault != "gone":
            changed = {
                "flipped": bytes([whole[0] ^ 1]) + whole[1:],
                "shorter": whole[:-1],
                "longer": whole + b"x",
                "empty": b"",
            }
            file.write_bytes(changed[fault])
    assert all(table.read(row) == image(row) for row in shuffled(5))
    all_right(data)
    if fault != "a folder":
        decoded.clear()
        all_right(data)
        assert not decoded  # made again


def test_another_file_of_the_same_name_is_read_anew(tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_groups, "KEPT_BYTES", 1000)
    data = write(tmp_path / "data")
    lengths = all_right(data).byte_sizes.tolist()
    before = kept_rows(own)
    times = [file.stat() for file in sorted(data.iterdir())]
    write(data, salt=1)
    for file, about in zip(sorted(data.iterdir()), times, strict=True):  # as a copying program leaves them
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
        assert (file.stat().st_size, file.stat().st_mtime_ns) == (about.st_size, about.st_mtime_ns)
    assert all_right(data, salt=1).byte_sizes.tolist() == lengths
    assert len(kept_rows(own)) == len(before)
    assert not set(before) & set(kept_rows(own))  # of the file as it was nothing is left


@pytest.mark.parametrize("how", ["in place", "another file"])
def test_a_file_changed_while_it_is_used_never_gives_images_to_the_old_labels(
    tmp_path: Path, own: Path, how: str
) -> None:
    data = write(tmp_path / "data")
    table = pickle.loads(pickle.dumps(open_samples(str(data))))  # as a worker has it
    if how == "another file":
        for file in data.iterdir():
            file.unlink()
    write(data, salt=1)
    for file in data.iterdir():
        os.utime(file, ns=(1, 1))
    with pytest.raises(DataCorrupt, match="was changed after it was opened"):
        table.read(3)


def test_what_is_kept_of_files_that_are_gone_goes_too(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_groups, "KEPT_BYTES", 1000)
    first = write(tmp_path / "first")
    all_right(first)
    for file in first.iterdir():
        file.unlink()
    monkeypatch.setattr(own_folder, "_tidied", set())
    all_right(write(tmp_path / "second", salt=2), salt=2)
    assert len(kept_rows(own)) == 6


def test_a_file_changed_a_moment_ago_is_not_kept(tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_folder, "SETTLED_NS", 10**18)
    all_right(write(tmp_path / "data"), passes=3)
    assert kept_rows(own) == []


@pytest.mark.parametrize("why", ["a file", "open to others", "full"])
def test_without_a_folder_all_is_read_and_said(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    data = write(tmp_path / "data")
    if why == "a file":
        own.parent.write_text("")
    elif why == "open to others":
        own.mkdir(parents=True)
        own.chmod(0o777)
    else:
        monkeypatch.setattr(row_groups, "SPARE_DISK", 1 << 62)
    all_right(data, passes=3)
    assert kept_rows(own) == []
    (line,) = (line for line in open_data(str(data)).lines if "unpacked" in line)
    assert "no room" in line
    assert "deit-pipe pack" in line


def test_where_and_how_much_is_said(tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path / "data")
    (line,) = (line for line in open_data(str(data)).lines if "unpacked" in line)
    assert f"up to 0 MB, in {own}" in line
    monkeypatch.setattr(row_groups, "KEPT_BYTES", 1 << 20)
    assert not any("unpacked" in line for line in open_data(str(data)).lines)


def test_lengths_are_measured_once(
    tmp_path: Path, own: Path, decoded: Counter[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "data")
    expected = [len(image(row)) for row in range(ROWS)]
    assert open_samples(str(data)).byte_sizes.tolist() == expected
    assert set(decoded.values()) == {1}
    decoded.clear()
    assert open_samples(str(data)).byte_sizes.tolist() == expected
    assert not decoded
    for file in own.rglob("*lengths"):
        file.write_bytes(file.read_bytes()[:-8] + bytes(8))
    assert open_samples(str(data)).byte_sizes.tolist() == expected
    assert set(decoded.values()) == {1}


LONG = "an image under a name that is longer than a name of a file may be" * 3


@pytest.mark.parametrize("names", [(f"{LONG}1", f"{LONG}2"), ("image", "image.bytes"), ("ä", "a\u0308")])
def test_columns_of_alike_names_are_not_exchanged(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str]
) -> None:
    monkeypatch.setattr(row_groups, "KEPT_BYTES", 1000)
    kind = pa.struct([("bytes", pa.binary())])
    columns = [[image(row, salt) for row in range(ROWS)] for salt in (1, 2)]
    arrays = [pa.array([{"bytes": data} for data in columns[0]], kind), pa.array(columns[1], pa.binary())]
    table = pa.table({**dict(zip(names, arrays, strict=True)), "label": [row % 3 for row in range(ROWS)]})
    (tmp_path / "data").mkdir()
    parquet.write_table(table, tmp_path / "data" / "train.parquet", row_group_size=GROUP)
    for _ in range(2):
        for name, expected in zip(names, columns, strict=True):
            found = open_data(str(tmp_path / "data"), DataChoice(image_column=name, val_fraction=0)).train
            assert [found.read(row) for row in shuffled(3)] == [expected[row] for row in shuffled(3)]
            assert found.byte_sizes.tolist() == [len(data) for data in expected]
    assert len(kept_rows(own)) == 2 * ROWS // GROUP


def read_some(table: ParquetSamples, seed: int) -> bool:
    return all(table.read(row) == image(row) for row in shuffled(seed))


def read_and_end(table: ParquetSamples, seed: int) -> None:
    os._exit(0 if read_some(table, seed) else 1)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_read_what_another_opened(tmp_path: Path, own: Path, method: Literal["fork", "spawn"]) -> None:
    table = all_right(write(tmp_path / "data"), passes=1)
    context = multiprocessing.get_context(method)
    with table.row_groups._reading:  # in a forked process nobody would ever give it back
        readers = [context.Process(target=read_and_end, args=(table, seed)) for seed in range(4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(60)
            reader.kill()
            reader.join()
    assert [reader.exitcode for reader in readers] == [0] * 4


def test_threads_read_at_once(tmp_path: Path, own: Path, decoded: Counter[tuple[str, int]]) -> None:
    table = open_samples(str(write(tmp_path / "data")))
    assert isinstance(table, ParquetSamples)
    again = pickle.loads(pickle.dumps(table))
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read_some, [table, again] * 8, range(16)))
    assert max(decoded.values()) <= 4  # twice for each of the two


def test_a_few_bytes_that_unpack_to_many_are_refused(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded_rows, "MOST_MORE", 1 << 20)
    same = [random.Random(0).randbytes(1 << 16)] * 2000
    (tmp_path / "data").mkdir()
    table = pa.table({"image": pa.array(same, pa.binary()), "label": [0] * len(same)})
    parquet.write_table(table, tmp_path / "data" / "train.parquet")
    samples = open_samples(str(tmp_path / "data"))
    with pytest.raises(DataCorrupt, match="unpacks to more than 16 times"):
        samples.read(0)
    with pytest.raises(DataCorrupt, match="unpacks to more than 16 times"):
        samples.measure_bytes()
    assert [file for file in own.rglob("*") if file.is_file() and file.stat().st_size > 1000] == []


def test_a_broken_row_group_is_named(tmp_path: Path, own: Path) -> None:
    data = write(tmp_path / "data", files=1)
    (file,) = data.iterdir()
    content = bytearray(file.read_bytes())
    place = content.index(image(45))
    about = parquet.ParquetFile(file).metadata.row_group(4).column(0)
    start = about.dictionary_page_offset or about.data_page_offset
    assert start < place
    content[start : start + 30] = bytes(30)
    file.write_bytes(content)
    samples = open_samples(str(data))
    assert samples.read(0) == image(0)
    with pytest.raises(DataCorrupt, match=r"cannot read row group 4 of .*train"):
        samples.read(45)


def test_a_missing_image_is_a_bad_one_wherever_it_is_kept(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    table = pa.table({"image": pa.array([b"a" * 50, None, b"", b"c" * 50], pa.binary()), "label": [0, 1, 0, 1]})
    parquet.write_table(table, tmp_path / "data" / "train.parquet")
    for memory in (1 << 20, 1):
        monkeypatch.setattr(row_groups, "KEPT_BYTES", memory)
        samples = open_samples(str(tmp_path / "data"))
        assert (samples.read(0), samples.read(2), samples.read(3)) == (b"a" * 50, b"", b"c" * 50)
        with pytest.raises(BadImage, match="image column is empty"):
            samples.read(1)
        assert samples.measure_bytes().tolist() == [50, 0, 0, 50]
    assert len(kept_rows(own)) == 1
