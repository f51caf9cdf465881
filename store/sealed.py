"""Records as columns, and the Parquet files that keep them: 47,000 small files, or headers, are slow to open.

Since format 3 such a file is an index of blocks that say the same themselves, never the truth; before, it was the only
record. It is named after the epochs in it and its own SHA-256. Files may overlap: of two rows for one block the later
written counts.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.proof.witness import PREFIX, SUMS, VIEWS, witness_at, witness_columns
from deit_pipe.store.statistics import CONFIDENCE_BINS, BlockStatistics
from deit_pipe.store.strict.parquet_bounds import check_decoded_size

if TYPE_CHECKING:
    from deit_pipe.store.record import BlockRecord, Owner

_NAME = re.compile(r"(\d{4,})-(\d{4,})-([0-9a-f]{64})\.parquet")
_INTEGERS = ("epoch", "index", "start", "stop", "rank", "agree", "agree_either", "ties")
_FLOATS = ("written", "top1", "entropy", "topk_mass")
_COUNTS = "class_counts"
_TEXTS = ("run", "cache", "teacher", "token")
_LISTS: dict[str, tuple[type[np.generic], type[np.generic], tuple[int, ...]]] = {  # stored as, read as, shape of a row
    "confidence": (np.int32, np.int64, (CONFIDENCE_BINS,)),
    f"{PREFIX}slots": (np.int64, np.int64, (VIEWS,)),
    f"{PREFIX}sums": (np.float32, np.float32, (VIEWS, SUMS)),
    f"{PREFIX}labels": (np.int32, np.int64, (VIEWS, 2)),
    f"{PREFIX}lam": (np.float32, np.float32, (VIEWS,)),
}

Cell = tuple[int, int]  # epoch, block index
Columns = dict[str, NDArray[Any]]
Counts = dict[int, NDArray[np.int64]]


def to_columns(records: "Sequence[BlockRecord]") -> Columns:
    """Turn records into columns; see `Ledger.columns`."""
    columns: Columns = {}
    for name in _INTEGERS:
        values = [getattr(r if hasattr(r, name) else r.statistics, name) for r in records]
        columns[name] = np.array(values, np.int64)
    for name in _FLOATS:
        values = [getattr(r if hasattr(r, name) else r.statistics, name) for r in records]
        columns[name] = np.array([np.nan if value is None else value for value in values], np.float64)
    columns["run"] = np.array([r.run for r in records], dtype=object)
    bins = [r.statistics.confidence for r in records]
    columns["confidence"] = np.array(bins, np.int64).reshape(-1, CONFIDENCE_BINS)
    for name in records[0].objects if records else ():
        columns[f"bytes.{name}"] = np.array([r.objects[name].bytes for r in records], np.int64)
        digests = b"".join(bytes.fromhex(r.objects[name].sha256) for r in records)
        columns[f"sha256.{name}"] = np.frombuffer(digests, np.uint8).reshape(-1, 32)
    if records and records[0].cache is not None:  # since format 2
        columns["cache"] = np.array([r.cache for r in records], dtype=object)
        columns["teacher"] = np.array([r.teacher for r in records], dtype=object)
        columns |= witness_columns([r.witness for r in records])
    if records and records[0].token is not None:  # since format 3
        columns["token"] = np.array([r.token for r in records], dtype=object)
    return columns


def record_at(columns: Columns, row: int) -> "BlockRecord":
    """Turn one row of columns back into a record."""
    from deit_pipe.store.record import BlockRecord, StoredObject

    mass = float(columns["topk_mass"][row])
    names = [name.removeprefix("bytes.") for name in columns if name.startswith("bytes.")]
    texts = {name: str(columns[name][row]) for name in ("cache", "teacher", "token") if name in columns}
    return BlockRecord(
        epoch=int(columns["epoch"][row]),
        index=int(columns["index"][row]),
        start=int(columns["start"][row]),
        stop=int(columns["stop"][row]),
        rank=int(columns["rank"][row]),
        run=str(columns["run"][row]),
        written=float(columns["written"][row]),
        objects={
            n: StoredObject(int(columns[f"bytes.{n}"][row]), columns[f"sha256.{n}"][row].tobytes().hex()) for n in names
        },
        statistics=BlockStatistics(
            agree=int(columns["agree"][row]),
            agree_either=int(columns["agree_either"][row]),
            ties=int(columns["ties"][row]),
            top1=float(columns["top1"][row]),
            entropy=float(columns["entropy"][row]),
            topk_mass=None if np.isnan(mass) else mass,
            confidence=tuple(columns["confidence"][row].tolist()),
        ),
        witness=witness_at(columns, row) if f"{PREFIX}slots" in columns else None,
        **texts,
    )


def cells_of(columns: Columns) -> set[Cell]:
    """Epoch and block index of every row."""
    return set(zip(columns["epoch"].tolist(), columns["index"].tolist(), strict=True))


def joined(parts: Sequence[tuple[Columns, Counts]]) -> tuple[Columns, Counts]:
    """The rows of several files; of class counts of an epoch, those of the file with the latest row count."""
    columns: Columns = {}
    counts: Counts = {}
    for _, part_counts in sorted(parts, key=lambda part: float(part[0]["written"].max(initial=0.0))):
        counts |= part_counts
    if parts:
        columns = {n: np.concatenate([part[n] for part, _ in parts]) for n in parts[0][0]}
    return columns, counts


def stranger(columns: Columns, owner: "Owner") -> str | None:
    """Whom the first record that is not the owner's names; None where all are."""
    if "cache" not in columns:
        return "none" if owner.cache is not None else None
    for cache, teacher in zip(columns["cache"], columns["teacher"], strict=True):
        if (found := type(owner)(str(cache), str(teacher))) != owner:
            return str(found)
    return None


