"""dense8: 8 bits a logit and a step per row, against the formula written out, the gradient it gives, its bytes."""

from fractions import Fraction

import numpy as np
import pytest

from deit_pipe.store.errors import TargetsInvalid
from deit_pipe.store.formats import TargetFormat, decode, encode
from deit_pipe.store.layout import array_specs
from deit_pipe.store.shards import ShardCodec
from deit_pipe.store.verify import impossible

CLASSES = 1000


def like_a_network(rows: int, classes: int = CLASSES, seed: int = 0) -> np.ndarray:
    """Bulk of a normal, some likely classes, one favourite: sure in some rows, unsure in others."""
    random = np.random.default_rng(seed)
    logits = random.standard_normal((rows, classes))
    several = random.integers(0, classes, (rows, 20))
    logits[np.arange(rows)[:, None], several] += random.exponential(2, (rows, 20))
    logits[np.arange(rows), random.integers(0, classes, rows)] += random.uniform(0, 14, rows)
    return logits.astype(np.float32)


def flat(rows: int) -> np.ndarray:
    """Of a teacher that prefers nothing: the hardest to keep in few bytes."""
    return np.random.default_rng(2).standard_normal((rows, CLASSES)).astype(np.float32)


def stored(logits: np.ndarray, text: str = "dense8", taus: tuple[float, ...] = (1.0, 3.0)):
    fmt = TargetFormat.parse(text, taus, logits.shape[1])
    arrays = encode(logits, fmt)
    return fmt, arrays, decode(arrays, fmt)


def next_float16(value: Fraction) -> Fraction:
    """The smallest float16 that is not below the value."""
    every = np.arange(0x7C00, dtype=np.uint16).view(np.float16)
    return next(Fraction(float(half)) for half in every if Fraction(float(half)) >= value)


@pytest.mark.parametrize("scale", [1e-6, 0.01, 1.0, 300.0])
def test_levels_and_steps_are_the_formulas(scale: float) -> None:
    logits = like_a_network(5, 30) * np.float32(scale)
    _, arrays, targets = stored(logits)
    for row, level, step, value in zip(
        logits, arrays["logit_level"], arrays["logit_step"], targets.logits, strict=True
    ):
        exact = [Fraction(float(z)) for z in row]
        width = next_float16((max(exact) - min(exact)) / 160)
        assert Fraction(float(step)) == width
        expected = [160 - round((max(exact) - z) / width) for z in exact]  # Python rounds halves to even
        assert level.tolist() == expected
        assert max(expected) == 160
        for z, number, back in zip(exact, expected, value, strict=True):
            assert Fraction(float(back)) == (number - 160) * width
            assert abs(z - max(exact) - (number - 160) * width) <= width / 2


def test_the_label_is_exact_where_levels_tie() -> None:
    logits = np.zeros((1, 5), np.float32)
    logits[0] = [0, 9.999, 10, -10, 9.9]
    _, arrays, targets = stored(logits)
    assert targets.teacher_label[0] == 2
    assert arrays["logit_level"][0, 1] == arrays["logit_level"][0, 2] == 160


def test_equal_logits_have_a_step_of_zero() -> None:
    _, arrays, targets = stored(np.full((2, 4), 7.5, np.float32))
    assert arrays["logit_step"].tolist() == [0, 0]
    assert (arrays["logit_level"] == 160).all()
    assert not targets.logits.any()


def test_a_row_that_spans_too_much_is_refused() -> None:
    logits = np.zeros((1, 4), np.float32)
    logits[0] = [3e7, 0, 0, 0]
    with pytest.raises(TargetsInvalid, match="a step of dense8 of 187500 does not fit float16"):
        stored(logits)
    logits[0, 0] = 65504 * 160 + 100
    with pytest.raises(TargetsInvalid, match=r"does not fit|too much for dense8"):
        stored(logits)


def gradient(student: np.ndarray, teacher: np.ndarray, tau: float) -> np.ndarray:
    """Of tau^2 KL with respect to the student's logits, up to tau."""

    def softmax(z: np.ndarray) -> np.ndarray:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    return softmax(student.astype(np.float64) / tau) - softmax(teacher.astype(np.float64) / tau)


def cosine(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return (one * two).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)


@pytest.mark.parametrize("teacher", [like_a_network(200), np.float32(3) * flat(200)], ids=["sure", "flat"])
@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_its_gradient_is_that_of_all_logits(tau: float, teacher: np.ndarray) -> None:
    student = like_a_network(200, seed=1)
    _, _, targets = stored(teacher)
    found = cosine(gradient(student, targets.logits, tau), gradient(student, teacher, tau))
    assert found.mean() > 0.9999
    assert found.min() > 0.999


def test_top_10_of_1000_at_temperature_3_gives_another_gradient() -> None:
    """The number of the warning: between 0.67 and 0.81, from a student that knows nothing to one that knows much."""
    teacher = like_a_network(300)
    _, _, targets = stored(teacher, "topk:10")
    p = np.exp(targets.topk_logp / 3.0 - targets.lse_tau[:, [1]])
    for student in (np.zeros_like(teacher), teacher + like_a_network(300, seed=1) * 0.5):
        q = np.exp(student.astype(np.float64) / 3)
        q /= q.sum(axis=1, keepdims=True)
        kept = np.take_along_axis(q, targets.topk_class, axis=1)
        # the tail as one bin: each of its classes has its share of the tail's difference
        lumped = q * ((1 - kept.sum(1)) - (1 - p.sum(1)))[:, None] / (1 - kept.sum(1))[:, None]
        np.put_along_axis(lumped, targets.topk_class, kept - p, axis=1)
        assert 0.4 < cosine(lumped, gradient(student, teacher, 3.0)).mean() < 0.95


@pytest.mark.parametrize("logits", [like_a_network(1024), np.float32(3) * flat(1024)], ids=["sure", "flat"])
def test_it_takes_half_the_bytes_of_dense(logits: np.ndarray) -> None:
    sizes = {}
    for text in ("dense", "dense8"):
        fmt, arrays, _ = stored(logits, text)
        specs = [spec for spec in array_specs(fmt) if spec.name.startswith("logit")]
        sizes[text] = sum(len(ShardCodec(spec, 1024).encode(arrays[spec.name])) for spec in specs)
    assert sizes["dense8"] <= sizes["dense"] / 2


@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("logit_level", lambda rows: rows[3].fill(159), "has a row whose label does not attain the maximum"),
        ("logit_step", lambda rows: rows.__setitem__(2, np.nan), "has a step that is not finite or below 0"),
        ("logit_step", lambda rows: rows.__setitem__(2, -1), "has a step that is not finite or below 0"),
    ],
)
def test_what_no_teacher_gave_is_found(name: str, change, what: str) -> None:
    fmt, arrays, _ = stored(like_a_network(8))
    assert list(impossible(arrays, fmt)) == []
    change(arrays[name])
    assert list(impossible(arrays, fmt)) == [(name, what)]


def test_what_was_never_written_is_impossible() -> None:
    fmt, arrays, _ = stored(like_a_network(2))
    empty = {spec.name: np.full((2, *spec.row), spec.fill, spec.dtype) for spec in array_specs(fmt)}
    empty["teacher_label"] = arrays["teacher_label"]
    assert {name for name, _ in impossible(empty, fmt)} == {"logit_level", "logit_step"}
