"""Tar files in the convention of WebDataset: the files of one sample share a name, up to the first dot.

`0001.jpg` is the image; its label is in `0001.cls` (a class number or a word) or in `0001.json` (an object with one of
the usual names of a label, or the one that is asked for). The heads of all members are read once, when the data are
first opened (what was found is kept: kept/shard_index.py); an image is then read from its place, in any order, without
unpacking. Compressed tar files have no such places: they are refused.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_pipe.pipeline.errors import BadImage, DataAmbiguous, DataCorrupt, DataMissing
from deit_pipe.pipeline.samples import KeyList, SampleTable
from deit_pipe.pipeline.sources.found_splits import Columns, FoundData, FoundSplit
from deit_pipe.pipeline.sources.kept.own_folder import FileState, refuse_changed, state_of
from deit_pipe.pipeline.sources.kept.shard_index import ShardIndex, keep_index, kept_index
from deit_pipe.pipeline.sources.left_out import HIDDEN, IRREGULAR, LeftOut, listed, printable
from deit_pipe.pipeline.sources.opened_split import OpenedSplit, opened_from_files
from deit_pipe.pipeline.sources.parquet_columns import LABELS
from deit_pipe.pipeline.sources.parquet_splits import DEPTH, find_files, split_files
from deit_pipe.pipeline.sources.split_labels import numbered_labels

SUFFIX = ".tar"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
IMAGES = ("jpg", "jpeg", "png", "webp")
LABEL_NAMES = (*LABELS.names, "cls")
MOST_LABEL_BYTES = 1 << 20
NO_IMAGE = "tar samples without an image"
TAR = "tar"


@dataclass
class _Member:
    """What is known of one sample while its shard is read."""

    image: tuple[int, int] | None = None  # place and length in bytes
    kind: str = ""
    label: Any = None


class TarSamples(SampleTable):
    """Samples of one split, in the order of the files' names and of the first member of each sample.

    Attributes:
        files: what they are in.
        labels_are: what stands in the data.
    """

    def __init__(
        self, name: str, files: Sequence[Path], label_name: str | None, must_have_labels: bool, left_out: LeftOut
    ) -> None:
        """Read the heads of all members, and the labels.

        Raises:
            DataCorrupt: not a whole tar file, or a label that is none.
            DataAmbiguous: two images in one sample, or several labels.
            DataMissing: no images, or no labels.
        """
        self.files = tuple(files)
        keys: list[str] = []
        words: list[str | None] = []
        known = [_index_of(file, label_name) for file in files]
        self._states, indexes = [state for state, _ in known], [index for _, index in known]
        for index in indexes:
            keys += index.keys
            words += index.labels
            for kind, count, first in index.left_out:
                left_out.add(kind, first, count)
        if not keys:
            raise DataMissing(
                f"no images in the tar files of {name}",
                expected=f"members like 0001.{IMAGES[0]} and 0001.cls",
                got=listed(file.name for file in files),
                cure="unpack tar files of another kind: tar xf FILE",
            )
        if must_have_labels and all(word is None for word in words):
            asked = label_name or ", ".join(LABEL_NAMES)
            raise DataMissing(
                f"no image of the tar files of {name} has a label",
                expected=f"a member 0001.cls beside 0001.{IMAGES[0]}, or 0001.json with {asked}",
                cure="name the key of the .json members: --label-column NAME; class folders in a tar file: unpack it",
            )
        labels, classes, self.labels_are = numbered_labels(words, f"the tar files of {name}")
        self._shards = np.repeat(np.arange(len(files), dtype=np.int32), [len(index.keys) for index in indexes])
        self._places = np.concatenate([index.as_array() for index in indexes])
        if len(set(keys)) < len(keys):
            keys = [f"{self.files[shard].stem}/{key}" for shard, key in zip(self._shards.tolist(), keys, strict=True)]
        super().__init__(name, KeyList(keys), labels, classes)

    def read(self, sample: int) -> bytes:
        """Return the encoded image.

        Raises:
            BadImage: it cannot be read.
            DataCorrupt: the file is not the one whose heads were read.
        """
        shard = int(self._shards[sample])
        file = self.files[shard]
        place, length = self._places[sample].tolist()
        try:
            with file.open("rb") as opened:
                refuse_changed(file, self._states[shard], os.fstat(opened.fileno()))
                opened.seek(place)
                data = opened.read(length)
        except OSError as error:
            raise BadImage(
                f"cannot read image: sample {sample} ({self.keys[sample]}): {error.strerror}",
                cure=f"put the file back: {file}",
            ) from error
        if len(data) < length:
            raise BadImage(f"cannot read image: sample {sample} ({self.keys[sample]}): {file} has become shorter")
        return data

    def measure_bytes(self) -> NDArray[np.int64]:
        """Return the length of every encoded image."""
        return self._places[:, 1].copy()


def find_tar_splits(data: str, path: Path) -> FoundData | None:
    """Find the splits of tar files; None where there are none.

    Raises:
        DataCorrupt: all tar files are compressed.
    """
    left_out = LeftOut()
    if path.is_file():
        if path.name.lower().endswith(COMPRESSED):
            raise _compressed(path.name)
        if path.suffix.lower() != SUFFIX:
            return None
        return FoundData(data, TAR, (FoundSplit(path.stem, frozenset(), (path,)),), _opener(data), left_out)
    files = find_files(path, SUFFIX, DEPTH, left_out)
    if not files:
        packed = [name for suffix in COMPRESSED for name in find_files(path, suffix, DEPTH, LeftOut())]
        if packed:
            raise _compressed(packed[0])
        return None
    return FoundData(data, TAR, tuple(split_files(data, path, files)), _opener(data), left_out)


def _opener(data: str) -> Callable[[FoundSplit, Columns], OpenedSplit]:
    def open_split(split: FoundSplit, columns: Columns) -> OpenedSplit:
        left_out = LeftOut()
        table = TarSamples(data, split.files, columns.label, columns.must_have_labels, left_out)
        opened = opened_from_files(table, split.files, table.labels_are)
        opened.left_out.merge(left_out)
        return opened

    return open_split


def _index_of(file: Path, label_name: str | None) -> tuple[FileState, ShardIndex]:
    """Return a file's state before it is read, its samples that have an image, and what else is there."""
    try:
        state = state_of(file)
        known = kept_index(state, label_name)
        if known is not None:
            return state, known
        settled = state.settled  # before it is read: what changes it later is seen
        left_out, index = LeftOut(), ShardIndex()
        for key, member in _read_shard(file, label_name, left_out).items():
            if member.image is None:
                left_out.add(NO_IMAGE, f"{file.name}/{key}")
                continue
            index.keys.append(key)
            index.places.append(member.image)
            index.labels.append(None if member.label is None else str(member.label))
        index.left_out = left_out.kinds()
        if settled:
            keep_index(file, state, label_name, index)
        return state, index
    except OSError as error:
        raise DataCorrupt(f"cannot read {file}: {error.strerror}", cure="make it readable") from error


