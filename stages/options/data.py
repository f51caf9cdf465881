"""Options that decide which images and labels are used, shared by the commands that open images first; and those of
`deit-pipe check-data`, which only looks at them.
"""

from dataclasses import dataclass

from deit_pipe.stages.options.fields import CheckedOptions, argument, option, setting

WHICH = "Which images"


@dataclass(frozen=True, kw_only=True)
class SourceOptions(CheckedOptions):
    """How files become splits; only needed where that is ambiguous."""

    train_split: str | None = option(
        None, "Name of the training split, where the usual names do not decide.", metavar="NAME", group=WHICH
    )
    val_split: str | None = option(
        None,
        "Name of the split that selects among epochs; 'test' uses the test images for it.",
        metavar="NAME",
        group=WHICH,
    )
    image_column: str | None = option(
        None, "Parquet: column of the images; label table: of the files.", metavar="NAME", group=WHICH
    )
    label_column: str | None = option(
        None, "Parquet, label table, tar (.json): name of the labels.", metavar="NAME", group=WHICH
    )
    labels: str | None = option(
        None, "Table of labels (CSV or Parquet) for a folder of images.", metavar="FILE", group=WHICH
    )
    exclude: str | None = option(
        None, "Leave away the images that this list names, as check-data writes it.", metavar="FILE", group=WHICH
    )


@dataclass(frozen=True, kw_only=True)
class DataOptions(SourceOptions):
    """Which of the training images are used, and which keep their label."""

    val_data: str | None = option(
        None, "Validation images elsewhere: their val split, else test, else all.", metavar="D", group=WHICH
    )
    val_fraction: float | None = option(
        None,
        "Part of the training images held out for validation.  [default: 0.1 where the data have neither a "
        "val nor a test split, else 0]",
        minimum=0.0,
        maximum=0.9,
        group=WHICH,
    )
    fraction: float = option(
        1.0,
        "Use this part of the training images, the same part of every class.",
        minimum=0.0,
        maximum=1.0,
        group=WHICH,
    )
    labelled_fraction: float = option(
        1.0,
        "Keep the labels of this part of the training images; the others are taught by the teacher only.",
        minimum=0.0,
        maximum=1.0,
        group=WHICH,
    )
    subset_seed: int = setting(
        0, "Seed of the draws of val-fraction, fraction and labelled-fraction.  [default: 0]", minimum=0
    )


@dataclass(frozen=True, kw_only=True)
class CheckDataOptions(SourceOptions):
    """Say what is in your images, and list everything that is wrong with them at once.

    Quick, without reading an image: splits, images per class, empty classes, odd names, links, what is left out. --deep
    decodes every image: those that cannot be decoded, the same image twice, under two labels or in two splits, images
    that look alike (a hint), odd modes and sizes. Nothing is changed.

    Exit code: 6 where an image cannot be decoded; else 4 where one image has several labels or is in several splits, or
    two classes have one name in two spellings; else 3 where a class is empty; else 0, whatever the hints.

    Examples:
      deit-pipe check-data photos/
      deit-pipe check-data photos/ --deep --report photos.html
      deit-pipe check-data photos/ --deep --write-exclude bad.txt
      deit-pipe check-data photos/ --deep --exclude bad.txt
    """

    data: str = argument("digits", "Images: digits, or a path as for --data.", metavar="[DATA]")
    val_data: str | None = option(
        None, "Validation images elsewhere: their val split, else test, else all.", metavar="D", group=WHICH
    )
    deep: bool = option(False, "Decode every image.")
    workers: int | None = option(None, "Threads of --deep.  [default: one for each core]", minimum=1)
    state: str | None = option(
        None,
        "Where --deep keeps what it has read, so that the same command goes on after an interruption; removed at the "
        "end.  [default: check-data.state in the working directory]",
        metavar="FILE",
    )
    report: str | None = option(None, "Write a page with pictures of the findings.", metavar="FILE")
    write_exclude: str | None = option(
        None,
        "Write a list for --exclude: bad images, every image that has several labels, training images that are in "
        "another split too.",
        metavar="FILE",
    )
