"""How far cached and online training are apart where they are not bit-equal by construction (CPU).

    python tests/benchmarks/bench_equality.py [--write]

Same batches, same encode and decode: equal, bit for bit, and a test says so. This measures what lies outside: a teacher
that ran at another batch size, and an online soft loss on float32 logits that were never rounded to float16.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))
from results import environment_line, write_section
from stage_fakes import cache_options, student_options, write_idx, write_recipe

from deit_pipe.stages import cache_teacher, train_student
from deit_pipe.stages.training import cached_run
from deit_pipe.stages.training.target_sources import OnlineTargets
from deit_pipe.stages.training.targets import TensorTargets
from deit_pipe.store.reader import TargetReader

SAMPLES, BATCH, EPOCHS = 512, 32, 4
TEACHER = "resnet10t"


class UnroundedTargets(OnlineTargets):
    """The teacher's float32 logits as they are."""

    def next(self, views: Any, mixed: Any) -> list[TensorTargets]:
        logits = self._teacher.padded(mixed, len(mixed))
        label = logits.argmax(dim=1).clone()
        return [TensorTargets("dense", logits.shape[1], (1.0,), teacher_label=label, logits=logits.clone())]


def compare_logits(one: TargetReader, other: TargetReader) -> tuple[float, float, int]:
    """Share of float16 logits that differ, the largest difference, labels that differ."""
    a, b = (reader.read(0, np.arange(SAMPLES)) for reader in (one, other))
    assert a.logits is not None
    assert b.logits is not None
    np.testing.assert_array_equal(a.fingerprint, b.fingerprint)
    labels = int((a.teacher_label != b.teacher_label).sum())
    return float((a.logits != b.logits).mean()), float(np.abs(a.logits - b.logits).max()), labels


def compare_weights(one: Path, other: Path) -> float:
    """Relative distance of two students."""
    a, b = load_file(one / "student.safetensors"), load_file(other / "student.safetensors")
    apart = sum(float(((a[name] - b[name]) ** 2).sum()) for name in a)
    return (apart / sum(float((a[name] ** 2).sum()) for name in a)) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace this section of RESULTS.md")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        data, recipe = write_idx(root / "data", train=SAMPLES), str(write_recipe(root))
        common: dict[str, Any] = {"teacher": TEACHER, "recipe": recipe, "epochs": EPOCHS, "block": 256}
        for batch in (BATCH, 16, 100):
            cache_teacher.run(cache_options(data, root / f"c{batch}", batch_size=batch, **common))
        base = TargetReader(root / f"c{BATCH}")
        for batch in (16, 100):
            share, largest, labels = compare_logits(base, TargetReader(root / f"c{batch}"))
            rows.append(
                f"| teacher batch {batch} instead of {BATCH} | {share:.2%} of logits differ, at most by {largest:.2g}; "
                f"{labels} of {SAMPLES} labels |"
            )
        settings: dict[str, Any] = {
            "batch_size": BATCH,
            "epochs": EPOCHS,
            "loss": "soft",
            "student": "custom:64x2x2",
            "alpha": 0.5,
        }
        online: dict[str, Any] = {**settings, "online_teacher": True, "teacher_weights": "random"}
        train_student.run(student_options(root / f"c{BATCH}", root / "cached", **settings))
        train_student.run(student_options(root / f"c{BATCH}", root / "online", **online))
        train_student.run(student_options(root / f"c{BATCH}", root / "seed", **settings, seed=1))
        cached_run.OnlineTargets = UnroundedTargets  # type: ignore[misc]
        train_student.run(student_options(root / f"c{BATCH}", root / "float32", **online))
        steps = EPOCHS * SAMPLES // BATCH
        for name, other in (
            ("online, through encode and decode (the tested promise)", "online"),
            ("online, float32 logits never rounded", "float32"),
            ("for scale: another seed of the student", "seed"),
        ):
            apart = compare_weights(root / "cached", root / other)
            rows.append(f"| {name} | weights {apart:.2g} apart (relative) after {steps} steps |")
    table = "\n".join(
        [
            environment_line(),
            "",
            f"Teacher {TEACHER} (random weights), 32 px, recipe deit with mix group 4, soft loss, CPU; compared with "
            f"the cache at teacher batch {BATCH} and the student trained from it.",
            "",
            "| what is different | difference |",
            "| --- | --- |",
            *rows,
        ]
    )
    print(table)
    if args.write:
        write_section("Equality", table)


if __name__ == "__main__":
    main()
