"""The labels of a cache's samples, without their keys: what counting needs, quickly even for a million samples."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deit_pipe.store.manifest import SAMPLES
from deit_pipe.store.places.location import Location, ObjectMissing
from deit_pipe.store.places.opening import open_location


def read_labels(location: str | Path | Location) -> NDArray[np.int64] | None:
    """True classes, int64 [N], -1 for unlabelled samples; None where the table is gone or damaged (verify names it)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        data = pa.BufferReader(open_location(location).get(SAMPLES))
        column = pq.read_table(data, columns=["label"], page_checksum_verification=True)["label"]
    except (ObjectMissing, OSError, pa.ArrowException):
        return None
    return np.asarray(column.to_numpy(), np.int64)
