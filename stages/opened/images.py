"""The images of a command: opened as its options say, or as a cache recorded that its own were."""

import os
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from deit_pipe.pipeline.data_set import DataChoice, DataSet, open_data
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.pipeline.selected_samples import SelectedSamples
from deit_pipe.pipeline.sources.exclude_list import digest_of, read_exclude_list
from deit_pipe.stages.console.errors import Missing
from deit_pipe.stages.console.progress import note


def given_choice(options: Any) -> DataChoice:
    """The choice that a command's options make; options that the command does not have keep their default."""
    names = [field.name for field in fields(DataChoice) if hasattr(options, field.name)]
    choice = DataChoice(**{name: getattr(options, name) for name in names})
    if choice.val_data:
        choice = replace(choice, val_data=absolute(choice.val_data))
    if choice.labels:
        choice = replace(choice, labels=absolute(choice.labels))
    if choice.exclude:
        choice = replace(choice, exclude=absolute(choice.exclude), excluded=read_exclude_list(choice.exclude))
    return choice


def choice_words(choice: DataChoice) -> dict[str, Any]:
    """A choice by the names of its options, to be compared: of an exclude list how much it names, and its digest."""
    values = {field.name: getattr(choice, field.name) for field in fields(DataChoice) if field.name != "excluded"}
    names = choice.excluded
    values["exclude"] = f"{len(names):,} images (sha256 {digest_of(names)[:12]})" if names else None
    return values


def open_images(data: str, choice: DataChoice) -> DataSet:
    """Open the splits and say what was found."""
    found = open_data(data, choice)
    say(found.lines)
    return found


def say(lines: Iterable[str]) -> None:
    """Lines on stderr; of several processes the first one speaks."""
    if os.environ.get("RANK", "0") == "0":
        for line in lines:
            note(line)


def with_other_validation(found: DataSet, val_data: str) -> DataSet:
    """The same training images, selected and measured on others; what was held out stays out of training."""
    elsewhere = DataChoice(
        train_split=found.choice.train_split,
        image_column=found.choice.image_column,
        label_column=found.choice.label_column,
        labels=found.choice.labels,
        val_data=absolute(val_data),
        val_fraction=0.0,
        excluded=tuple(name for name in found.choice.excluded if not name.startswith("val/")),
    )
    other = open_data(found.data, elsewhere)
    say([f"validation images instead: {len(other.val or ()):,} of {val_data}"])
    return replace(found, val=other.val, test=other.test)


def labelled_part(table: SampleTable) -> SampleTable:
    """The images that have a label; said where that is not all of them.

    Raises:
        Missing: there are none.
    """
    labelled = np.flatnonzero(table.labels >= 0)
    if not len(labelled):
        raise Missing(f"no image of {table.name} has a label", cure="label some of them, or keep more labels")
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
        f"{found.data} has no {split or 'validation or test'} split",
        details=[f"splits there: {there}"],
        cure="name one with --split, or other images with --data D",
    )


def absolute(data: str) -> str:
    """A data argument that still works from another folder: a path made absolute, a name or URL as it is."""
    return str(Path(data).resolve()) if Path(data).exists() else data
