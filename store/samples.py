"""The sample table of a cache: keys, labels, sizes, class names; one Parquet file, of which counting needs a column."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.errors import corrupt_file
from deit_pipe.store.places.location import Location, ObjectMissing
from deit_pipe.store.strict.json_values import strict_json
from deit_pipe.store.strict.parquet_bounds import check_decoded_size, most_decoded
from deit_pipe.store.twice.identities import copy_key

SAMPLES = "samples.parquet"
MOST_NAMES = 64_000_000  # bytes of class names


class SampleIndex(NamedTuple):
    """The sample table of the data: for sample i its key (path or row), label and encoded size in bytes."""

    keys: Sequence[str]
    labels: NDArray[np.int64]
    byte_sizes: NDArray[np.int64]
    class_names: tuple[str, ...]


def encode_samples(samples: SampleIndex) -> bytes:
    """The table as it is stored."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "key": pa.array([str(key) for key in samples.keys], pa.string()),
            "label": pa.array(np.asarray(samples.labels, np.int64)),
            "byte_size": pa.array(np.asarray(samples.byte_sizes, np.int64)),
        },
        metadata={"class_names": json.dumps([str(name) for name in samples.class_names])},
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def sample_bytes(place: Location, sha256: str) -> bytes | None:
    """The sample table as it is stored, or its copy where it is damaged or gone; None where both are gone."""
    found = None
    for key in (SAMPLES, copy_key(SAMPLES)):
        try:
            data = place.get(key)
        except ObjectMissing:
            continue
        if hashlib.sha256(data).hexdigest() == sha256:
            return data
        found = found or data
    return found


def decode_samples(path: str, data: bytes | None, sha256: str, rows: int, classes: int) -> SampleIndex:
    """What `sample_bytes` gave, checked against its SHA-256 and the counts in the manifest; `path` is named in errors.

    Raises:
        CacheCorrupt: it is damaged or gone, or says what cannot be.
    """
    if data is None:
        raise corrupt_file(path, SAMPLES, "is gone")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise corrupt_file(path, SAMPLES, "fails its SHA-256")
    try:
        return _decoded(data, rows, classes)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise corrupt_file(path, SAMPLES, f"says what cannot be: {str(error).splitlines()[0]}") from None


def _decoded(data: bytes, rows: int, classes: int) -> SampleIndex:
    """The table of a file of which nothing is believed."""
    import pyarrow.compute as pc

    file = _opened(data)
    if file.metadata.num_rows != rows:
        raise ValueError(f"{file.metadata.num_rows:,} rows for {rows:,} samples")
    names = strict_json((file.schema_arrow.metadata or {})[b"class_names"], MOST_NAMES)
    if not isinstance(names, list) or len(names) != classes or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class names that are not {classes:,} texts")
    table = file.read(columns=list(_columns()), use_threads=False)
    if any(column.null_count for column in table.columns):
        raise ValueError("rows without a value")
    length = sum(
        pc.sum(pc.take(pc.binary_length(part.dictionary), part.indices)).as_py() or 0 for part in table["key"].chunks
    )
    if length > most_decoded(len(data)):
        raise ValueError(f"keys of {length:,} bytes in {len(data):,}")
    labels, sizes = (np.asarray(table[name].to_numpy(), np.int64) for name in ("label", "byte_size"))
    if len(labels) != rows or labels.min() < -1 or labels.max() >= classes or sizes.min() < 0:
        raise ValueError("labels or sizes out of range")
    return SampleIndex(table["key"].to_pylist(), labels, sizes, tuple(names))


def _columns() -> dict[str, Any]:
    import pyarrow as pa

    return {"key": pa.dictionary(pa.int32(), pa.string()), "label": pa.int64(), "byte_size": pa.int64()}


def _opened(data: bytes) -> Any:
    """The file, once it is known not to decode to more than it may.

    Raises:
        ValueError, OSError: it cannot be read, or decodes to too much.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(
        pa.BufferReader(data),
        read_dictionary=["key"],  # a long text in many rows is there once
        page_checksum_verification=True,
        thrift_string_size_limit=MOST_NAMES,
        thrift_container_size_limit=1 << 20,
    )
    schema = file.schema_arrow
    for name, kind in _columns().items():
        if schema.field(name).type != kind:
            raise ValueError(f"column {name} of {schema.field(name).type}")
    check_decoded_size(data, file.metadata)
    return file


def decode_labels(data: bytes | None) -> NDArray[np.int64] | None:
    """The labels of `sample_bytes` without their keys, quickly even for a million samples.

    Returns:
        True classes, int64 [N], -1 for unlabelled samples; None where the table is gone or damaged (verify names it).
    """
    if data is None:
        return None
    try:
        column = _opened(data).read(columns=["label"], use_threads=False)["label"]
    except (OSError, ValueError, KeyError):
        return None
    return np.asarray(column.to_numpy(), np.int64)
