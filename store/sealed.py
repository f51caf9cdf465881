"""Sealed epochs: block records as Parquet rows, because 47,000 small files are slow to open.

A file is named after the epochs in it and its own SHA-256, and is written twice. Files hold any rows:
sealing adds one per epoch, and every MERGE_FILES of them are merged into one. Of two rows for one block the
later written counts.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.places.location import Location, ObjectMissing
from deit_pipe.store.proof.witness import PREFIX, SUMS, VIEWS, witness_at, witness_columns
from deit_pipe.store.statistics import CONFIDENCE_BINS, BlockStatistics

if TYPE_CHECKING:
    from deit_pipe.store.record import BlockRecord, Owner

MERGE_FILES = 16
FOLDERS = ("sealed", "sealed-copy")
_NAME = re.compile(r"(\d{4,})-(\d{4,})-([0-9a-f]{64})\.parquet")
_INTEGERS = ("epoch", "index", "start", "stop", "rank", "agree", "agree_either", "ties")
_FLOATS = ("written", "top1", "entropy", "topk_mass")
_COUNTS = "class_counts"
_TEXTS = ("run", "cache", "teacher")
_LISTS: dict[str, tuple[type[np.generic], type[np.generic], tuple[int, ...]]] = {  # stored as, read as, shape of a row
    "confidence": (np.int32, np.int64, (CONFIDENCE_BINS,)),
    f"{PREFIX}slots": (np.int64, np.int64, (VIEWS,)),
    f"{PREFIX}sums": (np.float32, np.float32, (VIEWS, SUMS)),
    f"{PREFIX}labels": (np.int32, np.int64, (VIEWS, 2)),
    f"{PREFIX}lam": (np.float32, np.float32, (VIEWS,)),
}

MISSING = "is missing"

Cell = tuple[int, int]  # epoch, block index
SealedDamage = tuple[str, tuple[int, int], bool, str, bool]  # key, epochs, lost, what, foreign
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
    witnesses = [r.witness for r in records if r.witness is not None]
    if witnesses:  # format 2
        columns["cache"] = np.array([r.cache for r in records], dtype=object)
        columns["teacher"] = np.array([r.teacher for r in records], dtype=object)
        columns |= witness_columns(witnesses)
    return columns


def record_at(columns: Columns, row: int) -> "BlockRecord":
    """Turn one row of columns back into a record."""
    from deit_pipe.store.record import BlockRecord, StoredObject

    mass = float(columns["topk_mass"][row])
    names = [name.removeprefix("bytes.") for name in columns if name.startswith("bytes.")]
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
        cache=str(columns["cache"][row]) if "cache" in columns else None,
        teacher=str(columns["teacher"][row]) if "teacher" in columns else None,
        witness=witness_at(columns, row) if f"{PREFIX}slots" in columns else None,
    )


def read_sealed(
    place: Location,
    root: str,
    keys: Mapping[str, int],
    elsewhere: Set[Cell] = frozenset(),
    owner: "Owner | None" = None,
) -> tuple[Columns, Counts, list[str], list[SealedDamage]]:
    """Read every sealed file under `root`; a damaged one is replaced by its copy in memory, and reported.

    A file that is there once only is damage, unless all its records are in whole files or `elsewhere` too: then it
    is what a writer left that died while it sealed or merged. A file with a record of somebody else than `owner`, where
    one is given, is damage and none of its rows counts.

    Returns columns, class counts by epoch, the names of the files used, and the damage.

    Raises:
        ObjectMissing: a file went away since the listing.
    """
    names = sorted({key.rpartition("/")[2] for key in keys if key.startswith(f"{root}/sealed")})
    tables: dict[str, tuple[Columns, Counts]] = {}
    damage: list[SealedDamage] = []
    half: list[str] = []
    for name in names:
        match = _NAME.fullmatch(name)
        epochs = (int(match[1]), int(match[2])) if match else (0, 0)
        good, bad = None, []
        for folder in FOLDERS:
            key = f"{root}/{folder}/{name}"
            if key not in keys:
                bad.append((key, MISSING))
                continue
            data = place.get(key)
            if match and hashlib.sha256(data).hexdigest() == match[3]:
                good = data if good is None else good
            else:
                bad.append((key, "fails its SHA-256"))
        damage += [(key, epochs, good is None, what, False) for key, what in bad]
        if good is None:
            continue
        table = _read_table(good)
        if owner is not None and (stranger := _stranger(table[0], owner)):
            what = f"belongs to another teacher or cache ({stranger})"
            both = (f"{root}/{folder}/{name}" for folder in FOLDERS)
            damage += [(key, epochs, True, what, True) for key in both if key in keys]
            continue
        tables[name] = table
        half += [name for _, what in bad if what == MISSING]
    covered = set(elsewhere).union(*(_cells(tables[name][0]) for name in tables if name not in half))
    spare = {name for name in half if _cells(tables[name][0]) <= covered}
    damage = [entry for entry in damage if entry[0].rpartition("/")[2] not in spare]
    columns: Columns = {}
    counts: Counts = {}
    parts = list(tables.values())
    for _, part_counts in parts:
        counts |= part_counts
    if parts:
        columns = {n: np.concatenate([part[n] for part, _ in parts]) for n in parts[0][0]}
    return columns, counts, list(tables), damage


def _stranger(columns: Columns, owner: "Owner") -> str | None:
    """Whom the first record that is not the owner's names; None where all are."""
    if "cache" not in columns:
        return "none" if owner.cache is not None else None
    for cache, teacher in zip(columns["cache"], columns["teacher"], strict=True):
        if (found := type(owner)(str(cache), str(teacher))) != owner:
            return str(found)
    return None


