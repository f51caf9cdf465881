import numpy as np
import pytest

from deit_pipe.store.errors import FormatInvalid, TargetsInvalid
from deit_pipe.store.formats import TargetFormat, decode, encode, to_float32, top_classes


def log_softmax(z, tau=1.0):
    z = z.astype(np.float64) / tau
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


@pytest.fixture
def logits():
    return (np.random.default_rng(0).standard_normal((64, 50)) * 4).astype(np.float32)


def test_dense_round_trip_is_rounding_to_float16(logits):
    fmt = TargetFormat.parse("dense", (1,), 50)
    targets = decode(encode(logits, fmt), fmt)
    np.testing.assert_array_equal(targets.logits, logits.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(targets.teacher_label, logits.argmax(1))
    assert targets.serves(1)
    assert targets.serves(7.5)


@pytest.mark.parametrize("k", [1, 7, 50])
def test_topk_keeps_log_probabilities_at_every_declared_tau(logits, k):
    fmt = TargetFormat.parse(f"topk:{k}", (3, 1, 2.5), 50)
    targets = decode(encode(logits, fmt), fmt)
    assert targets.taus == (1.0, 2.5, 3.0)
    assert (np.diff(targets.topk_logp, axis=1) <= 0).all()
    np.testing.assert_array_equal(targets.topk_class[:, 0], targets.teacher_label)
    for column, tau in enumerate(targets.taus):
        exact = np.take_along_axis(log_softmax(logits, tau), targets.topk_class, axis=1)
        ours = targets.topk_logp / tau - targets.lse_tau[:, [column]]
        np.testing.assert_allclose(ours, exact, atol=0.012, rtol=0.001)
        # the tail's mass is what is left
        np.testing.assert_allclose(1 - np.exp(ours).sum(1), 1 - np.exp(exact).sum(1), atol=0.004)
    assert targets.serves(2.5)
    assert not targets.serves(4)


def test_none_keeps_the_label_and_serves_no_temperature(logits):
    fmt = TargetFormat.parse("none", (), 50)
    targets = decode(encode(logits, fmt), fmt)
    assert len(targets) == 64
    assert targets.logits is None
    assert not targets.serves(1)


def test_label_is_taken_before_rounding():
    logits = np.zeros((1, 4), np.float32)
    logits[0, 1], logits[0, 3] = 10.0001, 10.0002  # the same float16
    for text in ("dense", "topk:2", "none"):
        fmt = TargetFormat.parse(text, (1,), 4)
        arrays = encode(logits, fmt)
        assert decode(arrays, fmt).teacher_label[0] == 3
    assert logits.astype(np.float16).argmax() == 1


def test_ties_go_to_the_lower_class_also_at_the_border_of_k():
    assert top_classes(np.zeros((3, 9), np.float32), 4).tolist() == [[0, 1, 2, 3]] * 3
    row = np.array([[0, 5, 1, 1, 5, 1, 1, 0]], np.float32)
    assert top_classes(row, 4).tolist() == [[1, 4, 2, 3]]
    order = np.random.default_rng(1).integers(0, 4, (200, 30)).astype(np.float32)
    np.testing.assert_array_equal(top_classes(order, 7), np.argsort(-order, axis=1, kind="stable")[:, :7])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("text", ["dense", "topk:3", "none"])
def test_not_finite_is_refused_with_row_and_class(logits, bad, text):
    logits[5, 7] = bad
    with pytest.raises(TargetsInvalid, match=r"row 5, class 7, 1 of 64 rows"):
        encode(logits, TargetFormat.parse(text, (1,), 50))


def test_what_float16_cannot_hold_is_refused():
    logits = np.zeros((2, 4), np.float32)
    logits[1, 2] = -1e5
    with pytest.raises(TargetsInvalid, match="float16"):
        encode(logits, TargetFormat.parse("dense", (1,), 4))
    encode(logits, TargetFormat.parse("topk:3", (1,), 4))  # the small one is not kept
    with pytest.raises(TargetsInvalid, match="log-probability"):
        encode(logits, TargetFormat.parse("topk:4", (1,), 4))
    encode(logits, TargetFormat.parse("none", (1,), 4))


@pytest.mark.parametrize("shape", [(4,), (4, 49), (4, 51)])
def test_wrong_shape_is_refused(shape):
    with pytest.raises(TargetsInvalid, match=r"expected  float32 \[B, 50\]"):
        encode(np.zeros(shape, np.float32), TargetFormat.parse("dense", (1,), 50))
    with pytest.raises(TargetsInvalid, match="float64"):
        encode(np.zeros((4, 50)), TargetFormat.parse("dense", (1,), 50))


@pytest.mark.parametrize("text", ["topk", "topk:0", "topk:11", "topk:-1", "topk:x", "full", "", "topk:1.5"])
def test_unknown_format_is_a_usage_error(text):
    with pytest.raises(FormatInvalid, match="--logits"):
        TargetFormat.parse(text, (1,), 10)
    assert FormatInvalid.exit_code == 2


@pytest.mark.parametrize("tau", [0, -1, float("nan"), float("inf")])
def test_impossible_temperature_is_a_usage_error(tau):
    with pytest.raises(FormatInvalid, match="temperature"):
        TargetFormat.parse("dense", (1, tau), 10)


def test_class_ids_are_signed_and_wide_enough():
    assert TargetFormat.parse("none", (1,), 32767).class_dtype == np.int16
    assert TargetFormat.parse("none", (1,), 32768).class_dtype == np.int32
    fmt = TargetFormat.parse("topk:2", (1,), 40000)
    logits = np.zeros((1, 40000), np.float32)
    logits[0, 39999] = 1
    assert decode(encode(logits, fmt), fmt).topk_class.tolist() == [[39999, 0]]


def test_quick_conversion_is_exact_for_every_finite_float16():
    half = np.arange(65536, dtype=np.uint16).view(np.float16)
    half = half[np.isfinite(half)]
    np.testing.assert_array_equal(to_float32(half).view(np.uint32), half.astype(np.float32).view(np.uint32))
    odd = half[:63000].reshape(-1, 9)[::3]  # not contiguous
    np.testing.assert_array_equal(to_float32(odd), odd.astype(np.float32))
