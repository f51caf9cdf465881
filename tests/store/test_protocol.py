"""Every order of requests, on the program's own commit: no committed block ever changes, whoever writes beside it."""

from dataclasses import replace

import pytest
from protocol_explorer import Explorer
from store_fakes import answers, make_manifest, make_teacher

from deit_pipe.store.blocks.block_object import BlockCodec, ObjectDamaged
from deit_pipe.store.errors import StoreUnreachable
from deit_pipe.store.formats import encode
from deit_pipe.store.layout import Block
from deit_pipe.store.places.location import ObjectExists
from deit_pipe.store.record import BlockRecord
from deit_pipe.store.statistics import block_statistics
from deit_pipe.store.writing.commit import Committed, commit

BLOCK = Block(0, 0, 0, 4)
TEACHER = make_teacher("none", block_slots=4)
CODEC = BlockCodec(make_manifest(4), TEACHER)


def packed(token):
    """A block as one attempt writes it: other float bits, other bytes."""
    logits, prints, labels, partners, witness = answers(BLOCK, seed=len(token))
    arrays = encode(logits, TEACHER.format)
    statistics = block_statistics(logits, arrays, labels, partners)
    record = BlockRecord(
        epoch=0,
        index=0,
        start=0,
        stop=4,
        rank=0,
        run="r",
        written=0.0,
        objects={},
        statistics=statistics,
        witness=witness,
        token=token,
    )
    return CODEC.pack(record, CODEC.encode({**arrays, "fingerprint": prints}))


ATTEMPTS = [packed(f"attempt {'I' * (number + 1)}") for number in range(3)]
TOKENS = {data: record.token for data, record in ATTEMPTS}


def writer(number, how=commit, look_first=True):
    data, record = ATTEMPTS[number]
    return lambda place: how(place, CODEC, data, record, look_first=look_first).record.token


def explored(count, how=commit, initial=None, look_first=True, most=10**9, **faults):
    clients = [writer(number, how, look_first) for number in range(count)]
    return Explorer(clients, TOKENS.get, initial, **faults).explore(most)


CASES = {
    "two, crash and lost answer": (2, {"crash": 1, "lost": 1, "failed": 1}),
    "two, delayed and refused": (2, {"delayed": 1, "refused": 1}),
    "two, damaged twice": (2, {"damage": 2, "vanish": 1}),
    "two, damage and a delayed request": (2, {"damage": 1, "delayed": 1}),
    "three": (3, {}),
}


@pytest.mark.parametrize("look_first", [True, False])
@pytest.mark.parametrize("there", [None, b"damaged before", "sound"])
@pytest.mark.parametrize("case", CASES)
def test_no_committed_block_changes_and_everybody_is_told_the_truth(case, there, look_first):
    count, faults = CASES[case]
    initial = ATTEMPTS[2][0] if there == "sound" else there
    violation, states = explored(count, initial=initial, look_first=look_first, **faults)
    assert violation is None
    assert states > 3


@pytest.mark.slow
@pytest.mark.parametrize("there", [None, b"damaged before"])
def test_no_committed_block_changes_with_every_fault_at_once(there):
    every = dict.fromkeys(("crash", "lost", "failed", "delayed", "refused", "damage", "vanish"), 1)
    assert explored(2, initial=there, most=3_000_000, **every)[0] is None
    assert explored(3, initial=there, most=3_000_000, lost=1, delayed=1, damage=1)[0] is None


# --- the explorer sees what is wrong: each of these looked obvious once -----------------------------------------------


def sound(seen):
    try:
        return None if seen is None else CODEC.open(seen.data, BLOCK)
    except ObjectDamaged:
        return None


def deletes_before_a_repair(place, codec, data, record, *, look_first):
    for _ in range(9):
        seen = place.see("")
        if (there := sound(seen)) is not None:
            return Committed(there, False)
        try:
            if seen is not None:
                place.delete("")
            place.create("", data)
        except (ObjectExists, StoreUnreachable):
            continue
        return Committed(record, True)
    raise StoreUnreachable("never")


def puts_over_what_is_damaged(place, codec, data, record, *, look_first):
    for _ in range(9):
        seen = place.see("")
        if (there := sound(seen)) is not None:
            return Committed(there, False)
        try:
            if seen is None:
                place.create("", data)
            else:
                place.put("", data)
        except (ObjectExists, StoreUnreachable):
            continue
        return Committed(record, True)
    raise StoreUnreachable("never")


def takes_no_answer_for_yes(place, codec, data, record, *, look_first):
    try:
        place.create("", data)
    except ObjectExists:
        there = sound(place.see(""))
        return Committed(there or record, there is None)
    except StoreUnreachable:
        return Committed(record, True)
    return Committed(record, True)


@pytest.mark.parametrize(
    ("how", "initial", "what"),
    [
        (deletes_before_a_repair, b"damaged before", "replaced or withdrawn"),
        (puts_over_what_is_damaged, b"damaged before", "replaced or withdrawn"),
        (takes_no_answer_for_yes, None, "never was"),
    ],
)
def test_a_wrong_protocol_is_found_out(how, initial, what):
    violation, _ = explored(2, how, initial, failed=1)
    assert what in violation


def test_the_record_of_another_attempt_is_returned_and_its_own_known():
    data, record = ATTEMPTS[0]
    assert CODEC.open(data, BLOCK) == record
    assert replace(record, token="x") != record