def file_name(columns: Columns, data: bytes) -> str:
    """Name of a file of these rows."""
    first, last = int(columns["epoch"].min()), int(columns["epoch"].max())
    return f"{first:04d}-{last:04d}-{hashlib.sha256(data).hexdigest()}.parquet"


def epochs_named(name: str) -> tuple[int, int] | None:
    """First and last epoch of a file, by its name; None: it is none of ours."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def is_whole(name: str, data: bytes) -> bool:
    """Whether a file is the one that its name says."""
    match = _NAME.fullmatch(name)
    return match is not None and hashlib.sha256(data).hexdigest() == match[3]


def write_table(columns: Columns, counts: Counts) -> bytes:
    """Rows as a Parquet file; the same rows give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    data: dict[str, Any] = {}
    for name, column in columns.items():
        if name in _LISTS:
            stored, _, shape = _LISTS[name]
            flat = pa.array(column.astype(stored).ravel())
            data[name] = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(shape)))
        elif name.startswith("sha256."):
            data[name] = pa.array([digest.tobytes() for digest in column], pa.binary(32))
        elif name in _TEXTS:
            data[name] = pa.array(list(column), pa.string())
        else:
            data[name] = pa.array(column)
    first = {epoch: int(np.flatnonzero(columns["epoch"] == epoch)[0]) for epoch in counts}
    rows: list[NDArray[np.int64] | None] = [None] * len(columns["epoch"])
    for epoch, row in first.items():  # once per epoch, on its first row
        rows[row] = counts[epoch]
    data[_COUNTS] = pa.array(rows, pa.list_(pa.int64()))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(data), sink, compression="zstd", write_page_checksum=True)
    result: bytes = sink.getvalue().to_pybytes()
    return result


def read_table(data: bytes) -> tuple[Columns, Counts]:
    """Inverse of `write_table`.

    Raises:
        ValueError, KeyError, TypeError, OSError: it is none, or would decode to far more than it is.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    # `read_table` would go through the dataset API, which imports pandas where it is installed: 0.2 s
    # No threads: Arrow's pool, once started, can abort a process that ends (apache/arrow issue 34314)
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    check_decoded_size(data, file.metadata)
    table = file.read(use_threads=False).combine_chunks()
    columns: Columns = {}
    counts: Counts = {}
    for name in table.column_names:
        column = table[name]
        if name in _LISTS:
            _, kind, shape = _LISTS[name]
            flat = column.chunk(0).flatten() if column.num_chunks else pa.array([], pa.int32())
            columns[name] = _numbers(flat).astype(kind).reshape(-1, *shape)
        elif name == _COUNTS:
            rows = np.flatnonzero(column.is_valid().to_pylist())
            for row in rows.tolist():
                counts[int(columns["epoch"][row])] = _numbers(column[row].values).astype(np.int64)
        elif name.startswith("sha256."):
            columns[name] = _fixed_bytes(column)
        elif name in _TEXTS:
            columns[name] = np.array(column.to_pylist(), dtype=object)
        else:
            columns[name] = _numbers(column.chunk(0)) if column.num_chunks else np.array([])
    return columns, counts


def newest_rows(columns: Mapping[str, NDArray[Any]]) -> dict[Cell, int]:
    """The row that counts of each block: the later written."""
    order = np.argsort(columns["written"], kind="stable")
    cells = zip(columns["epoch"][order].tolist(), columns["index"][order].tolist(), strict=True)
    return dict(zip(cells, order.tolist(), strict=True))


def _fixed_bytes(column: Any) -> NDArray[np.uint8]:
    """Return 32-byte values [rows, 32] without a Python object for each."""
    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint8, 32 * len(chunk), 32 * chunk.offset).reshape(-1, 32)
        for chunk in column.chunks
    ]
    return np.concatenate(parts) if parts else np.zeros((0, 32), np.uint8)


def _numbers(array: Any) -> NDArray[Any]:
    """An Arrow array of numbers without nulls as NumPy: `to_numpy` would import pandas where it is installed."""
    numbers: NDArray[Any] = np.from_dlpack(array)
    return numbers
