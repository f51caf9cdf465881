"""What a student sees in images, as vectors, and the Parquet file that holds them."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from deit_pipe.pipeline.samples import SampleTable, class_name
from deit_pipe.stages.answering.in_order import read_in_order
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.networks.durable_files import naming, partial_of, replace_durably, sync_file
from deit_pipe.stages.networks.student import StudentFacts

Vectors = dict[str, NDArray[np.float32]]


def vectors_of(model: nn.Module, pixels: Tensor) -> dict[str, Tensor]:
    """Vectors [B, D] of normalised pixels [B, 3, S, S], by the name of their column.

    Raises:
        Mismatch: a network that has none.
    """
    network: Any = model
    seen = network.forward_features(pixels)
    if isinstance(model, VisionTransformer):
        found = {"patch_mean": seen[:, model.num_prefix_tokens :].mean(dim=1)}
        if model.num_prefix_tokens == 2 and hasattr(model, "dist_token"):
            found = {"dist_token": seen[:, 1], **found}
        return {"class_token": seen[:, 0], **found} if model.cls_token is not None else found
    pooled = network.forward_head(seen, pre_logits=True)
    if not (isinstance(pooled, Tensor) and pooled.ndim == 2):
        raise Mismatch(
            f"{type(model).__name__} has no vector for an image", cure="use a student with tokens, such as deit_*"
        )
    return {"pooled": pooled}


def read_vectors(
    model: nn.Module, facts: StudentFacts, table: SampleTable, device: torch.device, **how: Any
) -> Iterator[Vectors]:
    """Yield float32 [B, D] arrays, batch by batch, in the order of the table; arguments as of `read_in_order`."""
    return read_in_order(partial(vectors_of, model), facts, table, device, **how)


def write_vectors(out: Path, parts: Iterator[tuple[str, SampleTable, Iterator[Vectors]]], about: dict[str, Any]) -> int:
    """Write a Parquet file, whole or not at all; a row group for each batch.

    Args:
        out: the file.
        parts: name, images and vectors of each split.
        about: what the file says of itself, under the key `deit_pipe`, as JSON.

    Returns:
        How many rows.
    """
    aside, rows, writer = partial_of(out), 0, None
    try:
        with naming(out):
            for split, table, batches in parts:
                first = 0
                for vectors in batches:
                    batch = _rows(split, table, first, vectors)
                    if writer is None:
                        schema = batch.schema.with_metadata({"deit_pipe": json.dumps(about)})
                        writer = pq.ParquetWriter(aside, schema)
                    writer.write_table(batch.replace_schema_metadata(writer.schema.metadata))
                    first += batch.num_rows
                rows += first
            if writer is not None:
                writer.close()
                writer = None
                sync_file(aside)
                replace_durably(out)
    finally:
        if writer is not None:
            writer.close()
        aside.unlink(missing_ok=True)
    return rows


def _rows(split: str, table: SampleTable, first: int, vectors: Vectors) -> pa.Table:
    """Rows of consecutive images; an unlabelled one has no label and no class."""
    count = len(next(iter(vectors.values())))
    labels = table.labels[first : first + count]
    columns: dict[str, Any] = {
        "key": pa.array([_utf8(table.keys[number]) for number in range(first, first + count)], pa.string()),
        "split": pa.array([split] * count, pa.string()),
        "label": pa.array([None if label < 0 else int(label) for label in labels], pa.int32()),
        "class": pa.array(
            [None if label < 0 else class_name(table.class_names, int(label)) for label in labels], pa.string()
        ),
    }
    for name, value in vectors.items():
        flat = pa.array(np.ascontiguousarray(value).reshape(-1), pa.float32())
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, value.shape[1])
    return pa.table(columns)


def _utf8(key: str) -> str:
    """A file name as text; bytes that are none are shown."""
    return key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
