"""Parquet files in the layout of Hugging Face data sets: a column of encoded images and a column of labels.

Rows are read in random order but Parquet can only decode whole row groups, so the last ones are kept in
memory. A set that does not fit in `KEPT_BYTES` per process should be packed first (see packed.py).
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from deit_pipe.pipeline.errors import BadImage, DataCorrupt
from deit_pipe.pipeline.samples import KeyList, SampleTable

IMAGE_COLUMNS = ("image", "img", "jpg", "png", "webp")
LABEL_COLUMNS = ("label", "labels", "fine_label", "target", "class")
KEPT_BYTES = 512 << 20
SPLIT_WORDS = {"train": ("train",), "val": ("val", "test")}


class ParquetSamples(SampleTable):
    """Samples of one split, in the order of the files' names and rows."""

    def __init__(self, name: str, files: list[Path]) -> None:
        heads = [parquet.ParquetFile(file) for file in files]
        self.files = files
        self.image_column = _choose(heads[0], IMAGE_COLUMNS, files[0], "image")
        self.label_column = _choose(heads[0], LABEL_COLUMNS, files[0], "label")
        groups = [(i, group) for i, head in enumerate(heads) for group in range(head.num_row_groups)]
        rows = [heads[i].metadata.row_group(group).num_rows for i, group in groups]
        self._groups = groups
        self._starts = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        self._open: dict[int, Any] = {}
        self._kept: OrderedDict[int, Any] = OrderedDict()
        column = pa.chunked_array(
            [chunk for head in heads for chunk in head.read([self.label_column]).column(0).chunks]
        )
        labels, classes = _read_labels(column, heads[0].schema_arrow, self.label_column)
        super().__init__(name, KeyList(f"row {row}" for row in range(len(labels))), labels, classes)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}, "_kept": OrderedDict()}

    def read(self, sample: int) -> bytes:
        """Return the encoded image of a row."""
        group = int(np.searchsorted(self._starts, sample, side="right")) - 1
        row = sample - int(self._starts[group])
        value = self._images(group)[row].as_py()
        if value is None:
            raise BadImage("the image column is empty")
        return bytes(value)

    def measure_bytes(self) -> NDArray[np.int64]:
        """Return the length of every encoded image; reads all of them once."""
        lengths = [compute.binary_length(self._images(group)) for group in range(len(self._groups))]
        return np.concatenate([compute.fill_null(part, 0).to_numpy(False) for part in lengths]).astype(
            np.int64
        )

    def _images(self, group: int) -> Any:
        """Return the encoded images of a row group, a binary Arrow array."""
        kept = self._kept.get(group)
        if kept is None:
            file, number = self._groups[group]
            if file not in self._open:
                self._open[file] = parquet.ParquetFile(self.files[file], memory_map=True)
            column = self._open[file].read_row_group(number, columns=[self.image_column]).column(0)
            column = column.combine_chunks()
            kept = compute.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column
            self._kept[group] = kept
            while len(self._kept) > 1 and sum(part.nbytes for part in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(group)
        return kept


def find_parquet(path: Path, split: Literal["train", "val"]) -> tuple[list[Path], bool]:
    """Return a split's Parquet files at `path`, and whether there are any Parquet files at all.

    Files belong to a split by their name (train-00000-of-00002.parquet) or folder (train/0000.parquet). Files
    without such a word are the training split.
    """
    if path.is_file():
        return ([path] if split == "train" else []), path.suffix == ".parquet"
    files = sorted({*path.glob("*.parquet"), *path.glob("*/*.parquet")})
    named = {
        name: [file for file in files if _belongs(file, path, words)] for name, words in SPLIT_WORDS.items()
    }
    if not any(named.values()):
        named["train"] = files
    return named[split], bool(files)


def _belongs(file: Path, root: Path, words: Iterable[str]) -> bool:
    parts = file.relative_to(root).parts
    return any(part.lower().startswith(word) for part in parts for word in words)


def _choose(head: Any, names: tuple[str, ...], file: Path, what: str) -> str:
    present = head.schema_arrow.names
    for name in names:
        if name in present:
            return name
    raise DataCorrupt(
        f"no {what} column in {file}\n  expected  one of {', '.join(names)}\n  got       {', '.join(present)}\n"
        "  rename the column"
    )


def _read_labels(column: Any, schema: Any, name: str) -> tuple[NDArray[np.int64], list[str]]:
    if column.null_count:
        raise DataCorrupt(f"{column.null_count} rows of column {name} have no label\n  remove those rows")
    if pa.types.is_integer(column.type):
        labels = np.asarray(column.to_numpy(), dtype=np.int64)
        classes = _declared_names(schema, name) or [str(i) for i in range(int(labels.max(initial=-1)) + 1)]
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
            raise DataCorrupt(
                f"labels {labels.min()}..{labels.max()} do not fit {len(classes)} classes\n  correct column {name}"
            )
        return labels, classes
    words = column.to_pylist()
    classes = sorted({str(word) for word in words})
    number = {word: i for i, word in enumerate(classes)}
    return np.asarray([number[str(word)] for word in words], dtype=np.int64), classes


def _declared_names(schema: Any, column: str) -> list[str] | None:
    """Return the class names that the `datasets` library wrote into the file's metadata."""
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])
        names = about["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names]
