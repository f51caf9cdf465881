"""Find out what a data path holds, and open its splits as they are found on disk."""

from __future__ import annotations

from pathlib import Path

from deit_pipe.pipeline.errors import ChoiceError, DataAmbiguous, DataMissing
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.pipeline.sources.cifar import find_cifar_splits
from deit_pipe.pipeline.sources.digits import DIGITS, find_digits
from deit_pipe.pipeline.sources.folder_shape import any_images_in_folders
from deit_pipe.pipeline.sources.folder_splits import find_folder_splits
from deit_pipe.pipeline.sources.found_splits import Columns, FoundData, choose_splits
from deit_pipe.pipeline.sources.idx import find_idx_splits
from deit_pipe.pipeline.sources.left_out import listed
from deit_pipe.pipeline.sources.opened_split import with_classes_of
from deit_pipe.pipeline.sources.packed import find_packed_splits
from deit_pipe.pipeline.sources.parquet import find_parquet_splits
from deit_pipe.pipeline.sources.split_names import Kind
from deit_pipe.pipeline.sources.tables.flat_folder import LABEL_TABLE, find_flat_folder, labelled_by
from deit_pipe.pipeline.sources.tar_shards import TAR, find_tar_splits

FILE_SOURCES = (find_packed_splits, find_idx_splits, find_cifar_splits, find_parquet_splits)


def open_samples(data: str, split: Kind = "train") -> SampleTable:
    """Open one split of `data` exactly as it is found: nothing held out, nothing left away.

    Args:
        data: "digits" (embedded) or a path to class folders (below train/, val/ and test/, or directly: then it has
            only a training split), images and a table of labels, tar, IDX, Parquet, CIFAR binary files or packed Arrow.
        split: which part. Labels are numbered as in the training split, where there is one.

    >>> digits = open_samples("digits")
    >>> len(digits), digits.class_names[:3], digits.read(0).shape
    (1437, ('0', '1', '2'), (8, 8))

    Raises:
        DataMissing: nothing there, nothing we know, or no such split.
        DataAmbiguous: it can be understood in more than one way.
    """
    found = find_data(data)
    chosen = choose_splits(found)
    wanted = chosen.of(split)
    if wanted is None:
        raise missing_split(found, split)
    opened = found.open_split(wanted, Columns(must_have_labels=split == "train"))
    if split != "train" and chosen.train is not None:
        opened = with_classes_of(opened, found.open_split(chosen.train, Columns()))
    return opened.table


def find_data(data: str, columns: Columns | None = None, labels: str | None = None) -> FoundData:
    """Find out what is at a data path and which splits it has; no image is read.

    Args:
        data: the path.
        columns: of tables of labels; of Parquet they are needed when a split is opened.
        labels: a table of labels for the images in the folder `data`, wherever these are.

    Raises:
        DataMissing: nothing there, or nothing we know.
        DataAmbiguous: several kinds of data, or several data sets.
        ChoiceError: a table of labels for data that are no folder.
    """
    columns = columns or Columns()
    if data == DIGITS:
        if labels is not None:
            raise ChoiceError("--labels is for a folder of images; digits are embedded", cure="leave it out")
        return find_digits()
    path = Path(data)
    if not path.exists():
        raise DataMissing(f"no data at {data}", cure="give the folder or file that holds the images: --data PATH")
    if labels is not None:
        return labelled_by(data, path, Path(labels), columns)
    flat = find_flat_folder(data, path, columns) if path.is_dir() else None
    if flat is not None:
        return flat
    found = [one for find in FILE_SOURCES if (one := find(data, path)) is not None]
    if len(found) > 1:
        files = [file.name for one in found for split in one.splits[:1] for file in split.files[:1]]
        raise DataAmbiguous(
            f"{data} holds {' and '.join(one.source for one in found)}",
            details=[f"found     {listed(files)}"],
            cure="give them folders of their own, and choose one: --data DIR",
        )
    if found:
        if path.is_dir() and any_images_in_folders(path):
            found[0].left_out.add(f"folders of images beside {found[0].source} files", path.name)
        return found[0]
    folders = find_folder_splits(data, path) if path.is_dir() else None
    other = folders or find_tar_splits(data, path)
    if other is None:
        raise DataMissing(
            f"no images that we know how to read in {data}",
            expected="class folders (in train/ and val/, or bare), images and labels.csv, IDX, CIFAR, Parquet, tar, "
            "packed Arrow",
            cure="see: deit-pipe show-views --help",
        )
    return other


def missing_split(found: FoundData, split: Kind) -> DataMissing:
    """Return the error for data without a training, validation or test part."""
    cure = {
        "train": "name the training images: --train-split NAME, or other data: --data PATH",
        "val": "name other validation images: --val-data PATH, or hold some out: --val-fraction 0.1",
        "test": "name the data that has one: --data PATH",
    }[split]
    names = listed(one.name for one in found.splits)
    return DataMissing(f"no {split} split in {found.path}", details=[f"found     {names}"], cure=cure)


def check_columns(columns: Columns, *found: FoundData) -> None:
    """Refuse column names where nothing has columns.

    Raises:
        ChoiceError: names the option.
    """
    sources = {one.source for one in found}
    if columns.image is not None and sources.isdisjoint(("Parquet", LABEL_TABLE)):
        raise ChoiceError(
            f"--image-column is for Parquet files and label tables; {found[0].path} is {found[0].source}",
            cure="leave it out",
        )
    if columns.label is not None and sources.isdisjoint(("Parquet", LABEL_TABLE, TAR)):
        raise ChoiceError(
            f"--label-column is for Parquet files, label tables and tar; {found[0].path} is {found[0].source}",
            cure="leave it out",
        )
