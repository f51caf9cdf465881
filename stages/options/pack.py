"""Options of `deit-pipe pack`."""

from dataclasses import dataclass

from deit_pipe.stages.options.data import SourceOptions
from deit_pipe.stages.options.fields import REQUIRED, option


@dataclass(frozen=True, kw_only=True)
class PackOptions(SourceOptions):
    """Copy images into Arrow files: one file per split instead of a million, read without unpacking.

    A packed copy has the same splits and views as its source, so caches of one work with the other. --raw keeps
    decoded pixels: several times the disk, no decoding at training time.

    Examples:
      deit-pipe pack --data imagenet/ --out packed/
      deit-pipe pack --data photos/ --out packed/ --raw
    """

    data: str = option(REQUIRED, "Images, in any form that cache-teacher takes.", metavar="D")
    out: str = option(
        REQUIRED,
        "Folder for train.arrow, and val.arrow and test.arrow where there are such splits.",
        metavar="DIR",
        flags=("-o",),
    )
    raw: bool = option(False, "Store decoded pixels.")
