"""The reuse curve: how many cached epochs are enough? Digits and 1,800 Fashion-MNIST images; hard and soft, 3 seeds.

    apt-get install dataset-fashion-mnist
    python tests/benchmarks/bench_reuse.py --work reuse [--write]

A teacher is trained, its cache grows from 1 epoch to 30, and at every size students train 30 epochs from what is there;
then, of the digits, longer ones from the whole cache, with the usual preset and `patient`. What is finished is kept
in the work folder, so an interrupted run goes on. It writes reuse.csv (every run), reuse.svg and for each data set a
section of RESULTS.md, and leaves what they say of others; --redraw makes the picture from reuse.csv alone. Less than
two hours on two cores.
"""

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
from results import environment_line, write_section
from reuse_picture import draw

from deit_pipe.stages.comparing.compared_runs import read_compared
from deit_pipe.stages.comparing.intervals import Spread, paired_difference, spread
from deit_pipe.stages.comparing.tables import difference_words, spread_words
from deit_pipe.stages.machine.jobs import Job, job_runner
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.options.train_teacher import TrainTeacherOptions

CSV = Path(__file__).with_name("reuse.csv")
PICTURE = Path(__file__).with_name("reuse.svg")
CACHED = (1, 2, 3, 5, 10, 30)
EPOCHS = CACHED[-1]
LONGER = (15, 30, 60)
LOSSES = ("hard", "soft")
SEEDS = 3
TEACHER = "resnet10t"


class Data(NamedTuple):
    """Images, how the teacher learns them, in which words, and the section of RESULTS.md."""

    name: str
    data: str
    fraction: float
    teacher_epochs: int
    longer: tuple[int, ...]
    section: str


DATA = (
    Data("digits", "digits", 1.0, 30, LONGER, "Reuse: how many cached epochs"),
    Data("Fashion-MNIST, 1,800", "/usr/share/datasets/fashion-mnist", 0.03, 30, (), "Reuse on Fashion-MNIST"),
)


class Point(NamedTuple):
    """One student, and what it reached.

    Attributes:
        data: name of the images.
        kind: hard, soft, or patient.
        cached: epochs of the cache.
        epochs: that the student trained.
        seed: of its weights.
        class_head, dist_head, fused: top-1.
        teacher: top-1 of the teacher.
    """

    data: str
    kind: str
    cached: int
    epochs: int
    seed: int
    class_head: float
    dist_head: float
    fused: float
    teacher: float


def folder_of(work: Path, data: Data, kind: str, cached: int, epochs: int, seed: int) -> Path:
    """Of a student."""
    return work / data.data.rpartition("/")[2] / f"{kind}-{cached}-{epochs}-{seed}"


def students(data: Data, cached: int) -> Iterator[tuple[str, int, int]]:
    """Kind, epochs and seed of the students that learn from so many cached epochs."""
    for seed in range(SEEDS):
        for kind in LOSSES:
            yield kind, EPOCHS, seed
        if cached == EPOCHS:
            for epochs in data.longer:
                if epochs != EPOCHS:
                    yield "hard", epochs, seed
                yield "patient", epochs, seed


def make(work: Path, chosen_data: Sequence[Data], device: str, processes: int) -> None:
    """Teachers, caches, students; whatever is finished is left as it is."""
    with job_runner(processes, work / "log.txt") as run_jobs:
        for data in chosen_data:
            place = work / data.data.rpartition("/")[2]
            if not (place / "teacher" / "teacher.json").exists():
                chosen = TrainTeacherOptions(
                    teacher=TEACHER,
                    init="scratch",
                    data=data.data,
                    fraction=data.fraction,
                    epochs=data.teacher_epochs,
                    out=str(place / "teacher"),
                    device=device,
                )
                list(run_jobs([Job("train_teacher", chosen, f"teacher of {data.name}")]))
            for cached in CACHED:
                jobs = [
                    student_job(work, data, kind, cached, epochs, seed, device)
                    for kind, epochs, seed in students(data, cached)
                    if not (folder_of(work, data, kind, cached, epochs, seed) / "result.json").exists()
                ]
                if not jobs:
                    continue
                grown = CacheTeacherOptions(
                    teacher=TEACHER,
                    teacher_weights=str(place / "teacher"),
                    data=data.data,
                    fraction=data.fraction,
                    recipe="small",
                    img_size=32,
                    cache=str(place / "cache"),
                    epochs=cached,
                    device=device,
                )
                list(run_jobs([Job("cache_teacher", grown, f"{cached} epochs of {data.name}")]))
                for number, job in enumerate(run_jobs(jobs), 1):
                    print(f"{data.name}, {cached} cached: {number} of {len(jobs)}, {job.words}", flush=True)


def student_job(work: Path, data: Data, kind: str, cached: int, epochs: int, seed: int, device: str) -> Job:
    """One student, measured at its end only."""
    how: dict[str, Any] = {"preset": "patient"} if kind == "patient" else {"preset": "small", "loss": kind}
    chosen = TrainStudentOptions(
        cache=str(work / data.data.rpartition("/")[2] / "cache"),
        out=str(folder_of(work, data, kind, cached, epochs, seed)),
        epochs=epochs,
        seed=seed,
        eval_every=epochs,
        device=device,
        **how,
    )
    return Job("train_student", chosen, f"{kind}, {epochs} epochs, seed {seed}")


