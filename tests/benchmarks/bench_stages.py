"""Both stages on a CPU against the bare networks, side by side in one run.

    python tests/benchmarks/bench_stages.py [--rounds 3] [--write]

Stage one: the real command's filling of a cache, from JPEG, with the batch that it chooses itself, against the teacher
on views that are there already. Stage two: the steps of a real run from packed raw pixels, all but the first, against
the same steps on fixed pixels. Each round measures bare, stage, bare, and compares with the mean of both, so that a
drift of the machine disturbs neither; medians of the rounds. Weights are random: they cost the same.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch

sys.path.insert(0, str(Path(__file__).parent))
from bench_gpu import Bench, timed_fill
from bench_training import step_times
from results import environment_line, write_section

from deit_pipe.stages import cache_teacher, train_student
from deit_pipe.stages.machine.distributed import Processes
from deit_pipe.stages.measuring.networks import student_alone, teacher_alone
from deit_pipe.stages.measuring.subject import open_student
from deit_pipe.stages.networks.teacher import RANDOM, load_teacher
from deit_pipe.stages.teaching.batch_choice import padding
from deit_pipe.store.manifest import list_teachers, read_teacher


def between(bare: Callable[[], float], stage: Callable[[], float]) -> tuple[float, float]:
    """Rates, in views a second: of the bare network before and after, and of the stage."""
    before = bare()
    middle = stage()
    return (before + bare()) / 2, middle


def row(name: str, batch: int, padded: float, found: list[tuple[float, float]]) -> str:
    """A line of the table."""
    ratios = [stage / bare for bare, stage in found]
    each = ", ".join(f"{ratio:.3f}" for ratio in ratios)
    bare, stage = (statistics.median(column) for column in zip(*found, strict=True))
    return f"| {name} | {batch} | {padded:.1%} | {bare:.1f} | {stage:.1f} | {statistics.median(ratios):.3f} | {each} |"


def stage_one(bench: Bench, rounds: int) -> str:
    """The teacher's line."""
    source = bench.source(bench.jpeg)
    names = source.table.class_names
    teacher = load_teacher(
        bench.args.teacher,
        weights=RANDOM,
        num_classes=len(names),
        class_names=names,
        device=bench.device,
        precision=bench.args.teacher_precision,
    )
    # a cache that is only planned has the batch that the command chooses
    cache_teacher.run(bench.caching(bench.jpeg, "planned", plan_only=True, batch_size=None))
    planned = str(bench.root / "planned")
    identity = read_teacher(planned, list_teachers(planned)[0])
    batch, block = identity.batch_size, identity.block_slots

    def bare() -> float:
        return 1 / teacher_alone(teacher, source, batch, bench.args.seconds).seconds

    found = []
    for turn in range(rounds):

        def fill(turn: int = turn) -> float:
            with timed_fill() as seconds:
                cache_teacher.run(bench.caching(bench.jpeg, f"cache-{turn}", batch_size=None))
            return len(source.table) * bench.args.epochs / sum(seconds)

        found.append(between(bare, fill))
    padded = padding(len(source.table), block, batch)
    return row(f"stage one, {bench.args.teacher}, JPEG", batch, padded, found)


def stage_two(bench: Bench, rounds: int) -> str:
    """The student's line."""
    student, source = bench.args.students[0], bench.source(bench.raw)
    cache_teacher.run(bench.caching(bench.raw, "cache-raw", teacher="test_resnet", batch_size=None))
    group, found = Processes(0, 1, bench.device), []
    alone = bench.training(student, bench.raw, "unused")
    trainer, schedule, _ = open_student(alone, source, group, bench.args.epochs, 256)

    def bare() -> float:
        return 1 / student_alone(trainer, source, schedule, bench.args.seconds).seconds

    for turn in range(rounds):

        def train(turn: int = turn) -> float:
            train_student.run(bench.training(student, bench.raw, f"run-{turn}"))
            steps = [sum(step.values()) for step in step_times(bench.root / f"run-{turn}")]
            return bench.args.batch * len(steps) / sum(steps)

        found.append(between(bare, train))
    return row(f"stage two, {student}, raw", bench.args.batch, 0.0, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="regnety_160")
    parser.add_argument("--student", default="deit_tiny_distilled_patch16_224")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16, help="of the student")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement of a bare network")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="replace this section of RESULTS.md")
    options = parser.parse_args()
    args = SimpleNamespace(
        **vars(options),
        students=[options.student],
        device="cpu",
        workers=None,
        epochs=1,
        teacher_batch=None,
        teacher_precision="fp32",
        compile=False,
    )
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(args, Path(scratch))  # type: ignore[arg-type]  # has what it reads
        threads = torch.get_num_threads()
        rows = [
            "| what | batch | padding | bare/s | stage/s | stage / bare | of each round |",
            "| --- | --: | --: | --: | --: | --: | --- |",
            stage_one(bench, options.rounds),
            stage_two(bench, options.rounds),
        ]
    about = (
        f"CPU, fp32, {threads} threads of torch, {bench.workers} workers; {options.images} generated JPEGs of 500 x "
        f"375, recipe deit, {options.size} px, one epoch; {(time.perf_counter() - started) / 60:.0f} min."
    )
    report = "\n\n".join([environment_line(), about, "\n".join(rows)])
    print(report)
    if options.write:
        write_section("both stages on a CPU", report)


if __name__ == "__main__":
    main()
