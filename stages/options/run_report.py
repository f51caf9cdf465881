"""Options of `deit-pipe report`."""

from dataclasses import dataclass

from deit_pipe.stages.options.fields import CheckedOptions, argument, option


@dataclass(frozen=True, kw_only=True)
class RunReportOptions(CheckedOptions):
    """Write a page about a training run: losses, heads, learning rate, speed and waits; against another run too.

    One file that needs no network. Works while the run is still going.

    --json has the keys file, run, against; each run: folder, epochs, steps, answer, best, last (the last epoch's losses
    and heads), views_per_second, data_wait, target_wait (shares of the time), finished, test (heads on the test images,
    where a run had no validation images).

    Examples:
      deit-pipe report student-run
      deit-pipe report runs/hard --against runs/soft --out hard-soft.html
    """

    run: str = argument("./student-run", "Folder of a train-student run.", metavar="[RUN]")
    against: str | None = option(None, "Another run, drawn dashed.", metavar="RUN2")
    out: str | None = option(
        None,
        "Where the page goes.  [default: report.html in the run's folder]",
        metavar="FILE.html",
        flags=("-o",),
    )
