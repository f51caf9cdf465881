"""The parts of believing nothing: JSON, values, Parquet, links, strays."""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_fakes import create, fill, make_manifest, make_samples, make_teacher

from deit_pipe.store.errors import CacheCorrupt
from deit_pipe.store.manifest import create_cache, list_teachers, read_samples
from deit_pipe.store.places.inside import check_inside, read_regular
from deit_pipe.store.places.local import LocalDirectory
from deit_pipe.store.places.location import ObjectMissing
from deit_pipe.store.places.strays import find_strays
from deit_pipe.store.samples import SampleIndex, decode_labels, encode_samples
from deit_pipe.store.stored_cache import StoredCache
from deit_pipe.store.strict import parquet_bounds
from deit_pipe.store.strict.json_values import (
    DIGEST,
    MOST_DEPTH,
    check_values,
    optional,
    real,
    reals,
    strict_json,
    text,
    whole,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_whatever_json_can_say_is_read_as_json_reads_it(value: Any) -> None:
    for written in (json.dumps(value), json.dumps(value, indent=1), json.dumps(value, ensure_ascii=True)):
        assert strict_json(written.encode()) == json.loads(written)


def test_depth_is_bounded_and_brackets_in_texts_are_none() -> None:
    deepest = "[" * MOST_DEPTH + "]" * MOST_DEPTH
    assert strict_json(deepest.encode()) is not None
    with pytest.raises(ValueError, match="deep"):
        strict_json(f"[{deepest}]".encode())
    flat = json.dumps({"a": '[{"\\' * 1000, '"[[[': ["]"] * 1000})
    assert strict_json(flat.encode()) == json.loads(flat)
    with pytest.raises(ValueError, match="are read"):
        strict_json(b'"aaaa"', most_bytes=5)


@pytest.mark.parametrize("bad", [b"NaN", b"[Infinity]", b"-1e400", b'{"a":1,"a":1}', b"\xff", b"", b"{", b"1 2"])
def test_what_is_not_plain_json_is_a_value_error(bad: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (of many kinds)
        strict_json(bad)


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (whole(0, 5), [0, 5], [-1, 6, 2.0, "2", True, None, [2]]),
        (real(0, 1), [0, 1, 0.5], [-0.1, 1.1, "0", False, None, float("nan"), float("inf")]),
        (text(3), ["", "abc"], ["abcd", 3, None, ["a"]]),
        (reals(1, 2, 0, 1), [[0], [0, 1.0], (0.5,)], [[], [0] * 3, [2], ["0"], 0, None]),
        (optional(whole(0, 5)), [None, 3], ["3", 6]),
        (DIGEST, ["0a" * 32], ["0a" * 31, "0A" * 32, "0a" * 33, 7, None]),
    ],
)
def test_rules(rule: Any, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        check_values({"x": value}, {"x": rule})
    for value in bad:
        with pytest.raises(ValueError, match=r"x is .*, not "):
            check_values({"x": value}, {"x": rule})
    check_values({"y": object()}, {"x": rule})  # absent; and what has no rule


@pytest.mark.parametrize("rows", [1, 100, 70_000])
@pytest.mark.parametrize("kind", ["rows", "paths", "long paths"])
def test_a_real_sample_table_is_far_within_its_bounds(rows: int, kind: str) -> None:
    prefix = {"rows": "", "paths": "train/n01440764/n01440764_", "long paths": "a/very/long/way/to/the/images/" * 4}
    keys = [f"{prefix[kind]}{i}" for i in range(rows)]
    data = encode_samples(SampleIndex(keys, np.arange(rows) % 10, np.full(rows, 64), tuple("abcdefghij")))
    metadata = pq.ParquetFile(pa.BufferReader(data)).metadata
    parquet_bounds.check_decoded_size(data, metadata)
    assert rows < 0.1 * parquet_bounds.most_rows(len(data))
    columns = [metadata.row_group(g).column(c) for g in range(metadata.num_row_groups) for c in range(3)]
    pages = 0
    for chunk in columns:
        first = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
        pages += sum(parquet_bounds._page_sizes(data, first, chunk.total_compressed_size))
    stated = sum(chunk.total_uncompressed_size for chunk in columns)
    assert (0.5 * stated if rows > 1 else 0) < pages <= stated  # the footer counts the pages' headers too
    assert pages < 0.5 * parquet_bounds.most_decoded(len(data))


def test_flipped_bytes_of_page_headers_are_value_errors_and_nothing_else() -> None:
    data = bytearray(encode_samples(make_samples()))
    chunk = pq.ParquetFile(pa.BufferReader(bytes(data))).metadata.row_group(0).column(0)
    first, length = chunk.dictionary_page_offset, chunk.total_compressed_size
    refused = 0
    for place in range(first, first + 30):
        for bit in range(8):
            data[place] ^= 1 << bit
            try:
                sum(parquet_bounds._page_sizes(bytes(data), first, length))
            except ValueError:
                refused += 1
            data[place] ^= 1 << bit
    assert refused > 50


def test_labels_of_a_bomb_are_not_decoded(tmp_path: Path) -> None:
    long = pa.array(["a" * 20_000_000])
    table = pa.table({"key": long, "label": pa.array([1]), "byte_size": pa.array([1])})
    pq.write_table(table, tmp_path / "t", compression="zstd")
    data = (tmp_path / "t").read_bytes()
    assert len(data) < 10_000
    assert decode_labels(data) is None
    assert decode_labels(encode_samples(make_samples())) is not None


def test_many_class_names_are_read(tmp_path: Path) -> None:
    """21,000 classes are more than the bound of other JSON would matter for."""
    names = tuple(f"class {'é' * 30} {i}" for i in range(21_000))
    index = SampleIndex(["a"], np.zeros(1, np.int64), np.ones(1, np.int64), names)
    create_cache(tmp_path, make_manifest(1, len(names)), index, {})
    assert read_samples(tmp_path).class_names == names


def test_links_are_named_whatever_they_lead_to(tmp_path: Path) -> None:
    (tmp_path / "cache" / "a").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.json").write_text("{}")
    (tmp_path / "cache" / "a" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "cache" / "here").symlink_to("a")
    place = LocalDirectory(tmp_path / "cache")
    for act in (
        lambda: place.get("a/b/x.json"),
        lambda: place.put("a/b/y.json", b"1"),
        lambda: place.create("a/b/y.json", b"1"),
        lambda: place.sizes("a"),
        lambda: place.sizes("here"),
        lambda: place.sizes(),
        lambda: check_inside(place.root, "here/x"),
    ):
        with pytest.raises(CacheCorrupt, match="is a link"):
            act()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["x.json"]
    (tmp_path / "root").symlink_to(tmp_path / "elsewhere")
    assert LocalDirectory(tmp_path / "root").get("x.json") == b"{}"  # the cache itself may be reached by a link


def test_only_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1234")
    assert read_regular(tmp_path / "a", 4) == b"1234"
    with pytest.raises(CacheCorrupt, match="at most 3 bytes"):
        read_regular(tmp_path / "a", 3)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CacheCorrupt, match="regular file"):
        read_regular(tmp_path / "pipe", 4)
    with pytest.raises(ObjectMissing):
        LocalDirectory(tmp_path.parent).get(tmp_path.name)  # a folder is no object


