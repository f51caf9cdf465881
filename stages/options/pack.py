"""Options of `deit-pipe pack`."""

from dataclasses import dataclass

from deit_pipe.stages.options.fields import REQUIRED, CheckedOptions, option


@dataclass(frozen=True, kw_only=True)
class PackOptions(CheckedOptions):
    """Copy images into Arrow files: one file per split instead of a million, read without unpacking.

    A packed copy has the same views as its source, so caches of one work with the other. --raw keeps decoded pixels:
    several times the disk, no decoding at training time.

    Examples:
      deit-pipe pack --data imagenet/ --out packed/
      deit-pipe pack --data photos/ --out packed/ --raw
    """

    data: str = option(REQUIRED, "Images, in any form that cache-teacher takes.", metavar="D")
    out: str = option(
        REQUIRED, "Folder for train.arrow and, where there is one, val.arrow.", metavar="DIR", flags=("-o",)
    )
    raw: bool = option(False, "Store decoded pixels.")
