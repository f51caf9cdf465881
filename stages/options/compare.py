"""Options of `deit-pipe compare`."""

from dataclasses import dataclass

from deit_pipe.stages.options.fields import CheckedOptions, argument, option


@dataclass(frozen=True, kw_only=True)
class CompareOptions(CheckedOptions):
    """Put finished runs into one table: what differs, every head, spread over seeds, paired differences.

    Runs that differ in their seeds only are one line. Differences are those of runs with the same seeds, of the head
    that counts, to the first line, with Student's 95 % interval. Runs that were measured on other images are refused.
    The order of the lines is that of the folders. train-student --seeds N makes such runs.

    --json has the keys measured (data, split, images, weights), differing (settings that differ), lines (settings,
    answer, heads with mean, sd, runs; difference with mean, low, high, pairs; runs; cost with --measure).

    Examples:
      deit-pipe compare runs/none-* runs/hard-* runs/soft-*
      deit-pipe compare runs/* --csv runs.csv --report runs.html
      deit-pipe compare runs/ti/seed-* runs/s/seed-* --measure --device cuda
    """

    runs: tuple[str, ...] = argument((), "Folders of train-student runs.", metavar="RUNS...")
    csv: str | None = option(None, "Write a row for every run and head.", metavar="FILE.csv")
    report: str | None = option(
        None, "Write a page: the table, accuracy with spread, accuracy against throughput.", metavar="FILE.html"
    )
    measure: bool = option(False, "Measure the students: parameters, multiply-adds, images a second, memory.")
    batch_size: int = option(64, "Images at once when measuring.", minimum=1)
    device: str = option("auto", "auto, cpu, cuda, ...: where to measure.")
