"""The images of a command: opened as its options say, or as a cache recorded that its own were."""

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from deit_pipe.pipeline.data_set import DataChoice, DataSet, open_data
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.pipeline.selected_samples import SelectedSamples
from deit_pipe.stages.errors import Missing
from deit_pipe.stages.report import note
from deit_pipe.store.errors import CacheMissing
from deit_pipe.store.manifest import read_data_choice, read_provenance

# What a cache of the version before choices were recorded did: it held nothing out.
UNRECORDED = DataChoice(val_fraction=0.0)


def given_choice(options: Any) -> DataChoice:
    """The choice that a command's options make; options that the command does not have keep their default."""
    names = [field.name for field in fields(DataChoice) if hasattr(options, field.name)]
    choice = DataChoice(**{name: getattr(options, name) for name in names})
    return replace(choice, val_data=absolute(choice.val_data)) if choice.val_data else choice


def recorded_choice(cache: str) -> DataChoice | None:
    """What a cache recorded about its images; None where there is no cache."""
    try:
        recorded = read_data_choice(cache)
    except CacheMissing:
        return None
    return UNRECORDED if recorded is None else DataChoice.from_json(recorded)


def open_images(data: str, choice: DataChoice) -> DataSet:
    """Open the splits and say what was found."""
    found = open_data(data, choice)
    if os.environ.get("RANK", "0") == "0":  # of several processes the first one speaks
        for line in found.lines:
            note(line)
    return found


def cached_images(cache: str, data: str | None = None, val_data: str | None = None) -> DataSet:
    """Open the images of a cache, with the choice that it recorded.

    Args:
        cache: its folder or URL.
        data: where the images are now; None: where they were.
        val_data: other validation images; None: the recorded ones.
    """
    choice = recorded_choice(cache) or DataChoice()
    found = open_images(data or cached_place(cache), choice)
    if not val_data:
        return found
    # what the cache held out stays out of training
    elsewhere = DataChoice(
        train_split=choice.train_split, image_column=choice.image_column, label_column=choice.label_column,
        val_data=absolute(val_data), val_fraction=0.0,
    )  # fmt: skip
    other = open_data(found.data, elsewhere)
    note(f"validation images instead: {len(other.val or ()):,} of {val_data}")
    return replace(found, val=other.val, test=other.test)


def cached_place(cache: str) -> str:
    """Where the images of a cache were when it was made."""
    return read_provenance(cache).get("data") or "digits"


def labelled_part(table: SampleTable) -> SampleTable:
    """The images that have a label; said where that is not all of them.

    Raises:
        Missing: there are none.
    """
    labelled = np.flatnonzero(table.labels >= 0)
    if not len(labelled):
        raise Missing(f"no image of {table.name} has a label\nlabel some of them, or keep more labels")
    if len(labelled) == len(table):
        return table
    note(f"{len(labelled):,} of {len(table):,} training images have a label: only these are used")
    return SelectedSamples(table, positions=labelled)


def pick_split(found: DataSet, split: str | None) -> tuple[str, SampleTable]:
    """The split to measure on, by name: as asked, else val, else test.

    Raises:
        Missing: the data have no such split.
    """
    tables = {"train": found.train, "val": found.val, "test": found.test}
    for name in [split] if split else ["val", "test"]:
        table = tables[name]
        if table is not None:
            return name, table
    there = ", ".join(name for name, table in tables.items() if table is not None)
    raise Missing(
        f"{found.data} has no {split or 'validation or test'} split\n"
        f"  splits there: {there}\nname one with --split, or other images with --data D"
    )


def absolute(data: str) -> str:
    """A data argument that still works from another folder: a path made absolute, a name or URL as it is."""
    return str(Path(data).resolve()) if Path(data).exists() else data
