"""Images that are the same, and images that look alike.

Shapes: N images, M hashes that are compared.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from deit_pipe.stages.checking.findings import Finding
from deit_pipe.stages.checking.images import CheckedImages

NEAR = 4  # bits of 64 in which images that look alike may differ
PLAIN = 6  # hashes with fewer bits set, or fewer unset, are of surfaces without anything on them
ROWS = 1024  # hashes that are compared with all others at a time


def same_findings(images: CheckedImages, keys: NDArray[np.uint64], known: NDArray[np.bool_]) -> list[Finding]:
    """Groups of images with equal keys, each judged by their labels and splits.

    Args:
        images: the images.
        keys: uint64 [N, K], equal for the same image.
        known: bool [N], whether an image has a key.
    """
    return [_judged(images, group) for group in equal_groups(keys, known)]


def equal_groups(keys: NDArray[np.uint64], known: NDArray[np.bool_]) -> list[list[int]]:
    """Places with equal rows, in order of the first; only where there are several."""
    places = np.flatnonzero(known)
    if not len(places):
        return []
    rows = keys[places]
    order = np.lexsort((places, *rows.T))
    ordered = rows[order]
    new = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])
    parts = np.split(places[order], np.flatnonzero(new)[1:])
    return sorted(part.tolist() for part in parts if len(part) > 1)


def alike_findings(
    images: CheckedImages, hashes: NDArray[np.uint64], compared: NDArray[np.bool_], same: Sequence[Finding]
) -> list[Finding]:
    """Images whose hashes are near: a hint that they are one picture, saved again or made smaller.

    Args:
        images: the images.
        hashes: uint64 [N].
        compared: bool [N], whether an image's hash says anything.
        same: what is reported as the same image already; the first of each group stands for it.
    """
    bits = bit_counts(hashes)
    wanted = compared & (bits >= PLAIN) & (bits <= 64 - PLAIN)
    for one in same:
        wanted[list(one.images[1:])] = False
    places = np.flatnonzero(wanted)
    values, which = np.unique(hashes[places], return_inverse=True)
    joined = _Groups(len(places))
    first = np.zeros(len(values), dtype=np.int64)
    first[which[::-1]] = np.arange(len(places))[::-1]
    furthest: dict[int, int] = {}
    for place, value in enumerate(which.tolist()):
        joined.join(int(first[value]), place)
    pairs = [(int(first[a]), int(first[b]), distance) for a, b, distance in near_pairs(values)]
    for one_place, other, _ in pairs:
        joined.join(one_place, other)
    for one_place, _, distance in pairs:
        root = joined.root(one_place)
        furthest[root] = max(furthest.get(root, 0), distance)
    found = []
    for root, members in joined.members().items():
        if len(members) > 1:
            group = tuple(places[members].tolist())
            found.append(
                Finding(
                    "alike",
                    tuple(images.name(image) for image in group),
                    f"{furthest.get(root, 0)} of 64 bits differ{_classes(images, group)}{_where(images, group)}",
                    group,
                )
            )
    return sorted(found, key=lambda one: one.images)


def near_pairs(values: NDArray[np.uint64], near: int = NEAR) -> Iterator[tuple[int, int, int]]:
    """Pairs of different hashes that differ in at most `near` bits: (place, place, bits).

    Cut into `near` + 1 bands, two such hashes agree in at least one of them: only hashes with an equal band are
    compared. A pair that agrees in several bands comes several times.
    """
    edges = np.linspace(0, 64, near + 2).astype(int).tolist()
    for low, high in pairwise(edges):
        band = (values >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(band, kind="stable")
        cuts = np.flatnonzero(np.diff(band[order])) + 1
        for run in np.split(order, cuts):
            for start in range(0, len(run) if len(run) > 1 else 0, ROWS):
                rows = run[start : start + ROWS]
                rest = run[start:]
                bits = bit_counts(values[rows][:, None] ^ values[rest][None, :])
                ones, others = np.nonzero((bits <= near) & (np.arange(len(rows))[:, None] < np.arange(len(rest))))
                for one, other in zip(ones.tolist(), others.tolist(), strict=True):
                    yield int(rows[one]), int(rest[other]), int(bits[one, other])


def bit_counts(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """How many bits of each value are set: sums of neighbouring bits, pairs, fours, bytes."""
    ones = values - ((values >> np.uint64(1)) & np.uint64(0x5555555555555555))
    twos = (ones & np.uint64(0x3333333333333333)) + ((ones >> np.uint64(2)) & np.uint64(0x3333333333333333))
    fours = (twos + (twos >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    counts: NDArray[np.uint64] = (fours * np.uint64(0x0101010101010101)) >> np.uint64(56)
    return counts


def _judged(images: CheckedImages, group: Sequence[int]) -> Finding:
    classes = _classes(images, group)
    splits = {int(place) for place in images.split_of[list(group)]}
    names = tuple(images.name(image) for image in group)
    if classes:
        return Finding("labels", names, classes.removeprefix(", ") + _where(images, group), tuple(group))
    if len(splits) > 1:
        return Finding("leak", names, _where(images, group).removeprefix(", "), tuple(group))
    return Finding("copies", names, f"{len(group)} times", tuple(group))


def _classes(images: CheckedImages, group: Sequence[int]) -> str:
    """`, labelled ant and bee`, where it is more than one class."""
    labels = sorted({int(label) for label in images.labels[list(group)] if label >= 0})
    return f", labelled {' and '.join(images.class_names[label] for label in labels)}" if len(labels) > 1 else ""


def _where(images: CheckedImages, group: Sequence[int]) -> str:
    """`, in train and val`, where it is more than one split."""
    kinds = [images.splits[place].kind for place in np.unique(images.split_of[list(group)])]
    return f", in {' and '.join(kinds)}" if len(kinds) > 1 else ""


class _Groups:
    """Places that were joined, directly or not."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def root(self, place: int) -> int:
        while self._above[place] != place:
            self._above[place] = self._above[self._above[place]]
            place = self._above[place]
        return place

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self.root(one), self.root(other)))
        self._above[second] = first

    def members(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for place in range(len(self._above)):
            found.setdefault(self.root(place), []).append(place)
        return found