def collect(work: Path, chosen_data: Sequence[Data]) -> Iterator[Point]:
    """Every finished student, from its own files."""
    for data in chosen_data:
        teacher = json.loads((work / data.data.rpartition("/")[2] / "teacher" / "teacher.json").read_text())
        for cached in CACHED:
            for kind, epochs, seed in students(data, cached):
                top1 = read_compared(folder_of(work, data, kind, cached, epochs, seed)).top1
                heads = (top1["class"], top1["dist"], top1["fused"])
                yield Point(data.name, kind, cached, epochs, seed, *heads, teacher["val_top1"])


def read_points() -> list[Point]:
    """The rows of reuse.csv."""
    with CSV.open(encoding="utf-8", newline="") as file:
        return [
            Point(
                row["data"],
                row["kind"],
                int(row["cached"]),
                int(row["epochs"]),
                int(row["seed"]),
                *(float(row[name]) for name in ("class_head", "dist_head", "fused", "teacher")),
            )
            for row in csv.DictReader(file)
        ]


def write_points(points: Iterable[Point]) -> None:
    """Replace reuse.csv."""
    with CSV.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Point._fields)
        writer.writerows(points)


def by_seed(points: Iterable[Point], data: str, kind: str, cached: int, epochs: int) -> dict[int, float]:
    """Top-1 of both heads fused, of one kind of student."""
    wanted = (data, kind, cached, epochs)
    return {one.seed: one.fused for one in points if (one.data, one.kind, one.cached, one.epochs) == wanted}


def curve(points: list[Point], data: str, kind: str) -> dict[int, Spread]:
    """Accuracy after 30 epochs, by cached epochs."""
    return {cached: spread(list(by_seed(points, data, kind, cached, EPOCHS).values())) for cached in CACHED}


def tables(points: list[Point]) -> str:
    """Both curves in figures: by cached epochs, and by trained epochs."""
    lines = [
        f"Students of {EPOCHS} epochs, preset small (custom:64x3x2, 32 px), top-1 of both heads fused in percent, "
        f"mean +- standard deviation over {SEEDS} seeds. Below: the difference to {EPOCHS} cached epochs, "
        "paired by seed, with its 95 % interval.",
        "",
        "| data | loss | " + " | ".join(f"{cached} cached ({EPOCHS / cached:g} x)" for cached in CACHED) + " |",
        "| --- | --- |" + " --: |" * len(CACHED),
    ]
    for data in dict.fromkeys(one.data for one in points):
        teacher = next(one.teacher for one in points if one.data == data)
        for kind in LOSSES:
            found = curve(points, data, kind)
            cells = " | ".join(spread_words(found[cached]) for cached in CACHED)
            lines.append(f"| {data} (teacher {teacher:.1%}) | {kind} | {cells} |")
            whole = by_seed(points, data, kind, EPOCHS, EPOCHS)
            gaps = [
                difference_words(paired_difference(by_seed(points, data, kind, cached, EPOCHS), whole))
                for cached in CACHED[:-1]
            ]
            lines.append(f"| | | {' | '.join(gaps)} | |")
    patient = dict.fromkeys(one.data for one in points if one.kind == "patient")
    if not patient:
        return "\n".join(lines)
    lines += [
        "",
        f"Longer, from {EPOCHS} cached epochs: the usual preset with the hard loss, and preset patient.",
        "",
        "| data | preset | " + " | ".join(f"{epochs} epochs" for epochs in LONGER) + " |",
        "| --- | --- |" + " --: |" * len(LONGER),
    ]
    for data in patient:
        for kind in ("hard", "patient"):
            cells = []
            for epochs in LONGER:
                values = list(by_seed(points, data, kind, EPOCHS, epochs).values())
                cells.append(spread_words(spread(values)) if values else "-")
            lines.append(f"| {data} | {'small, hard' if kind == 'hard' else kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def pictured(points: list[Point]) -> Mapping[str, dict[int, Spread]]:
    """The curves of the picture by their names."""
    names = dict.fromkeys(one.data for one in points)
    return {f"{data}, {kind}": curve(points, data, kind) for data in names for kind in LOSSES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("reuse"))
    parser.add_argument("--data", nargs="+", choices=[one.data.rpartition("/")[2] for one in DATA], help="only these")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--processes", type=int, default=min(os.cpu_count() or 1, 4), help="commands at once")
    parser.add_argument("--write", action="store_true", help="replace reuse.csv, reuse.svg and the section")
    parser.add_argument("--redraw", action="store_true", help="only the picture, from reuse.csv")
    args = parser.parse_args()
    if args.redraw:
        PICTURE.write_text(draw(pictured(read_points())), encoding="utf-8")
        return
    args.work.mkdir(parents=True, exist_ok=True)
    chosen = [one for one in DATA if not args.data or one.data.rpartition("/")[2] in args.data]
    make(args.work, chosen, args.device, args.processes)
    points = list(collect(args.work, chosen))
    for data in chosen:
        text = f"{environment_line(('torch', 'timm'))}\n\n{tables([one for one in points if one.data == data.name])}"
        print(text)
        if args.write:
            write_section(data.section, text)
    if args.write:
        points += [one for one in read_points() if one.data not in {data.name for data in chosen}]
        points.sort(key=lambda one: [data.name for data in DATA].index(one.data))
        write_points(points)
        PICTURE.write_text(draw(pictured(points)), encoding="utf-8")


if __name__ == "__main__":
    main()
