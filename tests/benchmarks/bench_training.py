"""Step time from the cache against the same step without targets and with the teacher in the loop.

    python tests/benchmarks/bench_training.py [--write]                      regnety_160 -> DeiT-Ti, 224 px, CPU
    python tests/benchmarks/bench_training.py --device cuda --batch-size 256 --steps 40 --compile \\
        --students deit_tiny_distilled_patch16_224 deit_small_distilled_patch16_224 deit_base_distilled_patch16_224

The three kinds of run take turns, so that a noisy machine disturbs all alike; medians over all steps but the first of
each run. Weights are random: they cost the same. Images are generated JPEGs of 500 x 375.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from results import environment_line, write_section

from deit_pipe.stages import cache_teacher, train_student
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.train_student import TrainStudentOptions

KINDS = ("none", "cached", "online")


def make_images(folder: Path, count: int) -> None:
    """JPEGs of smooth noise in two classes."""
    random = np.random.default_rng(0)
    for number in range(count):
        place = folder / "train" / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        small.resize((500, 375), Image.Resampling.BICUBIC).save(place / f"{number:05d}.jpg", quality=92)


def step_times(run: Path) -> list[dict[str, float]]:
    """Seconds of every step but the first, by part."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    keys = ("data_wait_seconds", "target_wait_seconds", "compute_seconds")
    return [{key: line[key] for key in keys} for line in lines if line["kind"] == "step"][1:]


def measure(student: str, root: Path, args: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Times of all steps of each kind."""
    times: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for turn in range(args.turns):
        for kind in KINDS:
            out = root / f"{student}-{kind}-{turn}"
            train_student.run(
                TrainStudentOptions(
                    cache=str(root / "cache"),
                    data=str(root / "images"),
                    out=str(out),
                    student=student,
                    epochs=1,
                    batch_size=args.batch_size,
                    loss="none" if kind == "none" else "hard",
                    log_steps=1,
                    online_teacher=kind == "online",
                    teacher_weights="random" if kind == "online" else None,
                    device=args.device,
                    precision=args.precision,
                    compile=args.compile,
                    workers=args.workers,
                )
            )
            times[kind] += step_times(out)
    return times


def row(student: str, times: dict[str, list[dict[str, float]]], batch: int) -> str:
    """A line of the table."""
    whole = {kind: statistics.median(sum(step.values()) for step in steps) for kind, steps in times.items()}
    # what the teacher adds to a step, against what the student needs
    teacher = statistics.median(step["target_wait_seconds"] for step in times["online"])
    waited = statistics.median(step["target_wait_seconds"] for step in times["cached"])
    bound = 1 + teacher / whole["none"]
    gain = whole["online"] / whole["cached"]
    return (
        f"| {student} | {batch} | {whole['none'] * 1e3:.0f} | {whole['cached'] * 1e3:.0f} "
        f"| {whole['online'] * 1e3:.0f} "
        f"| {whole['cached'] / whole['none']:.3f} | {gain:.2f} | {bound:.2f} | {gain / bound:.2f} "
        f"| {waited * 1e3:.2f} | {batch / whole['cached']:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="regnety_160")
    parser.add_argument("--students", nargs="+", default=["deit_tiny_distilled_patch16_224"])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="replace this section of RESULTS.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make_images(root / "images", args.batch_size * args.steps)
        cache_teacher.run(
            CacheTeacherOptions(
                teacher=args.teacher,
                teacher_weights="random",
                data=str(root / "images"),
                cache=str(root / "cache"),
                epochs=1,
                img_size=224,
                recipe="deit",
                batch_size=args.batch_size,
                workers=args.workers,
                device=args.device,
                precision="fp32" if args.device == "cpu" else "bf16",
            )
        )
        rows = [row(name, measure(name, root, args), args.batch_size) for name in args.students]
    device = (
        torch.cuda.get_device_name() if args.device.startswith("cuda") else f"CPU, {torch.get_num_threads()} threads"
    )
    table = "\n".join(
        [
            environment_line(),
            "",
            f"Teacher {args.teacher}, {args.precision}{', compiled' if args.compile else ''}, {device}; recipe deit, "
            f"224 px, hard loss; medians of {(args.steps - 1) * args.turns} steps of each kind, taking turns.",
            "",
            "| student | batch | none ms | cached ms | online ms | cached/none | online/cached | 1 + teacher/student "
            "| share | target wait ms | cached images/s |",
            "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
            *rows,
        ]
    )
    print(table)
    if args.write:
        write_section("training" if args.device == "cpu" else f"training on {device}", table)


if __name__ == "__main__":
    main()
