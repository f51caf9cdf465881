"""Finds the order of classes that a teacher answers in, when it is not the data's.

The order is learned from one half of the answers and tried on the other half: with few images a class, almost any
answers fit some order.

Shapes: n answers, C classes.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

SHOWN = 3


def learn_order(labels: NDArray[np.int64], said: NDArray[np.int64]) -> dict[int, int]:
    """The label that each answer stands for: answer -> class, one to one, the most frequent pairs first.

    Answers that are never given, or whose classes were all taken, are left out.
    """
    pairs, counts = np.unique(np.stack([said, labels], axis=1), axis=0, return_counts=True)
    answers, classes = pairs[:, 0], pairs[:, 1]
    # of equally frequent pairs, the one whose answer and class have fewer others
    others = np.bincount(said)[answers] + np.bincount(labels)[classes]
    order: dict[int, int] = {}
    taken: set[int] = set()
    for place in np.lexsort((others, -counts)).tolist():
        answer, label = int(answers[place]), int(classes[place])
        if answer not in order and label not in taken:
            order[answer] = label
            taken.add(label)
    return order


def read_in_order(said: NDArray[np.int64], order: Mapping[int, int]) -> NDArray[np.int64]:
    """The classes that answers stand for, int64 [n]; -1 where the order does not say."""
    return np.array([order.get(answer, -1) for answer in said.tolist()], np.int64)


def describe_order(order: Mapping[int, int], class_names: Sequence[str]) -> str:
    """Which classes stand where, in words."""
    moved = {answer: label for answer, label in order.items() if answer != label}
    for words, known in known_orders(class_names):
        if sum(known[answer] == label for answer, label in order.items()) >= 0.9 * len(order):
            return f"its classes seem to be in {words}"
    pairs = [(a, b) for a, b in sorted(moved.items()) if moved.get(b) == a and a < b]
    if 2 * len(pairs) == len(moved) and len(pairs) <= SHOWN:
        return " and ".join(f"{class_names[a]!r} and {class_names[b]!r}" for a, b in pairs) + " are exchanged"
    said = [f"{class_names[answer]!r} where it is {class_names[label]!r}" for answer, label in sorted(moved.items())]
    more = f" and {len(said) - SHOWN} more" if len(said) > SHOWN else ""
    return f"its classes are in another order: it says {', '.join(said[:SHOWN])}{more}"


def known_orders(class_names: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Usual orders that are not the data's, as (words, class of each answer)."""
    count = len(class_names)
    orders: dict[str, list[int]] = {
        "alphabetical order": sorted(range(count), key=lambda label: class_names[label]),
        "alphabetical order without regard to case": sorted(
            range(count), key=lambda label: class_names[label].casefold()
        ),
        "the reverse order": list(range(count))[::-1],
        "an order that is shifted by one": [*range(1, count), 0],
        "an order that is shifted by one, downwards": [count - 1, *range(count - 1)],
    }
    if all(name.isdecimal() for name in class_names):
        orders["the order of their numbers"] = sorted(range(count), key=lambda label: int(class_names[label]))
    for words, order in orders.items():
        if order != list(range(count)) and (count > 2 or words == "the reverse order"):
            yield words, order
