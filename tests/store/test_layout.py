import numpy as np
import pytest

from deit_pipe.store.formats import TargetFormat
from deit_pipe.store.layout import (
    ROW_BYTES_MAX,
    array_specs,
    block_slots_for,
    blocks_of,
    blocks_per_epoch,
    chunk_slots,
)


@pytest.mark.parametrize(
    ("text", "classes", "samples", "slots"),
    [
        ("dense", 1000, 1_281_167, 8192),
        ("topk:10", 1000, 1_281_167, 32768),
        ("none", 1000, 1_281_167, 32768),
        ("none", 10, 1797, 256),
        ("dense", 10, 60_000, 4096),
        ("dense", 21_841, 14_000_000, 256),
        ("dense", 10, 1, 256),
    ],
)
def test_block_size_is_a_sensible_size(text, classes, samples, slots):
    fmt = TargetFormat.parse(text, (1,), classes)
    assert block_slots_for(fmt, classes, 2, samples) == slots


@pytest.mark.parametrize("group", [1, 2, 3, 64, 96, 100, 1024])
def test_block_is_a_multiple_of_the_mix_group_and_the_chunk_divides_it(group):
    for text in ("dense", "topk:100", "none"):
        fmt = TargetFormat.parse(text, (1, 3), 1000)
        slots = block_slots_for(fmt, 1000, group, 50_000)
        assert slots % group == 0
        assert slots * 4000 <= ROW_BYTES_MAX
        for spec in array_specs(fmt):
            assert slots % chunk_slots(spec, slots) == 0


def test_target_object_size_is_a_parameter():
    fmt = TargetFormat.parse("dense", (1,), 1000)
    assert block_slots_for(fmt, 1000, 2, 10**6, object_bytes=2**20) == 512


def test_blocks_cover_every_slot_once_and_only_the_last_is_shorter():
    blocks = list(blocks_of(4, 100, 16))
    assert [b.slots for b in blocks] == [16] * 6 + [4]
    covered = np.concatenate([np.arange(b.start, b.stop) for b in blocks])
    np.testing.assert_array_equal(covered, np.arange(100))
    assert len(blocks) == blocks_per_epoch(100, 16)
    assert str(blocks[1]) == "epoch 4, slots 16..31"


def test_chunk_of_an_awkward_block_does_not_degenerate():
    spec = array_specs(TargetFormat.parse("dense", (1,), 1000))[2]
    assert chunk_slots(spec, 10_007) == 10_007  # a prime
    assert chunk_slots(spec, 8192) == 1024