def _read_shard(file: Path, label_name: str | None, left_out: LeftOut) -> dict[str, _Member]:
    """Return the samples of one file by their keys."""
    found: dict[str, _Member] = {}
    try:
        with tarfile.open(file, "r:") as shard:
            for member in shard:
                name = member.name.removeprefix("./")
                folder, slash, last = name.rpartition("/")
                if not member.isreg():
                    if not member.isdir():
                        left_out.add(IRREGULAR, f"{file.name}/{name}")
                    continue
                stem, dot, kind = last.partition(".")
                if not stem or not dot:
                    left_out.add(HIDDEN if not stem else NO_IMAGE, f"{file.name}/{name}")
                    continue
                _take(found.setdefault(folder + slash + stem, _Member()), shard, member, kind.lower(), file, label_name)
            _refuse_odd_end(file, shard.offset)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DataCorrupt(f"not a whole tar file: {file}: {error}", cure="fetch the file again") from error
    return found


def _refuse_odd_end(file: Path, end: int) -> None:
    """Refuse a file that does not end with zeros: `tarfile` stops silently at a broken head and a first end."""
    with file.open("rb") as opened:
        opened.seek(end)
        data = opened.read(1 << 20)
        if not data:
            raise DataCorrupt(
                f"not a whole tar file: {file}: it has no end, so more may be missing",
                cure="fetch the file again, or write it again",
            )
        while data:
            if data.count(0) < len(data):
                raise DataCorrupt(
                    f"not a whole tar file: {file}: its members end at byte {end:,}, and more is behind",
                    cure="fetch the file again; join tar files with tar --concatenate",
                )
            data = opened.read(1 << 20)


def _take(
    sample: _Member, shard: tarfile.TarFile, member: tarfile.TarInfo, kind: str, file: Path, label_name: str | None
) -> None:
    """Note what a member says of its sample."""
    where = printable(f"{file.name}/{member.name}")
    if kind in IMAGES:
        if sample.image is not None:
            raise DataAmbiguous(
                f"two images in one sample of {file}: {where}",
                details=[f"found     .{sample.kind} and .{kind}"],
                cure="give every sample a name of its own, up to the first dot",
            )
        sample.image, sample.kind = (member.offset_data, member.size), kind
    elif kind in ("cls", "json"):
        if member.size > MOST_LABEL_BYTES:
            raise DataCorrupt(f"a label of {member.size:,} bytes in {file}: {where}", cure="write the shards again")
        opened = shard.extractfile(member)
        data = b"" if opened is None else opened.read()
        label = _word(data, where) if kind == "cls" else _from_json(data, label_name, where)
        if label is not None and sample.label is not None and str(label) != str(sample.label):
            raise DataAmbiguous(
                f"a sample of {file} has two labels: {where}",
                details=[f"found     {printable(str(sample.label))} and {printable(str(label))}"],
                cure="write the shards again with one label a sample",
            )
        sample.label = label if sample.label is None else sample.label


def _word(data: bytes, where: str) -> str | None:
    try:
        text = data.decode().strip()
    except UnicodeDecodeError as error:
        raise DataCorrupt(f"a label that is no text: {where}", cure="write a class number or a word") from error
    return text or None


def _from_json(data: bytes, label_name: str | None, where: str) -> Any:
    try:
        values = json.loads(data)
    except ValueError as error:
        raise DataCorrupt(f"not JSON: {where}: {error}", cure="write the shards again") from error
    if not isinstance(values, dict):
        return None
    names = (label_name,) if label_name is not None else LABEL_NAMES
    there = [name for name in names if name in values]
    if len(there) > 1:
        raise DataAmbiguous(
            f"which key of {where} is the label?", details=[f"found     {listed(there)}"], cure="--label-column NAME"
        )
    label = values[there[0]] if there else None
    if isinstance(label, (list, dict, bool, float)):
        raise DataCorrupt(f"a label that is neither a number nor a word: {where}", cure="--label-column NAME")
    return label


def _compressed(name: str) -> DataCorrupt:
    return DataCorrupt(
        f"a compressed tar file cannot be read at random: {printable(name)}", cure="uncompress it, such as: gunzip FILE"
    )
