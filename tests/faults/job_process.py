"""An independent job of the fault tests: opens a cache, writes what it can, waits for the rest; dies at a step."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from faults.writer_process import Fatal, WriterProcess
from store_fakes import answers

from deit_pipe.store.manifest import TeacherIdentity
from deit_pipe.store.places import local
from deit_pipe.store.places.remote import RemoteObjects
from deit_pipe.store.writer import TargetWriter
from deit_pipe.store.writing import hints

POLL = 0.05


class Death(NamedTuple):
    """When a job kills itself: so many steps after its `start`, or after it has opened the cache (`open`)."""

    since: str
    step: int
    how: str = "before"
    """Of a request to an object store: `before` it, `within` it, or `after` it, with its answer unread."""


class FatalRequests:
    """Kills this process with SIGKILL at a request to an object store."""

    def __init__(self, step: int, how: str) -> None:
        self._left, self._how = step, how
        self._count = threading.Lock()

    def arm(self) -> None:
        """Begin to count."""
        genuine = RemoteObjects._ask

        def ask(place: RemoteObjects, request: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            with self._count:
                self._left -= 1
                last = self._left == 0
            if last and self._how == "before":
                die()
            if last and self._how == "within":
                threading.Timer(random.random() * 0.01, die).start()
            try:
                return genuine(place, request, *arguments, **options)
            finally:
                if last:
                    die()

        RemoteObjects._ask = ask  # type: ignore[method-assign]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run_job(
    connection: Connection,
    location: str,
    teacher: TeacherIdentity,
    epochs: int,
    *,
    host: str,
    patience: float,
    environment: dict[str, str],
    death: Death | None,
) -> None:
    """Say `open`; `begin` and `done` of each block, with the token of who committed it; `end` when all are there.

    `patience`: seconds until a hint of another host is taken over, instead of a minute and five blocks at least.
    """
    os.environ |= environment
    hints.socket.gethostname = lambda: host  # type: ignore[attr-defined]
    hints.PATIENCE, hints.BLOCKS_OF_PATIENCE = patience, 0
    step = death.step if death else 0
    fatal = FatalRequests(step, death.how) if death and "://" in location else Fatal(location, step)
    # SIGKILL loses nothing that was written, only a power cut does: what is synced counts as a step and is not synced
    local.os.fsync = fatal.sync if isinstance(fatal, Fatal) else lambda _: None
    try:
        if death and death.since == "start":
            fatal.arm()
        with TargetWriter.open(location, teacher, epochs=epochs, check_space=False) as writer:
            connection.send(("open", len(writer.missing)))
            if death and death.since == "open":
                fatal.arm()
            more = True
            while more:
                for block in writer.claims():
                    connection.send(("begin", block))
                    record = writer.write(block, *answers(block, teacher.num_classes))
                    connection.send(("done", (block, record.token)))
                more = writer.wait(lambda _: time.sleep(POLL))
        connection.send(("end", None))
    except Exception as error:
        connection.send(("error", (type(error).__name__, getattr(error, "exit_code", None), str(error))))


class JobProcess(WriterProcess):
    """One job in its own process, of no group."""

    def __init__(self, location: str, teacher: TeacherIdentity, epochs: int, **options: Any) -> None:
        super().__init__(location, teacher, epochs, target=run_job, **options)