def _cells(columns: Columns) -> set[Cell]:
    return set(zip(columns["epoch"].tolist(), columns["index"].tolist(), strict=True))


def write_sealed(place: Location, root: str, columns: Columns, counts: Counts) -> str:
    """Write rows as one sealed file and its copy; returns its name. The same rows give the same name."""
    data = _write_table(columns, counts)
    first, last = int(columns["epoch"].min()), int(columns["epoch"].max())
    name = f"{first:04d}-{last:04d}-{hashlib.sha256(data).hexdigest()}.parquet"
    for folder in reversed(FOLDERS):  # the copy first: a file without a copy would look damaged
        place.put(f"{root}/{folder}/{name}", data)
    return name


def delete_sealed(place: Location, root: str, names: Sequence[str]) -> None:
    """Remove sealed files and their copies."""
    for name in names:
        for folder in FOLDERS:
            place.delete(f"{root}/{folder}/{name}")


def restore_sealed(place: Location, root: str, names: Sequence[str]) -> None:
    """Make both copies of each file whole again, from the good one."""
    for name in names:
        for folder in FOLDERS:
            try:
                data = place.get(f"{root}/{folder}/{name}")
            except ObjectMissing:
                continue
            if hashlib.sha256(data).hexdigest() in name:
                for other in FOLDERS:
                    place.put(f"{root}/{other}/{name}", data)
                break


def _fixed_bytes(column: Any) -> NDArray[np.uint8]:
    """Return 32-byte values [rows, 32] without a Python object for each."""
    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint8, 32 * len(chunk), 32 * chunk.offset).reshape(-1, 32)
        for chunk in column.chunks
    ]
    return np.concatenate(parts) if parts else np.zeros((0, 32), np.uint8)


def _write_table(columns: Columns, counts: Counts) -> bytes:
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


def _read_table(data: bytes) -> tuple[Columns, Counts]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # `read_table` would go through the dataset API, which imports pandas where it is installed: 0.2 s
    table = pq.ParquetFile(pa.BufferReader(data)).read().combine_chunks()
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


def _numbers(array: Any) -> NDArray[Any]:
    """An Arrow array of numbers without nulls as NumPy: `to_numpy` would import pandas where it is installed."""
    numbers: NDArray[Any] = np.from_dlpack(array)
    return numbers
