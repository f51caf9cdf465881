"""A torch-free writer for the fault tests: writes made-up answers, tells each step through a pipe, can be killed."""

import multiprocessing
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from store_fakes import answers

from deit_pipe.store.manifest import TeacherIdentity
from deit_pipe.store.places import local
from deit_pipe.store.writer import TargetWriter

# children start from a process that has the slow imports done and has never used zarr: 20 ms instead of 0.7 s
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "zarr",
        "zarr.storage",
        "numcodecs.blosc",
        "pyarrow.parquet",
        "obstore.store",  # passed over where it is not installed
        "deit_pipe.store.writer",
        "deit_pipe.store.places.remote",
        "store_fakes",
    ]
)


HANGS = 900.0  # seconds without a word: not slow, stuck


class Fatal:
    """Kills this process with SIGKILL at a step on the disk below a folder: an open, rename, link, removal or sync."""

    STEPS = ("open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.scandir", "fcntl.lockf")

    def __init__(self, folder: Path | str, step: int | None) -> None:
        self._folder = str(folder)
        self._left = step
        self._armed = False

    def arm(self) -> None:
        """Begin to count."""
        self._armed = True
        sys.addaudithook(self._seen)

    def _seen(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in self.STEPS and str(arguments[0]).startswith(self._folder):
            self._count()

    def sync(self, handle: int) -> None:
        """Stand in for fsync: a process that dies here was in the middle of writing the file."""
        if self._armed and self._left == 1 and stat.S_ISREG(os.fstat(handle).st_mode):
            os.ftruncate(handle, os.fstat(handle).st_size // 2)
        if self._armed:
            self._count()

    def _count(self) -> None:
        assert self._left is not None
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def write_all(
    connection: Connection,
    path: Path,
    teacher: TeacherIdentity,
    epochs: int,
    rank: int = 0,
    world: int = 1,
    *,
    file_bytes: int | None = None,
    die: tuple[str, int] | None = None,
) -> None:
    """Open, say `open`, wait for a word, write every block of this rank, say `done BLOCK` after each, then `end`.

    `die` is when this process kills itself: ("start" or "go", so many steps on the disk after that).
    """
    fatal = Fatal(path, die[1] if die else None)
    # SIGKILL loses nothing that was written, only a power cut does: what is synced counts as a step and is not synced
    local.os.fsync = fatal.sync
    if die is not None and die[0] == "start":
        fatal.arm()
    if file_bytes is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY))
    try:
        options: dict[str, Any] = {"rank": rank, "world": world, "check_space": False}
        with TargetWriter.open(path, teacher, epochs=epochs, **options) as writer:
            connection.send(("open", len(writer.missing)))
            connection.recv()
            if die is not None and die[0] == "go":
                fatal.arm()
            for block in writer.claims():
                connection.send(("begin", block))
                writer.write(block, *answers(block, teacher.num_classes))
                connection.send(("done", block))
        connection.send(("end", None))
    except Exception as error:
        connection.send(("error", (type(error).__name__, error.exit_code, str(error))))  # type: ignore[attr-defined]


class WriterProcess:
    """One rank in its own process; what it says is collected in `messages`."""

    def __init__(
        self,
        path: Path | str,
        teacher: TeacherIdentity,
        epochs: int,
        *rank_world: int,
        target: Callable[..., None] = write_all,
        **options: Any,
    ) -> None:
        self.pipe, theirs = CONTEXT.Pipe()
        arguments = (theirs, path, teacher, epochs, *rank_world)
        self.process = CONTEXT.Process(target=target, args=arguments, kwargs=options, daemon=True)
        self.process.start()
        theirs.close()
        self.messages: list[tuple[str, Any]] = []

    def wait_for(self, kind: str, seconds: float = HANGS) -> Any:
        """Return the content of the next message of this kind; None if the process ended without it."""
        try:
            while self.pipe.poll(seconds):
                self.messages.append(self.pipe.recv())
                if self.messages[-1][0] in (kind, "error"):
                    return self.messages[-1][1]
        except (EOFError, ConnectionError):
            return None
        raise TimeoutError(f"no {kind!r} after {seconds} s, only {self.messages[-3:]}")

    def listen(self) -> bool:
        """Collect what it has said by now; returns whether it can say more."""
        try:
            while self.pipe.poll():
                self.messages.append(self.pipe.recv())
        except (EOFError, ConnectionError):
            return False
        return True

    def go(self) -> None:
        self.pipe.send("go")

    def kill(self) -> None:
        """SIGKILL, then collect what it still said."""
        self.process.kill()
        self.process.join()
        self.wait_for("nothing, to the end of the pipe")

    def said(self, kind: str) -> list[Any]:
        return [content for word, content in self.messages if word == kind]
