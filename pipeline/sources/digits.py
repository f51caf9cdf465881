"""The embedded data set: 1,797 handwritten digits of 8 x 8 pixels.

Source: "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository (1998), licence CC BY 4.0, as shipped with scikit-learn. The 17 grey levels 0..16 are stored as
0..255. The split (1,437 for training, 360 for validation, stratified) is a column of the file;
tests/pipeline/make_digits.py made it.
"""

from __future__ import annotations

from importlib import resources
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as parquet

from deit_pipe.pipeline.samples import ArraySamples, KeyList
from deit_pipe.pipeline.sources.found_splits import Columns, FoundData, FoundSplit
from deit_pipe.pipeline.sources.opened_split import OpenedSplit, opened_from_files

DIGITS = "digits"  # what the data set is called where a path is expected


def find_digits() -> FoundData:
    """Return the two splits of the embedded digits."""
    return FoundData(DIGITS, "embedded digits", (_split("train"), _split("val")), _open_split)


def _split(kind: Literal["train", "val"]) -> FoundSplit:
    return FoundSplit(kind, frozenset((kind,)))


def _open_split(split: FoundSplit, columns: Columns) -> OpenedSplit:
    table = open_digits("train" if split.name == "train" else "val")
    return opened_from_files(table, (), "named numbers")


def open_digits(split: Literal["train", "val"]) -> ArraySamples:
    """Open one split of the embedded digits: raw uint8 [8, 8] images, classes "0".."9"."""
    packed = resources.files("deit_pipe.pipeline.sources").joinpath("digits.parquet").read_bytes()
    # No threads: Arrow's pool, once started, can abort or hang a process that ends (apache/arrow issues 34314, 50482).
    both = parquet.ParquetFile(pa.BufferReader(packed)).read(use_threads=False)
    table = both.filter(compute.equal(both["split"], split))
    rows = table.column("row").to_pylist()
    pixels = np.frombuffer(b"".join(table.column("pixels").to_pylist()), dtype=np.uint8).reshape(-1, 8, 8)
    labels = np.asarray(table.column("label").to_pylist(), dtype=np.int64)
    keys = KeyList(f"digit {row}" for row in rows)
    return ArraySamples(f"digits ({split})", pixels, labels, [str(digit) for digit in range(10)], keys)
