"""The images of all splits in one row, with what is known of each: split, class, name, file.

Shapes: N images of all splits together; an image is its place in that row, 0..N-1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.data_set import DataSet
from deit_pipe.pipeline.data_splits import DataSplits, NamedSplit
from deit_pipe.pipeline.samples import SampleTable, class_name
from deit_pipe.pipeline.selected_samples import SelectedSamples
from deit_pipe.pipeline.sources.split_names import Kind


@dataclass(frozen=True)
class CheckedSplit:
    """A split that is checked.

    Attributes:
        kind: train, val or test.
        table: its images.
        named: the split as it was opened, of which `table` may be a part.
    """

    kind: Kind
    table: SampleTable
    named: NamedSplit

    @property
    def positions(self) -> NDArray[np.int64]:
        """Where each image is in the split on disk, int64."""
        chosen = self.table.selected_positions
        return np.arange(len(self.table), dtype=np.int64) if chosen is None else chosen

    @property
    def identities(self) -> NDArray[np.uint64] | None:
        """One for each image, equal for links to one file; None where several images are in one file."""
        opened = self.named.opened
        whole = opened.table.whole if isinstance(opened.table, SelectedSamples) else opened.table
        own = len(opened.identities) == len(whole)
        return opened.identities[self.positions] if own else None

    def files(self) -> Sequence[Path]:
        """The files it is in: one for each image, or the few that hold all of them."""
        opened = self.named.opened
        if self.identities is not None:
            return [opened.file_at(place) for place in self.positions.tolist()]
        return [opened.file_at(place) for place in range(len(opened.identities))]


class CheckedImages:
    """All images of a data path.

    Attributes:
        splits: in the order train, val, test.
        labels: int64 [N], -1: unlabelled.
        split_of: int64 [N], places in `splits`.
    """

    def __init__(self, splits: Sequence[CheckedSplit]) -> None:
        self.splits = tuple(splits)
        lengths = [len(split.table) for split in self.splits]
        self._starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.labels = np.concatenate([split.table.labels for split in self.splits])
        self.split_of = np.repeat(np.arange(len(self.splits)), lengths)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Those of the training split, in the order of the labels."""
        return self.splits[0].table.class_names

    def find(self, image: int) -> tuple[CheckedSplit, int]:
        """The split and the sample in it."""
        place = int(self.split_of[image])
        return self.splits[place], image - int(self._starts[place])

    def name(self, image: int) -> str:
        """`train/cat/001.jpg`: the kind of its split and its key."""
        split, sample = self.find(image)
        return f"{split.kind}/{split.table.keys[sample]}"

    def class_of(self, image: int) -> str:
        """The name of its class."""
        return class_name(self.class_names, int(self.labels[image]))

    def read(self, image: int) -> bytes | NDArray[np.uint8]:
        """The stored bytes, or raw pixels."""
        split, sample = self.find(image)
        return split.table.read(sample)

    def identities(self) -> NDArray[np.uint64]:
        """One for each image, uint64 [N]: equal for links to one file, all different where files hold many images."""
        parts = []
        for place, split in enumerate(self.splits):
            own = split.identities
            start = int(self._starts[place])
            # far from what a file system numbers its files with
            alone = np.arange(start, start + len(split.table), dtype=np.uint64) | np.uint64(1 << 63)
            parts.append(alone if own is None else own)
        return np.concatenate(parts)


def checked_images(found: DataSet, splits: DataSplits) -> CheckedImages:
    """The images of a data set and of the splits it was drawn from."""
    train = CheckedSplit("train", found.train, splits.train)
    others: list[tuple[Kind, NamedSplit | None]] = [("val", splits.val), ("test", splits.test)]
    return CheckedImages(
        [train, *(CheckedSplit(kind, named.opened.table, named) for kind, named in others if named is not None)]
    )
