from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deit_pipe.store.formats import TargetFormat, decode, encode
from deit_pipe.store.layout import array_specs, block_slots_for, blocks_of, chunk_slots
from deit_pipe.store.shards import ShardCodec
from deit_pipe.store.verify import impossible

finite = st.floats(-60000, 60000, width=32)
shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))


@given(hnp.arrays(np.float32, shapes, elements=finite), st.data())
@settings(max_examples=150, deadline=None)
def test_any_logits_survive_encode_shard_and_decode(logits, data):
    rows, classes = logits.shape
    taus = data.draw(st.lists(st.sampled_from([1.0, 2.0, 4.5]), max_size=3))
    text = data.draw(st.sampled_from(["dense", "dense8", "none", *(f"topk:{k}" for k in range(1, classes + 1))]))
    fmt = TargetFormat.parse(text, taus, classes)
    if text.startswith("topk"):
        logits = logits / np.float32(4)  # differences must fit float16 too
    arrays = encode(logits, fmt)
    arrays["fingerprint"] = np.arange(rows, dtype=np.uint32)
    block = data.draw(st.integers(rows, 20))
    stored = {}
    for spec in array_specs(fmt):
        codec = ShardCodec(spec, block)
        stored[spec.name] = codec.decode(codec.encode(arrays[spec.name]), rows)
        assert stored[spec.name].dtype == spec.dtype
        np.testing.assert_array_equal(stored[spec.name], arrays[spec.name])
    targets = decode(stored, fmt)
    np.testing.assert_array_equal(targets.teacher_label, logits.argmax(axis=1))
    assert list(impossible(stored, fmt)) == []
    if targets.topk_class is not None:
        order = np.argsort(-logits, axis=1, kind="stable")[:, : fmt.k]
        np.testing.assert_array_equal(targets.topk_class, order)


@given(
    st.integers(1, 30_000),
    st.integers(1, 2048),
    st.integers(1, 3_000_000),
    st.sampled_from(["dense", "dense8", "none", "topk:1", "topk:20"]),
)
@settings(max_examples=200, deadline=None)
def test_any_block_size_cuts_epochs_without_gap_or_torn_group(classes, group, num_samples, text):
    fmt = TargetFormat.parse(text if classes >= 20 or ":" not in text else "topk:1", (1, 3), classes)
    slots = block_slots_for(fmt, classes, group, num_samples)
    assert slots % group == 0
    blocks = list(blocks_of(0, num_samples, slots))[:1000]
    assert blocks[0].start == 0
    assert all(a.stop == b.start and a.slots == slots for a, b in pairwise(blocks))
    assert all(slots % chunk_slots(spec, slots) == 0 for spec in array_specs(fmt))
