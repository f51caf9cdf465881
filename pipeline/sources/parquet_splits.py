"""Parquet and packed files: which belong to which split, by their names and folders."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deit_pipe.pipeline.errors import DataAmbiguous, DataMissing
from deit_pipe.pipeline.sources.folder_shape import is_image, is_label_table
from deit_pipe.pipeline.sources.folder_walk import FolderWalk, joined
from deit_pipe.pipeline.sources.found_splits import FoundSplit
from deit_pipe.pipeline.sources.left_out import LeftOut, listed
from deit_pipe.pipeline.sources.split_names import Kind, kinds_of, without_shard

DEPTH = 3  # config/split/file


@dataclass(frozen=True)
class _NamedFile:
    """A file, taken apart by its name.

    Attributes:
        path: below the data path, with forward slashes.
        split: the name of its split.
        kinds: what that name speaks of.
        config: the folders around that are no split's, "" for none.
        shard: (part, parts), where the file says so.
    """

    path: str
    split: str
    kinds: frozenset[Kind]
    config: str
    shard: tuple[int, int] | None


def find_files(root: Path, suffix: str, depth: int, left_out: LeftOut) -> list[str]:
    """Return the paths, below `root`, of all files of a suffix that are not among images; sorted."""
    walk = FolderWalk(root, left_out)
    found: list[str] = []
    waiting = [""]
    while waiting:
        below = waiting.pop()
        if below and _holds_an_image(root / below):
            continue  # a class folder: no need to list a million names
        listing = walk.look_in(below)
        found += [joined(below, file.name) for file in listing.files if file.name.lower().endswith(suffix)]
        if below.count("/") + bool(below) < depth - 1:
            waiting += [joined(below, name) for name in listing.folders]
    return sorted(found)


def split_files(data: str, root: Path, paths: Iterable[str]) -> list[FoundSplit]:
    """Group files by the split they belong to.

    A file belongs to the split that its name speaks of, else to that of the folder it is in.

    Raises:
        DataAmbiguous: files of several configurations, or two sets of parts of one split.
        DataMissing: a part is not there.
    """
    files = [_take_apart(path) for path in paths]
    worded = [file for file in files if file.kinds]
    # Files without a split's word beside others that have one are left out, wherever they are.
    configs = sorted({file.config for file in worded or files})
    if len(configs) > 1:
        choices = " or ".join(f"--data {root / config}" for config in configs[:3] if config)
        raise DataAmbiguous(
            f"{data} holds several data sets",
            details=[f"found     {listed(config or 'files directly in it' for config in configs)}"],
            cure=f"choose one: {choices}",
        )
    groups: dict[str, list[_NamedFile]] = {}
    for file in files:
        groups.setdefault(file.split, []).append(file)
    for members in groups.values():
        if members[0].kinds or not worded:
            _check_parts(data, members)
    return [
        FoundSplit(name, members[0].kinds, tuple(root / member.path for member in members))
        for name, members in sorted(groups.items())
    ]


def tables_of_labels(paths: Iterable[str]) -> list[str]:
    """Return those files that are named like a table of labels and unlike images of a split."""
    return [path for path in paths if is_label_table(Path(path).name) and not kinds_of(Path(path).stem)]


def _take_apart(path: str) -> _NamedFile:
    parts = path.split("/")
    stem, shard = without_shard(Path(parts[-1]).stem)
    folders = parts[:-1]
    inside = [folder for folder in folders if kinds_of(folder)]
    config = "/".join(folder for folder in folders if not kinds_of(folder))
    own = kinds_of(stem)
    around = kinds_of(inside[-1]) if inside else frozenset()
    if own and around and own != around:  # train/test-0.parquet: both words are part of the name
        return _NamedFile(path, f"{inside[-1]}/{stem}", own | around, config, shard)
    if own:
        return _NamedFile(path, stem, own, config, shard)
    if around:
        return _NamedFile(path, inside[-1], around, config, shard)
    return _NamedFile(path, stem or parts[-1], frozenset(), config, shard)


def _check_parts(data: str, files: list[_NamedFile]) -> None:
    """Check that all parts are there where the names say how many there are."""
    totals = {file.shard[1] for file in files if file.shard is not None}
    if not totals:
        return
    if len(totals) > 1 or any(file.shard is None for file in files):
        raise DataAmbiguous(
            f"the split {files[0].split} of {data} is there more than once",
            details=[f"found     {listed(file.path for file in files)}"],
            cure="move all but one set of files out of the data",
        )
    parts = totals.pop()
    there = {file.shard[0] for file in files if file.shard is not None}
    # Parts are counted from 0, by some writers from 1.
    if len(there) != parts or len(files) != parts:
        raise DataMissing(
            f"parts of the split {files[0].split} of {data} are missing",
            expected=f"{parts} files",
            got=f"{len(there)}: {listed(file.path for file in files)}",
            cure="fetch the data again",
        )


def _holds_an_image(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(is_image(entry.name) and not entry.name.startswith(".") for entry in entries)
    except OSError:
        return False  # listing it says so
