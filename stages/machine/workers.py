"""How many processes make views."""

import os

MOST_WORKERS = 16


def choose_workers(asked: int | None) -> int:
    """As asked, else this process's share of the cores, at most 16; none where there is a single core."""
    if asked is not None:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return 0 if cores == 1 else min(share, MOST_WORKERS)
