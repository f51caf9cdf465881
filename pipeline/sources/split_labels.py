"""Labels that stand beside images as text or numbers, one by one: class numbers, and what the classes are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.errors import DataCorrupt
from deit_pipe.pipeline.sources.left_out import printable
from deit_pipe.pipeline.sources.opened_split import LabelsAre
from deit_pipe.pipeline.sources.parquet_columns import NO_LABEL

MOST_CLASSES = 1_000_000  # a larger number is no class


def numbered_labels(words: Sequence[Any], where: str) -> tuple[NDArray[np.int64], list[str], LabelsAre]:
    """Number the labels: where all of them are class numbers these count, else they are words, sorted.

    Args:
        words: one label a sample: a text, a number, or None (or "" or "-1") for an unlabelled image.
        where: for messages.

    Returns:
        Labels, int64 [N], -1 for none; the class names; what they are.

    Raises:
        DataCorrupt: a number that is no class.
    """
    texts = [None if word is None or str(word) in NO_LABEL else str(word) for word in words]
    known = {text for text in texts if text is not None}
    numbers = {text: _class_number(text) for text in known}
    if known and None not in numbers.values():
        most = max(number for number in numbers.values() if number is not None)
        if most >= MOST_CLASSES:
            raise DataCorrupt(
                f"label {most} of {where} is no class number",
                expected=f"0..{MOST_CLASSES - 1:,}, or words",
                cure="name another column of labels: --label-column NAME",
            )
        labels = [-1 if text is None else numbers[text] for text in texts]
        return np.asarray(labels, dtype=np.int64), [str(i) for i in range(most + 1)], "numbers"
    negative = sorted(text for text in known if text.startswith("-") and text[1:].isdecimal())
    if negative and all(_class_number(text.removeprefix("-")) is not None for text in known):
        raise DataCorrupt(
            f"label {printable(negative[0])} of {where} is no class number",
            expected="0 and above, or -1 or nothing for unlabelled images",
            cure="correct the labels",
        )
    classes = sorted(known)
    number = {text: i for i, text in enumerate(classes)}
    return np.asarray([-1 if t is None else number[t] for t in texts], dtype=np.int64), classes, "words"


def _class_number(text: str) -> int | None:
    """`7` is one, `007` and `7.5` are words."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        return None
    return int(text) if str(int(text)) == text else None
