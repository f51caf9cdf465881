"""Tests on a machine that has no time for them: many copies at once, or the whole suite in parts that run at once.

    python tests/faults/under_load.py                 kill and multi-process tests, 20 times, at load 20
    python tests/faults/under_load.py --suite         the whole suite once, cut into 20 parts that run together

Processes that only turn in circles make up the rest of the load. The load average is that of the machine, read every
few seconds. Ends with 1 if any test failed; the output of each part is kept in the work folder.
"""

import argparse
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KILLED = (
    "tests/faults/test_cache_teacher_killed.py",
    "tests/faults/test_killed.py",
    "tests/faults/test_two_writers.py",
    "tests/stages/machine/test_distributed.py",
    "tests/stages/test_resume.py",
    "tests/stages/opened/test_encoded_files.py",
    "tests/pipeline/test_loader.py",
)


def circles() -> None:
    """Take a core for as long as it is given."""
    while True:
        pass


def started(name: str, words: list[str], work: Path) -> subprocess.Popen[bytes]:
    """A process of pytest, in a session of its own and with an interrupt that works."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "3000", *words]
    with (work / f"{name}.txt").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )


def watched(running: dict[str, subprocess.Popen[bytes]], work: Path) -> tuple[list[str], list[float]]:
    """Wait for all; the names that failed, and the load averages meanwhile."""
    loads, failed = [], []
    while running:
        time.sleep(5)
        loads.append(os.getloadavg()[0])
        for name in [name for name, process in running.items() if process.poll() is not None]:
            code = running.pop(name).returncode
            last = (work / f"{name}.txt").read_text(errors="replace").strip().splitlines()[-1:]
            print(f"{name}: exit {code}, {' '.join(last)}", flush=True)
            if code not in (0, 5):  # 5: nothing selected
                failed.append(name)
    return failed, loads


def parts_of_suite(count: int) -> list[list[str]]:
    """Test files in so many heaps, by turns of their size: large ones take longer."""
    files = sorted((ROOT / "tests").rglob("test_*.py"), key=lambda path: -path.stat().st_size)
    return [[str(path) for path in files[place::count]] for place in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", action="store_true", help="the whole suite once")
    parser.add_argument("--load", type=int, default=20, help="processes that want to run at any time")
    parser.add_argument("--runs", type=int, default=20, help="of the kill and multi-process tests")
    parser.add_argument("--at-once", type=int, default=10, help="of these; the rest of the load turns in circles")
    parser.add_argument("--work", type=Path, default=Path("under-load"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.suite:
        heaps = [{f"part-{number}": words for number, words in enumerate(parts_of_suite(args.load))}]
    else:
        names = [f"run-{number}" for number in range(args.runs)]
        chunks = [names[start : start + args.at_once] for start in range(0, len(names), args.at_once)]
        heaps = [{name: list(KILLED) for name in chunk} for chunk in chunks]
    failed: list[str] = []
    loads: list[float] = []
    began = time.monotonic()
    for heap in heaps:
        idle = [multiprocessing.Process(target=circles, daemon=True) for _ in range(args.load - len(heap))]
        for one in idle:
            one.start()
        found, seen = watched({name: started(name, words, args.work) for name, words in heap.items()}, args.work)
        failed, loads = failed + found, loads + seen
        for one in idle:
            one.kill()
    middle = sorted(loads)[len(loads) // 2]
    print(
        f"{sum(map(len, heaps))} runs, failed: {', '.join(failed) or 'none'}; "
        f"{(time.monotonic() - began) / 60:.0f} min, load average {middle:.0f} in the middle, at most {max(loads):.0f}"
    )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
