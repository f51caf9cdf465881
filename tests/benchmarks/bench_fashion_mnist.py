"""Does distillation help? Fashion-MNIST: no, soft and hard distillation, each head, several seeds.

    apt-get install dataset-fashion-mnist
    deit-pipe train-teacher --teacher resnet18 --init scratch --data /usr/share/datasets/fashion-mnist \\
        --epochs 4 --batch-size 128 --lr 2e-3 --out fm/teacher-run
    deit-pipe cache-teacher --teacher resnet18 --teacher-weights fm/teacher-run --epochs 5 \\
        --data /usr/share/datasets/fashion-mnist --cache fm/teacher-cache
    python tests/benchmarks/bench_fashion_mnist.py --work fm [--write]

Every student is kept in the work folder, so an interrupted benchmark goes on where it was.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from results import environment_line, write_section

from deit_pipe.stages import train_student
from deit_pipe.stages.options.train_student import TrainStudentOptions

LOSSES = ("none", "soft", "hard")
HEADS = ("class", "dist", "fused")


def spread(scores: list[dict[str, Any]], head: str) -> str:
    """Mean and sample standard deviation of top-1, in percent."""
    values = [100 * score[head]["top1"] for score in scores]
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.fmean(values):.2f} ± {deviation:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("fm"))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--write", action="store_true", help="replace this section of RESULTS.md")
    args = parser.parse_args()
    scores: dict[str, list[dict[str, Any]]] = {}
    for seed in range(args.seeds):
        for loss in LOSSES:
            result = train_student.run(
                TrainStudentOptions(
                    cache=str(args.work / "teacher-cache"),
                    out=str(args.work / f"student-{loss}-{seed}"),
                    loss=loss,
                    alpha=0.5 if loss == "soft" else None,
                    seed=seed,
                    epochs=args.epochs,
                    batch_size=args.batch_size,
                    lr=args.lr,
                    warmup_epochs=1,
                    eval_every=args.epochs,
                    device=args.device,
                )
            )
            scores.setdefault(loss, []).append(result.data["val"])
    teacher = json.loads((args.work / "teacher-run" / "teacher.json").read_text())
    config = json.loads((args.work / "student-hard-0" / "config.json").read_text())
    lines = [
        environment_line(),
        "",
        f"Teacher {teacher['model']}, trained from scratch: {100 * teacher['val_top1']:.2f} % top-1 on the 10,000 test "
        f"images. Student: {config['student']} (custom is custom:64x3x2), "
        f"{args.epochs} epochs, batch {args.batch_size}; "
        f"soft: tau {config['tau']:g}, alpha 0.5. "
        f"Top-1 in percent, mean ± standard deviation over {args.seeds} seeds of the student.",
        "",
        "| loss | class head | distillation head | fused |",
        "| --- | --: | --: | --: |",
    ]
    for loss in LOSSES:
        shown = [spread(scores[loss], head) if loss != "none" or head == "class" else "not trained" for head in HEADS]
        lines.append(f"| {loss} | {' | '.join(shown)} |")
    print("\n".join(lines))
    if args.write:
        write_section("Fashion-MNIST", "\n".join(lines))


if __name__ == "__main__":
    main()
