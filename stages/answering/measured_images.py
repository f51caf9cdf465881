"""The images that a student is measured on: its run's own, wherever they are now, or others."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from deit_pipe import DeitPipeError
from deit_pipe.pipeline.data_set import DataChoice, DataSet, open_data
from deit_pipe.pipeline.errors import ChoiceError
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.console.progress import note
from deit_pipe.stages.opened.images import open_images, pick_split, say, with_other_validation


class FoundImages(NamedTuple):
    """Images by split, and whether they are those of the run."""

    images: DataSet
    own: bool


def find_images(run: str, data: str | None, config: Mapping[str, Any]) -> FoundImages:
    """All splits.

    Args:
        run: as it was given, for messages.
        data: other images, or the run's own at another place; None: the run's own where they were.
        config: of the run; empty where there is none.

    Raises:
        Mismatch: the run's own images have changed, so that others would be held out.
    """
    choice = DataChoice.from_json(config.get("data_choice") or {"val_fraction": 0.0})
    digest = config.get("samples_digest")
    if data is None:
        found, own = open_images(str(config.get("data") or "digits"), choice), True
        if digest not in (None, found.train.digest):
            raise Mismatch(
                f"the training images of {run} have changed: {found.data}",
                details=[f"samples sha256  trained on {str(digest)[:12]}   now {found.train.digest[:12]}"],
                cure="restore them, or name images to measure on with --data D",
            )
    else:
        moved = moved_images(data, choice, digest)
        found, own = moved or other_images(data, choice), moved is not None
    if config.get("val_data") and own:
        found = with_other_validation(found, str(config["val_data"]))
    return FoundImages(found, own)


def measured_images(
    run: str, data: str | None, split: str | None, config: Mapping[str, Any]
) -> tuple[str, SampleTable, SampleTable]:
    """The name of the split to measure on, its images, and the training images of the same data.

    Other images without a val or test split are used whole, as a folder of test images usually is.

    Raises:
        Missing: no such split. Mismatch: as `find_images`.
    """
    found, own = find_images(run, data, config)
    if not own and split is None and found.val is None and found.test is None:
        note(f"{data} has neither a val nor a test split: all of its images are used")
        return "train", found.train, found.train
    return *pick_split(found, split), found.train


def moved_images(data: str, choice: DataChoice, digest: str | None) -> DataSet | None:
    """The run's own images at another place, opened as they were for training; None where these are others."""
    if digest is None:  # a run of the version before it was recorded
        return None
    try:
        found = open_data(data, choice)
    except DeitPipeError:
        return None
    if found.train.digest != digest:
        return None
    say(found.lines)
    return found


def other_images(data: str, choice: DataChoice) -> DataSet:
    """Other images, with the columns of the run's own where there are columns."""
    columns = DataChoice(image_column=choice.image_column, label_column=choice.label_column, val_fraction=0.0)
    try:
        return open_images(data, columns)
    except ChoiceError:
        return open_images(data, DataChoice(val_fraction=0.0))
