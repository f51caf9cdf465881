"""What is made of a cache from its blocks alone, without the teacher: a copy in today's format, an index, zarr."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deit_pipe.stages.console.command_lines import command_line
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.console.progress import note
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
from deit_pipe.store.blocks.block_object import ObjectDamaged
from deit_pipe.store.errors import CacheCorrupt
from deit_pipe.store.identity import FORMAT_VERSION
from deit_pipe.store.manifest import copy_identities
from deit_pipe.store.stored_cache import StoredCache
from deit_pipe.store.writing.opening import old_cache, write_metadata


@dataclass(frozen=True)
class UpgradedCache(Facts):
    """The `new` copy of a cache: its teachers, blocks `copied` now and `blocks` in all, and its format."""

    cache: str
    new: str
    teachers: Sequence[str]
    copied: int
    blocks: int
    format: int


@dataclass(frozen=True)
class RebuiltIndex(Facts):
    """A cache whose index was made again: `blocks` that are there, by teacher."""

    cache: str
    blocks: Mapping[str, int]


@dataclass(frozen=True)
class ZarrCopy(Facts):
    """Every array of these `teachers`, in the folder `zarr`."""

    cache: str
    zarr: str
    teachers: Sequence[str]


def made_again(
    options: InspectCacheOptions, stored: StoredCache
) -> CommandResult[UpgradedCache | RebuiltIndex | ZarrCopy]:
    """Do what was asked for: `--upgrade`, `--rebuild` or `--zarr`.

    Raises:
        CacheCorrupt: a block is damaged, so that nothing can be made of it.
    """
    try:
        if options.upgrade:
            return upgraded(options, stored, options.upgrade)
        if options.rebuild:
            return rebuilt(options, stored)
        assert options.zarr is not None
        return as_zarr(options, stored, options.zarr)
    except ObjectDamaged as damaged:
        raise CacheCorrupt(
            f"cache corrupt: {options.cache}",
            details=[str(damaged)],
            cure=f"name everything that is damaged with: {inspect_line(options.cache)} --verify hash",
        ) from damaged


def upgraded(options: InspectCacheOptions, stored: StoredCache, new: str) -> CommandResult[UpgradedCache]:
    """Copy a cache of an earlier format."""
    from deit_pipe.store.writing.upgrade import upgrade

    found = upgrade(stored, new, note)
    text = (
        f"{new}: {found.copied} blocks copied, all {found.blocks} blocks of {options.cache} are there, "
        f"format {FORMAT_VERSION}\nnext: {inspect_line(new)}"
    )
    return CommandResult(
        text, UpgradedCache(options.cache, new, found.teachers, found.copied, found.blocks, FORMAT_VERSION)
    )


def rebuilt(options: InspectCacheOptions, stored: StoredCache) -> CommandResult[RebuiltIndex]:
    """Make the index again, the second copies, and what zarr reads of an array's shape."""
    from deit_pipe.store.index import rebuild_index

    place, manifest = stored.place, stored.manifest
    if manifest.format_version < FORMAT_VERSION:
        raise old_cache(place, manifest.format_version, "its ledger is no index and cannot be made again")
    copy_identities(place)
    blocks = {}
    for name in stored.teacher_names:
        identity = stored.teacher(name).identity
        blocks[name] = rebuild_index(place, manifest, identity)
        write_metadata(place, manifest, identity)
    lines = [f"{options.cache}: {count} blocks of {name} are there, indexed again" for name, count in blocks.items()]
    return CommandResult(
        "\n".join([*lines, f"next: {inspect_line(options.cache)}"]), RebuiltIndex(options.cache, blocks)
    )


def as_zarr(options: InspectCacheOptions, stored: StoredCache, folder: str) -> CommandResult[ZarrCopy]:
    """Write all arrays for other programs."""
    from deit_pipe.store.writing.zarr_copy import write_zarr

    names = write_zarr(stored, folder)
    text = f"{folder}: every array of {', '.join(names) or 'no teacher'}, for zarr, xarray and tensorstore"
    return CommandResult(text, ZarrCopy(options.cache, folder, names))


def inspect_line(cache: str) -> str:
    """The command that shows a cache."""
    return command_line("inspect-cache", InspectCacheOptions, cache=cache)
