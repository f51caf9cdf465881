"""Seconds by the clock and of processor time that a repeated piece of work takes."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Taken:
    """What `units` of work took.

    Attributes:
        seconds: by the clock.
        core_seconds: of the processor, all threads of this process together.
        units: views, or whatever was counted.
    """

    seconds: float
    core_seconds: float
    units: int

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.seconds


def repeat(
    work: Callable[[], int], seconds: float, device: torch.device | None = None, *, warm_up: int = 1, least: int = 2
) -> Taken:
    """Do it again and again until so many seconds have passed.

    Args:
        work: does some, and returns how many units.
        seconds: by the clock, at least.
        device: waited for at both ends; None: there is nothing to wait for.
        warm_up: times that it is done before and not counted.
        least: times, however long they take.
    """
    for _ in range(warm_up):
        work()
    wait_for(device)
    units = times = 0
    started, used = time.perf_counter(), time.process_time()
    while times < least or time.perf_counter() - started < seconds:
        units += work()
        times += 1
    wait_for(device)
    return Taken(time.perf_counter() - started, time.process_time() - used, units)


def wait_for(device: torch.device | None) -> None:
    """Until everything that was asked of a GPU is done; nothing elsewhere."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
