"""What is in a tar shard, kept so that its heads and labels are read once (see own_folder.py)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deit_pipe.pipeline.sources.kept.own_folder import FileState, entry_of, read_whole, state_of, write_whole

KIND = "tar"
FEWEST = 100  # samples: less is read as fast again
_SCHEMA = pa.schema({"key": pa.binary(), "place": pa.int64(), "length": pa.int64(), "label": pa.binary()})


@dataclass
class ShardIndex:
    """The samples of one shard in order.

    Attributes:
        keys: their names.
        places: (place, length) of each image in the file, in bytes.
        labels: as words, None for none.
        left_out: (kind, count, name of the first) of what else is there.
    """

    keys: list[str] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    left_out: list[tuple[str, int, str]] = field(default_factory=list)

    def as_array(self) -> NDArray[np.int64]:
        """The places, int64 [N, 2]."""
        return np.asarray(self.places, dtype=np.int64).reshape(-1, 2)


def kept_index(state: FileState, label_name: str | None) -> ShardIndex | None:
    """Return what is kept of a shard as it is now; None where it is to be read."""
    entry = entry_of(KIND, state)
    data = None if entry is None else read_whole(entry / _name(label_name))
    if data is None:
        return None
    try:
        table = pa.ipc.open_stream(pa.py_buffer(data)).read_all()
        columns = [table.column(name).to_pylist() for name in ("key", "place", "length", "label")]
        left_out = [tuple(one) for one in json.loads(table.schema.metadata[b"left_out"])]
    except (pa.ArrowException, KeyError, ValueError, TypeError):  # whole, but of another program
        return None
    labels = [None if label is None else _text(label) for label in columns[3]]
    return ShardIndex([_text(key) for key in columns[0]], list(zip(*columns[1:3], strict=True)), labels, left_out)


def keep_index(file: Path, state: FileState, label_name: str | None, index: ShardIndex) -> None:
    """Keep what was read of a shard, if it is still the file that was read; a failure is no error."""
    if len(index.keys) < FEWEST or not state.settled or state_of(file) != state:
        return
    entry = entry_of(KIND, state, make=True)
    if entry is None:
        return
    columns: list[Any] = [
        [_bytes(key) for key in index.keys],
        *index.as_array().T,
        [None if label is None else _bytes(label) for label in index.labels],
    ]
    schema = _SCHEMA.with_metadata({"left_out": json.dumps(index.left_out)})
    batch = pa.record_batch([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(batch)
    write_whole(entry / _name(label_name), sink.getvalue().to_pybytes())


def _name(label_name: str | None) -> str:
    """Of the file: which key of .json members is the label is part of what was read."""
    return hashlib.sha256(repr(label_name).encode()).hexdigest()[:16] + ".index"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
