"""What is said while a command works, on stderr: notes, and progress of long work."""

import contextlib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deit_pipe.stages.console.shown import shown, tell
from deit_pipe.stages.console.words import human_duration

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress


def note(message: str) -> None:
    """One line about what is going on, on stderr: never part of a result."""
    tell(message)


class Progress:
    """Progress of one long piece of work: a live bar on a terminal or in a notebook, plain lines in a log file.

    In a log a line appears when 10 s have passed since the last one, and one at the end, so that a log of a week stays
    readable.
    """

    LOG_SECONDS = 10.0

    def __init__(self, title: str, total: int, unit: str, *, done: int = 0, quiet: bool = False) -> None:
        """Work of `total` units, of which `done` were finished by an earlier run (they do not count in the rate)."""
        self.title, self.total, self.unit = title, total, unit
        self.done = self._start_done = done
        self.detail = ""
        self.quiet = quiet
        self._start = self._last_line = time.monotonic()
        self._bar: RichProgress | None = None

    def _open(self) -> None:
        if self.quiet:
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        if not (console.is_terminal or console.is_jupyter):
            return
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=console,
            transient=False,
        )
        self._bar.start()
        self._task = self._bar.add_task(
            shown(self.title), total=self.total, completed=self.done, unit=self.unit, rate="", detail=""
        )

    @property
    def rate(self) -> float:
        """Units a second since this run began; 0 before the first."""
        elapsed = time.monotonic() - self._start
        return (self.done - self._start_done) / elapsed if elapsed > 0 else 0.0

    def advance(self, units: int, detail: str = "") -> None:
        """`units` more are done; `detail` is a short text beside the bar, such as the loss."""
        self.done += units
        self.detail = shown(detail) or self.detail
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, rate=f"{self.rate:.0f}/s", detail=self.detail)
        elif not self.quiet and time.monotonic() - self._last_line >= self.LOG_SECONDS:
            self._line()

    def reach(self, done: int) -> None:
        """`done` units are done in all."""
        self.advance(done - self.done)

    def _line(self) -> None:
        left = (self.total - self.done) / self.rate if self.rate > 0 else math.inf
        note(
            f"{self.title}: {self.done}/{self.total} {self.unit} ({self.done / max(1, self.total):.0%}), "
            f"{self.rate:.0f}/s, {human_duration(left)} left{'  ' + self.detail if self.detail else ''}"
        )
        self._last_line = time.monotonic()

    def _close(self) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):  # the terminal may be gone
                self._bar.stop()
        elif not self.quiet:
            note(
                f"{self.title}: {self.done}/{self.total} {self.unit} in "
                f"{human_duration(time.monotonic() - self._start)}{'  ' + self.detail if self.detail else ''}"
            )


@contextmanager
def progress(title: str, total: int, unit: str, *, done: int = 0, quiet: bool = False) -> Iterator[Progress]:
    """Show progress while the block runs; see `Progress`."""
    shown = Progress(title, total, unit, done=done, quiet=quiet)
    shown._open()
    try:
        yield shown
    finally:
        shown._close()
