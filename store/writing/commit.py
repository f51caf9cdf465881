"""Commits blocks: the create of a block's one object is its commit; only a bad one is replaced, by comparing first.

    look     the object is there and sound: it is committed, and ours is dropped
    create   where there is none                                  } done: committed; any other answer: look again
    swap     over the very bytes that were seen to be bad         }

Nothing is deleted, nothing is overwritten that was not seen to be bad, and no clock is asked: whatever is delayed, sent
twice or refused for no reason, and whoever else writes, a sound block stays as it is. `tests/store/protocol_model`
explores all of it; a change of the requests here is made there first.
"""

from typing import NamedTuple

from deit_pipe.store.blocks.block_object import BlockCodec, ObjectDamaged
from deit_pipe.store.errors import CacheCorrupt, StoreUnreachable
from deit_pipe.store.layout import Block
from deit_pipe.store.places.location import Location, ObjectExists, Seen
from deit_pipe.store.record import BlockRecord

LOOKS = 20  # at one block; each but the last found that something had changed, or an answer that was no answer


class Committed(NamedTuple):
    """A committed block: its record, and whether it is the one that was given."""

    record: BlockRecord
    ours: bool


def commit(place: Location, codec: BlockCodec, data: bytes, record: BlockRecord, *, look_first: bool) -> Committed:
    """Commit a block, or find it committed.

    Args:
        place: the cache.
        codec: of the teacher.
        data: the object that `codec.pack` made.
        record: of it.
        look_first: whether the object may be there; False where a listing has just said that it is not.

    Raises:
        CacheCorrupt: another teacher's block lies here: it is whole, so it is not replaced.
        StoreUnreachable: no answer that means anything, many times.
    """
    block, key = record.block, codec.key(record.epoch, record.index)
    trouble: StoreUnreachable | None = None
    for turn in range(LOOKS):
        try:
            seen = place.see(key) if look_first or turn else None
            there = None if seen is None else _sound(codec, seen, block, place)
            if there is not None:
                return Committed(there, there.token == record.token)
            if seen is None:
                place.create(key, data)
            elif not place.swap(key, seen, data):
                continue
        except ObjectExists:
            continue
        except StoreUnreachable as error:  # done or not: the next look says
            trouble = error
            continue
        return Committed(record, True)
    raise trouble or StoreUnreachable(
        f"{place.path} gives no answer that lasts about {key}",
        cure="give the same command again; every committed block is intact",
    )


def _sound(codec: BlockCodec, seen: Seen, block: Block, place: Location) -> BlockRecord | None:
    """The record of a block that is there and whole; None of a damaged one."""
    try:
        return codec.open(seen.data, block)
    except ObjectDamaged as damaged:
        if damaged.foreign:
            raise CacheCorrupt(
                f"cache corrupt: a block of {place.path} is not its own",
                details=[f"{damaged.key} {damaged.what}"],
                cure="files of two teachers or caches were exchanged or copied: put them back, or delete that file",
            ) from damaged
        return None
