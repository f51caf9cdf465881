"""Several commands at once, each in a process of its own, on a machine with more cores than one of them can use."""

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

LAST_WORDS = 20.0  # seconds to save a checkpoint in


class Job(NamedTuple):
    """A command: its module below `deit_pipe.stages`, its options, and what it is called in progress lines."""

    command: str
    options: Any
    words: str


RunJobs = Callable[[Sequence[Job]], Iterator[Job]]


@contextmanager
def job_runner(processes: int, log: Path) -> Iterator[RunJobs]:
    """Give a function that runs jobs in any order and yields each as it ends.

    Args:
        processes: at once; 1 runs them here, one after the other, with their own progress on stderr.
        log: where the processes' progress goes.

    Raises:
        Whatever a job raises; the others that have not begun are left out.
    """
    if processes == 1:

        def run_here(jobs: Sequence[Job]) -> Iterator[Job]:
            for job in jobs:
                run_job(job)
                yield job

        yield run_here
        return
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(processes, context, initializer=begin_process, initargs=(processes, str(log))) as pool:

        def run_there(jobs: Sequence[Job]) -> Iterator[Job]:
            waiting: dict[Future[None], Job] = {pool.submit(run_job, job): job for job in jobs}
            try:
                for done in as_completed(waiting):
                    done.result()
                    yield waiting[done]
            finally:
                for other in waiting:
                    other.cancel()

        yield run_there


def run_job(job: Job) -> None:
    """Run one command; what it found lies in the folders that it makes."""
    importlib.import_module(f"deit_pipe.stages.{job.command}").run(job.options)


def begin_process(processes: int, log: str) -> None:
    """A share of the cores for this process, and its progress out of the way."""
    os.environ["LOCAL_WORLD_SIZE"] = str(processes)
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))
    threading.Thread(target=end_with_parent, daemon=True).start()
    sys.stdout.flush()
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), 2)


def end_with_parent() -> None:
    """Stop what runs here when whoever asked for it is gone, as if by SIGTERM: a run saves a checkpoint first."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LAST_WORDS)
    os._exit(128 + signal.SIGTERM)
