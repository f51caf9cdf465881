"""How many workers make views, and on how many cores."""

import os

MOST_WORKERS = 16


def machine_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own_cores() -> int:
    """This process's share of them, at least 1."""
    return max(1, machine_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def choose_workers(asked: int | None) -> int:
    """As asked, else one for each of this process's cores, at most 16; none where there is a single core."""
    if asked is not None:
        return asked
    return 0 if machine_cores() == 1 else min(own_cores(), MOST_WORKERS)