def test_what_systems_leave_is_passed_over_and_listed(tmp_path: Path) -> None:
    create(tmp_path)
    fill(tmp_path, make_teacher("none"), 1)
    assert StoredCache(tmp_path).strays == []  # the second copies of identities are ours
    before = LocalDirectory(tmp_path).sizes()
    left = ["Thumbs.db", ".DS_Store", "teachers/._none.json", "ledger/none/.nfs01", "__MACOSX/x.json"]
    for key in left:
        (tmp_path / key).parent.mkdir(exist_ok=True)
        (tmp_path / key).write_text("{")
    assert LocalDirectory(tmp_path).sizes() == before
    assert find_strays(tmp_path) == sorted([*left[:-1], "__MACOSX"])
    (tmp_path / "teachers" / "x y.json").write_text("{")
    (tmp_path / "teachers" / "notes.txt").write_text("{")
    assert list_teachers(tmp_path) == ["none"]
    assert StoredCache(tmp_path).strays[-2:] == ["teachers/notes.txt", "teachers/x y.json"]


def test_an_unclosed_text_does_not_take_long() -> None:
    started = time.process_time()
    for inside in (b'\\"[', b'\\"', b"\\\\"):
        with pytest.raises(ValueError):  # noqa: PT011 (of many kinds)
            strict_json(b'{"a": "' + inside * 1_000_000)
    assert time.process_time() - started < 3
