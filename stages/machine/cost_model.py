"""What stage one and stage two take on this machine, from a few measured costs: arithmetic only.

A view costs core-seconds. A network costs seconds of its device, and core-seconds beside: on a GPU those that launch
its work, on a CPU all of it. View workers and network run at once, so one of three sets the pace of a process: the
network by itself, the workers by themselves, or the cores that both share. `bench`, `cache-teacher --estimate` and the
line about waiting in a run all say it in the words of `limit_line`.
"""

import math
from dataclasses import dataclass

VIEWS, NETWORK, CORES = "views", "network", "cores"


@dataclass(frozen=True, kw_only=True)
class ViewCost:
    """What one view costs a process.

    Attributes:
        core_seconds: of one core.
        rate: views a second that the process's workers make when nothing else runs; 0 workers: of the main process.
    """

    core_seconds: float
    rate: float


@dataclass(frozen=True, kw_only=True)
class NetworkCost:
    """What a network costs a process for one view: a teacher's answer, or a student's part of a step.

    Attributes:
        seconds: by the clock, on pixels that are there already.
        core_seconds: of processor time meanwhile.
    """

    seconds: float
    core_seconds: float

    def beside(self, core_seconds: float) -> "NetworkCost":
        """The same with so much more work of a core beside each view."""
        return NetworkCost(seconds=self.seconds, core_seconds=self.core_seconds + core_seconds)


@dataclass(frozen=True, kw_only=True)
class Share:
    """What each of the run's processes has.

    Attributes:
        cores: its share of the machine's.
        workers: that make its views; 0: the main process does, between two steps.
        processes: how many there are, on all machines.
    """

    cores: float
    workers: int
    processes: int = 1


@dataclass(frozen=True)
class Pace:
    """How fast views and network are together, over all processes, in views a second.

    Attributes:
        rate: both at once.
        limit: what sets it: VIEWS, NETWORK or CORES.
        view_rate: the workers alone.
        network_rate: the network alone.
    """

    rate: float
    limit: str
    view_rate: float
    network_rate: float


def pace(view: ViewCost, network: NetworkCost, share: Share, drag: float = 1.0) -> Pace:
    """The pace of view workers and network at once.

    Args:
        view: as measured with the workers of `share`.
        network: as measured with its cores.
        share: of each process.
        drag: by how much both at once are slower than their parts say, 1 or more; see `measured_drag`.
    """
    both = (view.core_seconds + network.core_seconds) / share.cores
    seconds = {NETWORK: network.seconds, VIEWS: 1 / view.rate, CORES: both}
    if not share.workers:  # one after the other, and each alone
        seconds = {CORES: 1 / view.rate + network.seconds}
    limit = max(seconds, key=lambda name: seconds[name])
    return Pace(
        rate=share.processes / (seconds[limit] * drag),
        limit=limit,
        view_rate=share.processes * view.rate,
        network_rate=share.processes / network.seconds,
    )


def measured_drag(view: ViewCost, network: NetworkCost, share: Share, together: float) -> float:
    """By how much both at once are slower than their parts say, at least 1: caches and memory are shared too.

    Args:
        view: as for `pace`.
        network: as for `pace`.
        share: as for `pace`.
        together: views a second of one process that were measured with both at work.
    """
    return max(1.0, pace(view, network, share).rate / share.processes / together)


def cores_needed(view: ViewCost, network: NetworkCost) -> float:
    """Cores of a process that views and network take when the network never waits; infinite for a free network."""
    return (view.core_seconds + network.core_seconds) / network.seconds if network.seconds else math.inf


def break_even(stage_one: float, student: float, online: float) -> float:
    """How many students must be trained before the cache costs less than a teacher in every step; infinite: never.

    Args:
        stage_one: seconds to make the cache.
        student: seconds to train a student from it.
        online: seconds to train a student with the teacher in the loop.
    """
    return stage_one / (online - student) if online > student else math.inf


def online_cost(student: NetworkCost, teacher: NetworkCost) -> NetworkCost:
    """A step with the teacher in the loop: one after the other on the same device."""
    return NetworkCost(
        seconds=student.seconds + teacher.seconds, core_seconds=student.core_seconds + teacher.core_seconds
    )


def limit_line(found: Pace, network: str, workers: str, cores: float, raw_rate: float | None = None) -> str:
    """Who waits for whom, in one line.

    Args:
        found: the pace.
        network: "teacher" or "student".
        workers: such as "2 threads".
        cores: of each process.
        raw_rate: views a second of the same workers from raw pixels, where measured.
    """
    pack = f"; pack --raw gives {raw_rate:,.0f}/s" if raw_rate is not None and raw_rate > found.view_rate else ""
    if found.limit == VIEWS:
        return (
            f"views are the limit: {workers} make {found.view_rate:,.0f}/s, "
            f"this {network} takes {found.network_rate:,.0f}/s{pack}"
        )
    if found.limit == NETWORK:
        return (
            f"the {network} is the limit: it takes {found.network_rate:,.0f}/s, {workers} make {found.view_rate:,.0f}/s"
        )
    return (
        f"the cores are the limit: {cores:g} of them make {found.view_rate:,.0f} views/s, or this {network} takes "
        f"{found.network_rate:,.0f}/s, or both at once {found.rate:,.0f}/s{pack}"
    )


ENOUGH_REUSE = 3  # how often each cached view may be seen at no cost: tests/benchmarks/RESULTS.md, "Reuse"


def reuse_line(trained: int, cached: int) -> str:
    """How often a run shows each cached view, and what is known about that.

    Args:
        trained: epochs of the run.
        cached: epochs it takes in turn.
    """
    often = trained / cached
    if often <= 1:
        return "each cached view is seen once"
    seen = f"each cached view is seen {often:.3g} times"
    if often <= ENOUGH_REUSE:
        return f"{seen} (up to {ENOUGH_REUSE} cost nothing that could be measured)"
    enough = -(-trained // ENOUGH_REUSE)
    return (
        f"{seen}; up to {ENOUGH_REUSE} cost nothing that could be measured, and {enough} cached epochs would do, for "
        f"{enough / cached:.3g} x the teacher's work: cache-teacher --epochs {enough}"
    )
