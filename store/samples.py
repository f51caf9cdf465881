"""The sample table of a cache: keys, labels, sizes, class names; one Parquet file, of which counting needs a column."""

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.errors import corrupt_file
from deit_pipe.store.places.location import Location, ObjectMissing
from deit_pipe.store.twice.identities import copy_key

SAMPLES = "samples.parquet"


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


def decode_samples(path: str, data: bytes | None, sha256: str) -> SampleIndex:
    """What `sample_bytes` gave, checked against its SHA-256 in the manifest; `path` is named in errors.

    Raises:
        CacheCorrupt: it is damaged or gone.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if data is None:
        raise corrupt_file(path, SAMPLES, "is gone")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise corrupt_file(path, SAMPLES, "fails its SHA-256")
    table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    names = json.loads(table.schema.metadata[b"class_names"])
    return SampleIndex(
        table["key"].to_pylist(),
        table["label"].to_numpy().astype(np.int64),
        table["byte_size"].to_numpy().astype(np.int64),
        tuple(names),
    )


def decode_labels(data: bytes | None) -> NDArray[np.int64] | None:
    """The labels of `sample_bytes` without their keys, quickly even for a million samples.

    Returns:
        True classes, int64 [N], -1 for unlabelled samples; None where the table is gone or damaged (verify names it).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if data is None:
        return None
    try:
        reader = pa.BufferReader(data)
        column = pq.read_table(reader, columns=["label"], page_checksum_verification=True)["label"]
    except (OSError, pa.ArrowException):
        return None
    return np.asarray(column.to_numpy(), np.int64)
