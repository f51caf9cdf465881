"""Packed samples: one Arrow IPC file per split, memory-mapped, with encoded images or raw pixels.

One file reads in any order without being loaded. With raw pixels the decoder is
skipped: about 6 times the bytes for the same views. Columns: image (large binary), height, width, channels
(int32, 0: encoded), label (int64), key (string). Schema metadata: name, class_names (JSON).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deit_pipe.pipeline.cells import decode_sample
from deit_pipe.pipeline.errors import DataAmbiguous, DataCorrupt
from deit_pipe.pipeline.samples import KeyList, SampleTable
from deit_pipe.pipeline.sources.found_splits import Columns, FoundData, FoundSplit
from deit_pipe.pipeline.sources.left_out import LeftOut, listed
from deit_pipe.pipeline.sources.opened_split import OpenedSplit, opened_from_files
from deit_pipe.pipeline.sources.parquet_splits import find_files, split_files

ROWS = 256  # of every record batch but the last
SUFFIX = ".arrow"


class PackedSamples(SampleTable):
    """Samples of a file written by `pack_samples`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._reading = Lock()
        self._reader: Any = None
        self._batches: dict[int, Any] = {}
        try:
            reader = self._open()
            about = {key.decode(): value.decode() for key, value in reader.schema.metadata.items()}
            classes = json.loads(about["class_names"])
            table = reader.read_all()
            labels = table.column("label").to_numpy().astype(np.int64)
            keys = KeyList(table.column("key").to_pylist())
        except (pa.ArrowInvalid, OSError, KeyError, AttributeError, ValueError) as error:
            raise DataCorrupt(f"not a packed file: {file}: {error}", cure="pack the images again") from error
        if len(labels) and not -1 <= labels.min() <= labels.max() < len(classes):
            raise DataCorrupt(
                f"labels {labels.min()}..{labels.max()} do not fit {len(classes)} classes: {file}",
                cure="pack the images again",
            )
        super().__init__(about["name"], keys, labels, classes)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None, "_batches": {}, "_reading": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _reading=Lock())

    def read(self, sample: int) -> bytes | NDArray[np.uint8]:
        """Return the encoded image, or raw uint8 pixels [H, W] or [H, W, 3]."""
        with self._reading:
            image, height, width, channels = self._batch(sample // ROWS)
        row = sample % ROWS
        if not channels[row]:
            return bytes(image[row].as_py())
        pixels = np.frombuffer(image[row].as_buffer(), np.uint8)
        shape = (int(height[row]), int(width[row]), int(channels[row]))
        return pixels.reshape(shape[:2] if shape[2] == 1 else shape)

    def measure_bytes(self) -> NDArray[np.int64]:
        """Return the stored size of every image."""
        lengths = [np.diff(np.asarray(self._offsets(index))) for index in range(-(-len(self) // ROWS))]
        return np.concatenate([np.zeros(0, np.int64), *lengths])

    def _offsets(self, index: int) -> NDArray[np.int64]:
        image = self._batch(index)[0]
        return np.frombuffer(image.buffers()[1], np.int64)[image.offset : image.offset + len(image) + 1]

    def _open(self) -> Any:
        if self._reader is None:
            self._reader = pa.ipc.open_file(pa.memory_map(str(self.file)))
        return self._reader

    def _batch(self, index: int) -> Any:
        if index not in self._batches:
            batch = self._open().get_batch(index)
            sizes = (batch.column(name).to_numpy() for name in ("height", "width", "channels"))
            self._batches[index] = (batch.column("image"), *sizes)
        return self._batches[index]


def pack_samples(
    table: SampleTable, file: Path, *, raw: bool = False, progress: Callable[[int], None] | None = None
) -> None:
    """Write all samples of `table` to one Arrow IPC file.

    Args:
        table: what to pack.
        file: ends in .arrow; in a folder, train.arrow, val.arrow and test.arrow are found as splits.
        raw: store decoded RGB pixels instead of the encoded bytes.
        progress: called with the number of samples written so far.

    Raises:
        BadImage: `raw` and an image cannot be decoded.
    """
    fields = {"image": pa.large_binary(), "label": pa.int64(), "key": pa.string()}
    fields |= {name: pa.int32() for name in ("height", "width", "channels")}
    about = {"name": table.name, "class_names": json.dumps(list(table.class_names), ensure_ascii=False)}
    schema = pa.schema(list(fields.items()), metadata=about)
    temporary = file.with_suffix(".tmp")
    with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for start in range(0, len(table), ROWS):
            rows = range(start, min(start + ROWS, len(table)))
            images = [_stored(table, row, raw) for row in rows]
            columns = {
                "image": [data for data, _ in images],
                "label": table.labels[rows.start : rows.stop],
                "key": table.keys[rows.start : rows.stop],
            }
            for i, name in enumerate(("height", "width", "channels")):
                columns[name] = [shape[i] for _, shape in images]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            if progress is not None:
                progress(rows.stop)
    temporary.replace(file)


def find_packed_splits(data: str, path: Path) -> FoundData | None:
    """Find packed files and their splits; None where there are none.

    Raises:
        DataAmbiguous: two files for one split.
    """
    left_out = LeftOut()
    if path.is_file():
        if path.suffix != SUFFIX:
            return None
        return FoundData(data, "packed Arrow", (FoundSplit(path.stem, frozenset(), (path,)),), _open_split)
    files = find_files(path, SUFFIX, 1, left_out)
    if not files:
        return None
    return FoundData(data, "packed Arrow", tuple(split_files(data, path, files)), _open_split, left_out)


def _open_split(split: FoundSplit, columns: Columns) -> OpenedSplit:
    if len(split.files) > 1:
        raise DataAmbiguous(
            f"{len(split.files)} packed files for one split in {split.files[0].parent}",
            details=[f"found     {listed(file.name for file in split.files)}"],
            cure="choose one: --train-split NAME, the file's name without .arrow",
        )
    return opened_from_files(PackedSamples(split.files[0]), split.files, "named numbers")


def _stored(table: SampleTable, sample: int, raw: bool) -> tuple[bytes, tuple[int, int, int]]:
    """Return the bytes to store, and height, width, channels (zeros for encoded bytes)."""
    image = table.read(sample)
    if isinstance(image, bytes):
        if not raw:
            return image, (0, 0, 0)
        image = np.asarray(decode_sample(table, sample))
    height, width = image.shape[:2]
    return image.tobytes(), (height, width, image.shape[2] if image.ndim == 3 else 1)
