"""Copy a cache of format 1 or 2 into a new one of today's, without its teacher: the answers are there already.

An ordinary writer with ready blocks: what was copied is there, the same command goes on, and several may do it at once.
The views, the targets and the records stay the same; the digest of the manifest differs, because it covers the format.
"""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from deit_pipe.store.blocks.block_object import BlockCodec
from deit_pipe.store.blocks.checks import Check
from deit_pipe.store.earlier.blocks import ArrayObjects
from deit_pipe.store.errors import CacheMismatch, FormatInvalid
from deit_pipe.store.gates import read_gate, write_gate
from deit_pipe.store.identity import FORMAT_VERSION, TeacherIdentity
from deit_pipe.store.index import seal_epochs
from deit_pipe.store.ledger import ledger_of
from deit_pipe.store.manifest import create_cache
from deit_pipe.store.places.location import Location
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.record import signed_json
from deit_pipe.store.stored_cache import StoredCache
from deit_pipe.store.writing.commit import commit
from deit_pipe.store.writing.opening import open_teacher


class Upgraded(NamedTuple):
    """What was copied: teachers, blocks that this run copied, and all that are there now."""

    teachers: list[str]
    copied: int
    blocks: int


def upgrade(old: StoredCache, new: str, say: Callable[[str], object] = lambda _: None) -> Upgraded:
    """Copy every committed block of a cache, its identities, samples, provenance, runs and gates.

    Args:
        old: of an earlier format.
        new: folder or URL; may hold what an interrupted copy left.
        say: is told each teacher that is copied.

    Raises:
        FormatInvalid: the old one is of today's format. CacheMismatch: another cache is at `new`.
        CacheCorrupt, ObjectDamaged: a block of the old one is damaged.
    """
    if old.manifest.format_version >= FORMAT_VERSION:
        raise FormatInvalid(
            f"{old.path} is of format {old.manifest.format_version} already",
            cure=f"leave --upgrade out: deit-pipe inspect-cache {old.path}",
        )
    manifest = replace(old.manifest, format_version=FORMAT_VERSION)
    place = open_location(new)
    create_cache(place, manifest, old.samples, old.provenance, {}, old.manifest_file.data_choice)
    if StoredCache(place).manifest != manifest:
        raise CacheMismatch(f"{new} holds another cache", cure="give a new folder with --upgrade")
    for key in old.place.sizes("encoded"):
        place.settle(key, old.place.get(key))
    copied = blocks = 0
    for name in old.teacher_names:
        say(f"copying {name}")
        found = list(_copy(old, place, old.teacher(name).identity))
        copied += sum(found)
        blocks += len(found)
    return Upgraded(old.teacher_names, copied, blocks)


def _copy(old: StoredCache, place: Location, teacher: TeacherIdentity) -> Iterator[bool]:
    """Copy the blocks of one teacher; for each, whether it was not there yet."""
    manifest = StoredCache(place).manifest
    stored = old.teacher(teacher.name)
    ledger = ledger_of(old.place, old.manifest, teacher)
    opened = open_teacher(place, manifest, teacher, max(1, ledger.epochs or 1), Check("sizes"), (0, 1))
    missing = {(block.epoch, block.index) for block in opened.missing}
    source, codec = ArrayObjects(old.place, teacher), BlockCodec(manifest, teacher)
    for record in ledger.records():
        if (record.epoch, record.index) not in missing:
            yield False
            continue
        shards = source.shards(record)
        data, made = codec.pack(replace(record, token=uuid.uuid4().hex), shards)
        commit(place, codec, data, made, look_first=False)
        yield True
    for number, run in enumerate(stored.runs):
        place.settle(f"ledger/{teacher.name}/runs/{number:019d}-copied.json", signed_json(run))
    if (gate := read_gate(old.place, teacher.name)) is not None:
        write_gate(place, teacher, {name: value for name, value in gate.items() if name != "identity"})
    seal_epochs(place, manifest, teacher)
