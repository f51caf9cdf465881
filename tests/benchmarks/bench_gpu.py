"""Both stages on a GPU, against the bare networks: one script, under 9 minutes, with generated JPEGs.

    python tests/benchmarks/bench_gpu.py [--write]
    python tests/benchmarks/bench_gpu.py --dry-run      the same on the CPU with miniatures, in half a minute

Stage one beside the bare teacher; each student bf16 and compiled: its step on fixed pixels, fed from the cache (JPEG,
and packed raw pixels), and with the teacher in the loop; then that cached training equals online training, and a
resumed run an uninterrupted one, on this device. Weights are random: they cost the same.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
from bench_training import make_images, step_times
from results import environment_line, write_section

from deit_pipe.pipeline.data_choice import DataChoice
from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.pipeline.recipe import load_recipe
from deit_pipe.stages import cache_teacher, pack, train_student
from deit_pipe.stages.machine.distributed import Processes, choose_device
from deit_pipe.stages.machine.workers import choose_workers
from deit_pipe.stages.measuring.networks import student_alone, teacher_alone
from deit_pipe.stages.measuring.subject import open_student
from deit_pipe.stages.measuring.views import ViewSource, worker_rate
from deit_pipe.stages.networks.teacher import load_teacher
from deit_pipe.stages.networks.teacher_sources import RANDOM
from deit_pipe.stages.opened.images import open_images
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.pack import PackOptions
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.teaching import filling

STUDENTS = ("deit_tiny_distilled_patch16_224", "deit_small_distilled_patch16_224", "deit_base_distilled_patch16_224")
WARM_UP = 5  # steps: compilation, and the choice of kernels


class BusyMeter:
    """Mean utilisation of the GPU while it runs, in percent; None where nvidia-smi is not there."""

    def __init__(self) -> None:
        self.samples: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not self._stop.wait(0.25):
            try:
                self.samples.append(float(subprocess.run(query, capture_output=True, text=True).stdout.split()[0]))
            except (OSError, ValueError, IndexError):
                return

    def __enter__(self) -> "BusyMeter":
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def percent(self) -> str:
        """Of the later half, which is without compilation."""
        half = self.samples[len(self.samples) // 2 :]
        return f"{statistics.mean(half):.0f} %" if half else "-"


@contextmanager
def timed_fill() -> Iterator[list[float]]:
    """Seconds that stage one computes, without loading the teacher and its gate."""
    seconds: list[float] = []
    real = filling.fill

    def fill(*given: Any, **named: Any) -> None:
        started = time.perf_counter()
        real(*given, **named)
        seconds.append(time.perf_counter() - started)

    with mock.patch.object(filling, "fill", fill):
        yield seconds


class Bench:
    """The measurements, with the folder they work in."""

    def __init__(self, args: argparse.Namespace, root: Path) -> None:
        self.args, self.root = args, root
        self.device = choose_device(args.device)
        self.workers = choose_workers(args.workers)
        self.jpeg, self.raw = str(root / "images"), str(root / "raw")
        make_images(root / "images", args.images)
        pack.run(PackOptions(data=self.jpeg, out=self.raw, raw=True))

    def source(self, data: str) -> ViewSource:
        table = open_images(data, DataChoice()).train
        recipe = load_recipe("deit")
        return ViewSource(table, recipe, ViewPlan.for_recipe(len(table), recipe, 0), self.args.size)

    def caching(self, data: str, cache: str, **changed: Any) -> CacheTeacherOptions:
        settings: dict[str, Any] = {
            "teacher": self.args.teacher,
            "teacher_weights": RANDOM,
            "data": data,
            "cache": str(self.root / cache),
            "epochs": self.args.epochs,
            "img_size": self.args.size,
            "recipe": "deit",
            "batch_size": self.args.teacher_batch,
            "precision": self.args.teacher_precision,
            "device": self.args.device,
            "workers": self.workers,
        }
        return CacheTeacherOptions(**(settings | changed))

    def stage_one(self) -> list[str]:
        rows = ["| images | bare teacher/s | views alone/s | stage one/s | / bare | GPU busy | memory GB |"]
        rows.append("| --- | --: | --: | --: | --: | --: | --: |")
        for name, data in (("JPEG", self.jpeg), ("raw", self.raw)):
            source = self.source(data)
            classes = source.table.class_names
            teacher = load_teacher(
                self.args.teacher,
                weights=RANDOM,
                num_classes=len(classes),
                class_names=classes,
                device=self.device,
                precision=self.args.teacher_precision,
            )
            bare = 1 / teacher_alone(teacher, source, self.args.teacher_batch, self.args.seconds).seconds
            views = worker_rate(source, self.workers, self.args.seconds) if self.workers else 0.0
            del teacher
            with BusyMeter() as busy, timed_fill() as seconds:
                cache_teacher.run(self.caching(data, f"cache-{name}"))
            rate = self.args.epochs * len(source.table) / seconds[0]
            rows.append(
                f"| {name} | {bare:,.0f} | {views:,.0f} | {rate:,.0f} | {rate / bare:.2f} | {busy.percent} "
                f"| {self.memory()} |"
            )
        return rows

    def training(self, student: str, data: str, out: str, **changed: Any) -> TrainStudentOptions:
        settings: dict[str, Any] = {
            "cache": str(self.root / f"cache-{'raw' if data == self.raw else 'JPEG'}"),
            "data": data,
            "out": str(self.root / out),
            "student": student,
            "epochs": self.args.epochs,
            "eval_every": 1000,
            "batch_size": self.args.batch,
            "preset": "deit",
            "warmup_epochs": 0,
            "log_steps": 1,
            "compile": self.args.compile,
            "device": self.args.device,
            "workers": self.workers,
        }
        return TrainStudentOptions(**(settings | changed))

    def students(self) -> list[str]:
        rows = ["| student | kind | images/s | / bare | data wait | GPU busy | memory GB |"]
        rows.append("| --- | --- | --: | --: | --: | --: | --: |")
        for student in self.args.students:
            name = student.removesuffix("_patch16_224")
            alone = self.training(student, self.raw, "unused")
            source = self.source(self.raw)
            group = Processes(0, 1, self.device)
            trainer, schedule, _ = open_student(alone, source, group, self.args.epochs, 256)
            for _ in range(2):  # the first one compiles
                bare = 1 / student_alone(trainer, source, schedule, self.args.seconds).seconds
            rows.append(f"| {name} | fixed pixels | {bare:,.0f} | 1.00 | | | {self.memory()} |")
            del trainer
            online = {"online_teacher": True, "teacher_weights": RANDOM}
            for kind, data, changed in (("JPEG", self.jpeg, {}), ("raw", self.raw, {}), ("online", self.raw, online)):
                out = f"{student}-{kind}".replace(":", "-")
                with BusyMeter() as busy:
                    train_student.run(self.training(student, data, out, **changed))
                steps = step_times(self.root / out)[WARM_UP:]
                whole = sum(sum(step.values()) for step in steps)
                rate = self.args.batch * len(steps) / whole
                waited = sum(step["data_wait_seconds"] for step in steps) / whole
                said = "with the teacher in the loop" if kind == "online" else f"cached, {kind}"
                rows.append(
                    f"| {name} | {said} | {rate:,.0f} | {rate / bare:.2f} | {waited:.0%} | {busy.percent} "
                    f"| {self.memory()} |"
                )
        return rows

    def equality(self) -> list[str]:
        """Largest difference of a weight, relative to the largest one: cached again, online, and resumed."""
        student = self.args.students[0]
        plain = {"compile": False, "precision": "fp32", "epochs": 2}
        kinds: dict[str, dict[str, Any]] = {
            "cached": {},
            "cached-again": {},
            "online": {"online_teacher": True, "teacher_weights": RANDOM},
        }
        for kind, changed in kinds.items():
            train_student.run(self.training(student, self.raw, f"equal-{kind}", **plain, **changed))
        options = self.training(student, self.raw, "equal-resumed", **plain, checkpoint_steps=1)
        stopped = mock.patch("deit_pipe.stages.training.fit.Fit._end_epoch", side_effect=KeyboardInterrupt)
        with stopped, suppress(KeyboardInterrupt):
            train_student.run(options)
        train_student.run(options)
        cached = load_file(self.root / "equal-cached" / "student.safetensors")
        rows = ["| compared with cached training | weights differ by at most (relative) |", "| --- | --: |"]
        for kind in ("cached-again", "online", "resumed"):
            other = load_file(self.root / f"equal-{kind}" / "student.safetensors")
            scale = max(float(value.abs().max()) for value in cached.values())
            apart = max(float((value - other[key]).abs().max()) for key, value in cached.items())
            rows.append(f"| {kind} | {apart / scale:.2g} |")
        return rows

    def memory(self) -> str:
        """Most that was allocated on the GPU since it was last asked."""
        if self.device.type != "cuda":
            return "-"
        most = torch.cuda.max_memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return f"{most / 1e9:.1f}"


def main(words: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="regnety_160")
    parser.add_argument("--teacher-batch", type=int, default=256)
    parser.add_argument("--teacher-precision", default="bf16")
    parser.add_argument("--students", nargs="+", default=list(STUDENTS))
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement by itself")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--dry-run", action="store_true", help="miniatures on the CPU: does the script work?")
    parser.add_argument("--write", action="store_true", help="replace this section of RESULTS.md")
    args = parser.parse_args(words)
    if args.dry_run:
        args.teacher, args.students, args.device, args.compile = "test_resnet", ["custom:16x2x2"], "cpu", False
        args.images, args.size, args.batch, args.teacher_batch, args.seconds = 90, 32, 16, 16, 0.1
        args.teacher_precision, args.workers = "fp32", 2 if args.workers is None else args.workers
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(args, Path(scratch))
        tables = [bench.stage_one(), bench.students(), bench.equality()]
        device = torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "CPU"
    precision = "bf16" if bench.device.type == "cuda" else "fp32"
    about = (
        f"{device}, {bench.workers} workers; teacher {args.teacher} {args.teacher_precision}, batch "
        f"{args.teacher_batch}; students {precision}{', compiled' if args.compile else ''}, batch {args.batch}; "
        f"{args.images:,} generated JPEGs of 500 x 375, recipe deit, {args.size} px, {args.epochs} epochs."
    )
    report = "\n\n".join([environment_line(), about, *("\n".join(rows) for rows in tables)])
    print(report)
    if args.write:
        write_section(f"both stages on {device}", report)
    return report


if __name__ == "__main__":
    main()
