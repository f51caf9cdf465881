"""Skill, its interval and calibration, against simulation and against numbers worked out by hand."""

import numpy as np
import pytest

from deit_pipe.stages.teaching.answers import Answers
from deit_pipe.stages.teaching.class_order import describe_order, learn_order, read_in_order
from deit_pipe.stages.teaching.gate import MOST, REFUSED_BELOW, until_clear
from deit_pipe.stages.teaching.skill import calibration_error, class_accuracy, skill, wilson

REPEATS = 400


def random_of(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def frequencies(classes: int, uneven: bool) -> np.ndarray:
    shares = np.arange(1, classes + 1) ** (-0.7 if uneven else 0.0)
    return shares / shares.sum()


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("accuracies", ["good", "half", "bad", "spread"])
@pytest.mark.parametrize(("classes", "count"), [(10, 30), (10, 256), (100, 256), (1000, 256), (1000, 2000)])
def test_the_interval_covers_the_true_skill(classes: int, count: int, accuracies: str, uneven: bool) -> None:
    """95 % intervals of fixed samples; 93 % leaves room for 400 repetitions of a binomial count."""
    random = random_of(classes + count)
    of_class = {
        "good": np.full(classes, 0.95),
        "half": np.full(classes, 0.5),
        "bad": np.full(classes, 0.1 + 0.9 / classes),
        "spread": random.permutation(np.linspace(0.4, 1, classes)),
    }[accuracies]
    true = (of_class.mean() - 1 / classes) / (1 - 1 / classes)
    shares = frequencies(classes, uneven)
    hits = 0
    for _ in range(REPEATS):
        labels = random.choice(classes, count, p=shares)
        said = np.where(random.random(count) < of_class[labels], labels, (labels + 1) % classes)
        found = skill(labels, said, classes)
        hits += found.low <= true <= found.high
    assert hits / REPEATS >= 0.93 - 0.02


@pytest.mark.parametrize("classes", [10, 100, 1000])
@pytest.mark.parametrize(("true", "most_refused", "least_refused"), [(0.05, 1, 0.99), (0.3, 0.0, 0), (0.9, 0.0, 0)])
def test_looking_after_every_step_decides_right(
    classes: int, true: float, most_refused: float, least_refused: float
) -> None:
    random = random_of(classes)
    accuracy = true * (1 - 1 / classes) + 1 / classes
    refused = 0
    for _ in range(100):
        labels = random.integers(0, classes, MOST)
        said = np.where(random.random(MOST) < accuracy, labels, (labels + 1) % classes)
        steps = (Answers(labels[:stop], said[:stop], np.ones(stop), classes) for stop in range(256, MOST + 1, 256))
        refused += until_clear(steps, None).skill.high < REFUSED_BELOW
    assert least_refused <= refused / 100 <= most_refused


def test_every_class_counts_the_same_however_many_images_it_has() -> None:
    labels = np.array([0] * 98 + [1] * 2)
    said = np.zeros(100, np.int64)
    found = class_accuracy(labels, said, 4)  # 100 % of one class, none of the other; two more were not seen
    assert found.value == 0.5
    assert found == wilson(0.5, 4 / (1 / 98 + 1 / 2))
    assert skill(labels, said, 4).value == pytest.approx((0.5 - 0.25) / 0.75)
    assert skill(labels, labels, 4).value == 1.0


def test_wilson_is_the_textbook_interval() -> None:
    assert wilson(0.0, 10)[1:] == pytest.approx((0.0, 0.2775), abs=1e-3)
    assert wilson(0.81, 263)[1:] == pytest.approx((0.7583, 0.8528), abs=1e-3)
    assert wilson(1.0, 30).low == pytest.approx(0.8865, abs=1e-3)


def test_calibration_error_is_worked_out_by_hand() -> None:
    # bins of 1/15: 0.95 and 1.0 share the last one, 0.30 and 0.32 the fifth, 0.61 is alone
    confidence = np.array([0.95, 1.0, 0.30, 0.32, 0.61])
    right = np.array([True, False, True, False, True])
    last, fifth, alone = abs(0.975 - 0.5), abs(0.31 - 0.5), abs(0.61 - 1.0)
    assert calibration_error(confidence, right) == pytest.approx((2 * last + 2 * fifth + alone) / 5)
    assert calibration_error(np.ones(7), np.ones(7, bool)) == 0.0
    assert calibration_error(np.full(4, 0.25), np.array([True, False, False, False])) == 0.0


def test_an_order_is_learned_from_few_answers_and_holds_on_others() -> None:
    """1,000 classes, one image each to learn from: what the order covers is right; an honest order stays as it is."""
    random = random_of(5)
    order = random.permutation(1000)  # output of each class
    labels = random.integers(0, 1000, 2000)
    right = random.random(2000) < 0.83
    said = order[np.where(right, labels, random.integers(0, 1000, 2000))]
    learned = learn_order(labels[::2], said[::2])
    assert len(set(learned.values())) == len(learned)
    meant = read_in_order(said[1::2], learned)
    covered = meant >= 0
    assert covered.mean() > 0.5
    assert (meant == labels[1::2])[covered].mean() > 0.55
    assert (said == labels).mean() < 0.01


def test_no_order_is_learned_from_answers_that_have_none() -> None:
    random = random_of(6)
    labels, said = random.integers(0, 10, 600), random.integers(0, 10, 600)
    meant = read_in_order(said[1::2], learn_order(labels[::2], said[::2]))
    assert (meant == labels[1::2]).mean() < 0.2


@pytest.mark.parametrize(
    ("names", "order", "words"),
    [
        ("abcd", [0, 3, 2, 1], "'b' and 'd' are exchanged"),
        ("abcd", [1, 0, 3, 2], "'a' and 'b' and 'c' and 'd' are exchanged"),
        ("abcd", [3, 2, 1, 0], "its classes seem to be in the reverse order"),
        ("abcd", [1, 2, 3, 0], "its classes seem to be in an order that is shifted by one"),
        (
            "abcd",
            [1, 2, 0, 3],
            "its classes are in another order: it says 'a' where it is 'b', 'b' where it is 'c', 'c' where it is 'a'",
        ),
        (("1", "10", "2", "3"), [0, 2, 3, 1], "its classes seem to be in the order of their numbers"),
        (("b", "a", "d", "c"), [1, 0, 3, 2], "its classes seem to be in alphabetical order"),
    ],
)
def test_an_order_is_said_in_words(names: tuple[str, ...], order: list[int], words: str) -> None:
    assert describe_order(dict(enumerate(order)), names) == words
