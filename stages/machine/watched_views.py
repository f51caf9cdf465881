"""The views of a run, watched on their way: who waits for whom, and what the native engine left to Pillow."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from deit_pipe.stages.console.progress import note
from deit_pipe.stages.machine.cost_model import VIEWS, Pace, limit_line
from deit_pipe.stages.machine.engine_words import worker_words
from deit_pipe.stages.machine.workers import own_cores

if TYPE_CHECKING:
    from deit_pipe.pipeline.loader import ViewBatch

SETTLED = 30.0  # seconds until the line about waiting, or at the end of a shorter run
SHORTEST = 3.0  # seconds; what is shorter says nothing
MUCH = 0.05  # share of the time that is worth a line


def watched(
    views: "Iterator[ViewBatch]",
    network: str,
    workers: int,
    *,
    shares_cores: bool = False,
    quiet: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> "Generator[ViewBatch, None, None]":
    """Pass batches on, and say on stderr, once, when their taker waits for more than 5 % of its time.

    Args:
        views: of `load_views`; closed with this.
        network: what takes them: "teacher" or "student".
        workers: that make them.
        shares_cores: the network runs on the same cores, so that either is slower than it would be alone.
        quiet: say nothing.
        clock: seconds.
    """
    seen = timed = left = 0
    waited, said, started = 0.0, quiet, 0.0
    with closing(views):  # type: ignore[type-var]  # a generator; ends its workers
        try:
            asked = clock()
            for batch in views:
                came = clock()
                if seen:
                    waited, timed = waited + came - asked, timed + len(batch)
                else:
                    started = came  # what the first batch takes is start-up
                seen, left = seen + len(batch), left + batch.left_to_pillow
                if not said and came - started >= SETTLED:
                    said = True
                    say_waiting(timed, waited, came - started, network, workers, shares_cores)
                yield batch
                asked = clock()
        finally:
            if not said and seen and asked - started >= SHORTEST:
                say_waiting(timed, waited, asked - started, network, workers, shares_cores)
            if left and not quiet:
                note(
                    f"note: {left:,} of {seen:,} views were left to Pillow, the same but slower: "
                    "the native engine does not handle them"
                )


def say_waiting(views: int, waited: float, seconds: float, network: str, workers: int, shares_cores: bool) -> None:
    """The line, where the wait is worth one: what the workers make is what came, the network takes it in the rest."""
    if waited < MUCH * seconds or waited >= seconds:
        return
    rate = views / seconds
    found = Pace(rate, VIEWS, rate, views / (seconds - waited))
    shared = f"; they share the cores with the {network}" if shares_cores else ""
    note(
        f"note: {waited / seconds:.0%} of the time goes into waiting for views: "
        f"{limit_line(found, network, worker_words(workers), own_cores())}{shared}\n"
        "  deit-pipe bench says what would help here"
    )
