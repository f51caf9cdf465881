"""Options of `deit-pipe inspect-cache`."""

from dataclasses import dataclass

from deit_pipe.stages.options.fields import argument, option


@dataclass(frozen=True, kw_only=True)
class InspectCacheOptions:
    """Show what a cache is, whether it is whole, whether its teacher was healthy, and what to do next.

    Exit code 0 complete, 3 incomplete, 4 replay differs, 5 damaged.

    Examples:
      deit-pipe inspect-cache
      deit-pipe inspect-cache cache/ --verify hash
      deit-pipe inspect-cache cache/ --json
    """

    cache: str = argument("./teacher-cache", "The cache: a folder, or an fsspec URL.", metavar="[CACHE]")
    verify: str | None = option(
        None, "Check stored data: sizes, hash (SHA-256 of every object), or deep (decode and check all values).",
        choices=("sizes", "hash", "deep"),
    )  # fmt: skip
