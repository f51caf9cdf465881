"""How much is checked: a seeded share of the hashes, which is said; what a writer checks by itself."""

import uuid

import pytest
from store_fakes import create, fill, flip_bit, make_teacher

from deit_pipe.store.blocks import checks
from deit_pipe.store.blocks.checks import Check, chosen, read_check, repair_option, resume_check
from deit_pipe.store.errors import FormatInvalid
from deit_pipe.store.places.memory import MemoryObjects
from deit_pipe.store.verify import verify
from deit_pipe.store.writer import TargetWriter

CELLS = [(epoch, index) for epoch in range(10) for index in range(157)]


@pytest.mark.parametrize("text", ["", "all", "5", "0%", "101%", "-5%", "5%@", "5 %", "5%@x", "5%@7\n"])
def test_an_unknown_level_is_a_usage_error_that_names_the_right_ones(text):
    with pytest.raises(FormatInvalid, match=r"sizes, hash, deep, or a share such as 5%") as caught:
        read_check(text)
    assert caught.value.exit_code == 2


def test_a_share_is_that_many_blocks_the_same_for_a_seed_and_all_of_them_over_seeds():
    assert chosen(CELLS, Check("hash")) == CELLS
    first = chosen(CELLS, read_check("5%"))
    assert len(first) == 79
    assert first == sorted(set(first)) == chosen(CELLS[::-1], read_check("5%@0"))
    assert first != chosen(CELLS, read_check("5%@1"))
    assert {cell for seed in range(200) for cell in chosen(CELLS, Check("hash", 0.05, seed))} == set(CELLS)
    assert len(chosen(CELLS[:3], Check("hash", 0.01))) == 1
    assert chosen([], Check("hash", 0.01)) == []


def test_a_share_finds_what_is_in_it_and_every_wrong_size_and_says_what_it_looked_at(tmp_path):
    create(tmp_path)
    teacher = make_teacher("none", block_slots=10)
    fill(tmp_path, teacher, 2)
    there = chosen([(e, b) for e in range(2) for b in range(10)], read_check("25%@3"))
    inside, outside = there[2], next((e, b) for e in range(2) for b in range(10) if (e, b) not in there)
    for cell in (inside, outside):
        flip_bit(tmp_path, "none", "teacher_label", *cell)
    found = verify(tmp_path, "25%@3")
    assert [(f.epoch, f.slots[0] // 10) for f in found] == [inside]
    assert found.words == "hash of 5 of 20 blocks (25.0%, seed 3), sizes of all"
    for cell in (inside, outside):
        path = flip_bit(tmp_path, "none", "teacher_label", *cell)
        path.write_bytes(path.read_bytes()[:-1])
    assert sorted((f.epoch, f.slots[0] // 10) for f in verify(tmp_path, "25%@3")) == sorted([inside, outside])
    assert verify(tmp_path, "hash").words == "hash"


def test_a_writer_checks_all_of_a_small_teacher_and_a_share_of_a_large_one(monkeypatch):
    assert resume_check(10**9, 500).share == 1.0
    assert repair_option(10**9, 500) == ""
    assert resume_check(40 * 10**9, 500) == Check("hash", 0.1, 500)
    assert resume_check(10**9, 47_100).share == 4096 / 47_100
    assert repair_option(10**9, 47_100) == " --set verify=hash"
    monkeypatch.setattr(checks, "RESUME_BLOCKS", 4)
    place = MemoryObjects(f"memory://checks/{uuid.uuid4().hex}")
    create(place)
    teacher = make_teacher("none", block_slots=10)
    fill(place, teacher, 2)
    keys = sorted(key for key in place.sizes() if "/c/" in key)
    seen = set(chosen([(e, b) for e in range(2) for b in range(10)], Check("hash", 0.2, 20)))
    cell = next(one for one in seen if one != (0, 0))
    short = next((e, b) for e in range(2) for b in range(10) if (e, b) not in seen)
    for (epoch, index), damage in ((cell, "flip"), (short, "cut")):
        key = next(key for key in keys if key.endswith(f"/c/{epoch}/{index}"))
        data = bytearray(place.get(key))
        data[-9] ^= 1
        place.put(key, bytes(data) if damage == "flip" else bytes(data[:-1]))
    with TargetWriter.open(place, teacher, epochs=2) as writer:
        assert writer.checked == "hash of 4 of 20 blocks (20.0%, seed 20), sizes of all"
        assert {(block.epoch, block.index) for block in writer.damaged} == {cell, short}
        assert set(writer.missing) == writer.damaged
    with TargetWriter.open(place, teacher, epochs=2, check=Check("hash")) as writer:
        assert writer.checked == "hash"
    with TargetWriter.open(place, teacher, epochs=2, check=Check("sizes")) as writer:
        assert {(block.epoch, block.index) for block in writer.damaged} == {short}
