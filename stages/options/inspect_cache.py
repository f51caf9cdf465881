"""Options of `deit-pipe inspect-cache`."""

from dataclasses import dataclass

from deit_pipe.stages.options.fields import CheckedOptions, argument, option


@dataclass(frozen=True, kw_only=True)
class InspectCacheOptions(CheckedOptions):
    """Show what a cache is, whether it is whole, whether its teacher was healthy, and what to do next.

    Without further options only the small files are read: manifest, identities and ledger. Blocks are compared with
    each other, and those that are unlike the others are named: every block is a random part of the same views, so a
    broken GPU or a wrong normalisation shows.

    Exit code 0 complete, 3 incomplete, 4 replay or answers differ (or --diff: other views), 5 damaged.

    --json has stable keys: cache, digest, state, complete, manifest, provenance, teachers (name, identity, coverage,
    arrays, bytes_per_view, gate, health with near_chance, per_epoch, classes, outliers, left, ...), verified, damage,
    next; ignored (files that are no part of it) where there are some; and replay, cell, sample, diff or report where
    asked for; of --upgrade, --rebuild and --zarr what was made.

    Examples:
      deit-pipe inspect-cache
      deit-pipe inspect-cache cache/ --verify hash
      deit-pipe inspect-cache cache/ --verify 5%
      deit-pipe inspect-cache cache/ --replay 1000
      deit-pipe inspect-cache cache/ --replay 3/0-255 --teacher-weights teacher-run
      deit-pipe inspect-cache cache/ --cell 0/17 --png cell.png
      deit-pipe inspect-cache cache/ --sample n01440764/x_812.JPEG
      deit-pipe inspect-cache cache/ --diff other-cache/
      deit-pipe inspect-cache cache/ --report cache.html
      deit-pipe inspect-cache old-cache/ --upgrade cache/
      deit-pipe inspect-cache cache/ --json | jq '.teachers[0].outliers'
    """

    cache: str = argument("./teacher-cache", "The cache: a folder, or a URL.", metavar="[CACHE]")
    verify: str | None = option(
        None,
        "Check stored data: sizes, hash (SHA-256 of every object), deep (decode and check all values), or the sizes of "
        "all and the hashes of a seeded share: 5% (5%@7: another 5%). What was looked at is said; exit code 0 vouches "
        "for that, and no more.",
        metavar="sizes|hash|deep|N%[@SEED]",
    )
    replay: str | None = option(
        None,
        "Make cached views again and compare fingerprints: N random cells, all, or slots A..B of epoch E.",
        metavar="N|all|E/A-B",
    )
    teacher_weights: str | None = option(
        None,
        "With --replay: ask this teacher again and compare its answers (weights file or train-teacher folder).",
        metavar="FILE",
    )
    cell: str | None = option(
        None, "One cell: how its view was drawn, its true class, the teacher's best five.", metavar="E/S"
    )
    sample: str | None = option(
        None, "One sample, by number or path: all its views and their answers.", metavar="PATH|ID"
    )
    png: str | None = option(None, "With --cell: picture of the image, its view, and the mixed view.", metavar="FILE")
    diff: str | None = option(
        None,
        "Compare with another cache, field by field, and the answers where the views are the same.",
        metavar="OTHER",
    )
    report: str | None = option(
        None, "Write a page with plots, views and answers; one file, no network needed.", metavar="FILE.html"
    )
    upgrade: str | None = option(
        None,
        "Copy a cache of an earlier format into a new one, without its teacher; the same command goes on.",
        metavar="NEW",
    )
    rebuild: bool = option(False, "Make the index again from the blocks, and the second copies of identities.")
    zarr: str | None = option(
        None, "Write every array of every teacher as plain zarr, for other programs.", metavar="FOLDER"
    )
    data: str | None = option(None, "The cached images.  [default: as recorded in the cache]", metavar="D")
    teacher: str | None = option(
        None,
        "Only this teacher of the cache, by name (--replay, --cell, --sample, --report).  [default: all]",
        metavar="NAME",
    )
    device: str = option("auto", "Where --teacher-weights runs: auto, cpu, cuda, ...")
