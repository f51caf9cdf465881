"""How near `deit-pipe bench` comes: its forecast of both stages against what they then take, on 1 and 2 processes.

    python tests/benchmarks/bench_prediction.py [--rounds 5] [--write]
    python tests/benchmarks/bench_prediction.py --jpeg 320 --teacher resnet18 --epochs 2

Each round measures and then runs both stages with random teacher weights, so that a noisy machine disturbs all alike;
medians of the rounds. What a stage took is what its last line of progress says: start-up is apart, evaluation and
checkpoints belong to it. The forecast of a stage is scaled to the epochs that are run. Data: the embedded digits, or
generated JPEGs of 500 x 375.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from bench_training import make_images
from results import environment_line, write_section

PORT = 29871
UNITS = {"s": 1, "min": 60, "h": 3600}


def command(processes: int, words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of deit-pipe, alone or under torchrun."""
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(PORT)]
    done = subprocess.run(
        [*start, "-m", "deit_pipe.cli", *words],
        cwd=folder,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr[-2000:]}")
    return done


def taken(said: str, title: str) -> float:
    """Seconds of the last line of progress: `training: 30/30 steps in 1 min 5 s`."""
    words = re.findall(rf"^{title}[^\n]* in ([0-9. a-z]+?)(?:  |$)", said, flags=re.MULTILINE)[-1].split()
    return sum(float(number) * UNITS[unit] for number, unit in zip(words[::2], words[1::2], strict=True))


def one_round(args: argparse.Namespace, processes: int, data: list[str], folder: Path) -> dict[str, float]:
    """Forecast over what was taken, of both stages."""
    bench = ["bench", "--teacher", args.teacher, *data, "--device", args.device, "--json"]
    facts: dict[str, Any] = json.loads(command(processes, bench, folder).stdout)
    cache = str(folder / f"cache-{processes}-{len(list(folder.iterdir()))}")
    epochs = ["--epochs", str(args.epochs), "--device", args.device]
    caching = ["cache-teacher", "--teacher", args.teacher, "--teacher-weights", "random", *data, "--cache", cache]
    first = taken(
        command(processes, [*caching, *epochs, "--accept-teacher", "--no-fit-head"], folder).stderr, "caching"
    )
    training = ["train-student", "--cache", cache, "--out", f"{cache}-run", *epochs]
    preset = ["--preset", facts["student"]["preset"], "--batch-size", str(facts["student"]["batch_size"])]
    second = taken(command(processes, [*training, *preset], folder).stderr, "training")
    one, two = (facts[name]["seconds"] * args.epochs / facts[name]["epochs"] for name in ("stage_one", "stage_two"))
    return {"one": one / first, "two": two / second, "first": first, "second": second}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="resnet10t")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--jpeg", type=int, default=0, metavar="COUNT", help="generated JPEGs instead of digits")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", action="store_true", help="replace this section of RESULTS.md")
    args = parser.parse_args()
    rows = [
        "| processes | stage one took s | forecast / taken, median | of each round | stage two took s "
        "| forecast / taken, median | of each round |",
        "| --: | --: | --: | --- | --: | --: | --- |",
    ]
    with tempfile.TemporaryDirectory() as scratch:
        folder, data = Path(scratch), []
        if args.jpeg:
            make_images(folder / "images", args.jpeg)
            data = ["--data", str(folder / "images")]
        for processes in args.processes:
            rounds = [one_round(args, processes, data, folder) for _ in range(args.rounds)]
            middle = {key: statistics.median(found[key] for found in rounds) for key in rounds[0]}
            each = {key: ", ".join(f"{found[key]:.2f}" for found in rounds) for key in ("one", "two")}
            rows.append(
                f"| {processes} | {middle['first']:.0f} | {middle['one']:.2f} | {each['one']} "
                f"| {middle['second']:.0f} | {middle['two']:.2f} | {each['two']} |"
            )
    about = (
        f"Teacher {args.teacher}, random weights; {f'{args.jpeg} JPEGs' if args.jpeg else 'digits'}; "
        f"{args.epochs} epochs of both stages, the default student; {args.device}."
    )
    report = "\n\n".join([environment_line(), about, "\n".join(rows)])
    print(report)
    if args.write:
        write_section("forecast of bench", report)


if __name__ == "__main__":
    main()
