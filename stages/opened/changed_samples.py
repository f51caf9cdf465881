"""What has become of the images since a cache was made: added, removed, renamed, labelled otherwise."""

from collections import defaultdict

import numpy as np

from deit_pipe.pipeline.samples import SampleTable, class_name
from deit_pipe.store.manifest import SampleIndex

SHOWN = 3


def recorded_keys(table: SampleTable) -> list[str]:
    """The keys as a cache records them: UTF-8, with what is none of a file's name escaped."""
    return [key.encode("utf-8", "backslashreplace").decode() for key in table.keys]


def describe_changes(cached: SampleIndex, given: SampleTable) -> list[str]:
    """One line per kind of change, each with its count and the first few samples; empty where nothing differs.

    A file that went while another of the same size and class came counts as renamed.
    """
    lines = _class_changes(cached.class_names, given.class_names)
    old = {key: place for place, key in enumerate(cached.keys)}
    given_keys = recorded_keys(given)
    new = {key: place for place, key in enumerate(given_keys)}
    removed = [key for key in old if key not in new]
    added = [key for key in new if key not in old]
    renamed = _pair_renamed(cached, given, new, removed, added)
    came = {after for _, after in renamed}
    gone = {before for before, _ in renamed}
    lines += _line("added", [key for key in added if key not in came])
    lines += _line("removed", [key for key in removed if key not in gone])
    lines += _line("renamed", [f"{before} -> {after}" for before, after in renamed])
    lines += _line("labelled otherwise", _relabelled(cached, given, old, new))
    if not lines and list(cached.keys) != given_keys:
        lines.append("the same images in another order")
    return lines


def _line(what: str, keys: list[str]) -> list[str]:
    if not keys:
        return []
    more = f" and {len(keys) - SHOWN:,} more" if len(keys) > SHOWN else ""
    return [f"{len(keys):,} {what}: {', '.join(keys[:SHOWN])}{more}"]


def _class_changes(cached: tuple[str, ...], given: tuple[str, ...]) -> list[str]:
    if cached == given:
        return []
    if sorted(cached) == sorted(given):
        return ["the same classes in another order"]
    return [
        *_line("classes added", [name for name in given if name not in cached]),
        *_line("classes removed", [name for name in cached if name not in given]),
    ]


def _pair_renamed(
    cached: SampleIndex, given: SampleTable, new: dict[str, int], removed: list[str], added: list[str]
) -> list[tuple[str, str]]:
    """Pairs (before, after) of equal size and class, in order; only where both sides have some."""
    if not removed or not added:
        return []
    sizes = given.byte_sizes
    free: dict[tuple[int, str], list[str]] = defaultdict(list)
    for key in added:
        place = new[key]
        free[int(sizes[place]), class_name(given.class_names, int(given.labels[place]))].append(key)
    places = {key: place for place, key in enumerate(cached.keys)}
    pairs = []
    for key in removed:
        place = places[key]
        name = class_name(cached.class_names, int(cached.labels[place]))
        candidates = free.get((int(cached.byte_sizes[place]), name))
        if candidates:
            pairs.append((key, candidates.pop(0)))
    return pairs


def _relabelled(cached: SampleIndex, given: SampleTable, old: dict[str, int], new: dict[str, int]) -> list[str]:
    both = [key for key in old if key in new]
    before = np.asarray([cached.labels[old[key]] for key in both])
    after = np.asarray([given.labels[new[key]] for key in both])
    names = cached.class_names, given.class_names
    return [
        f"{key} (cached {was}, now {now})"
        for key, one, other in zip(both, before.tolist(), after.tolist(), strict=True)
        if (was := class_name(names[0], one)) != (now := class_name(names[1], other))
    ]
