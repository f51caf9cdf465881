"""The loader: threads against worker processes. Views a second, time to the first batch, memory; and whether any grows.

    python tests/benchmarks/bench_loader.py [--photographs FOLDER] [--growth 100000] [--write]

Every figure is of a fresh process; the kinds take turns. Memory is the proportional set size (what is shared with n
processes counts as one nth; files apart) of the process and its workers, beyond what it was before the loader started.
Photographs as in bench_views.py. --growth makes that many small batches with two threads.
"""

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

KINDS = [(kind, count) for count in (1, 2, 4) for kind in ("threads", "processes")]
BATCH, SIZE = 256, 224


def memory_of_all() -> float:
    """MB of this process and its children."""
    total = 0
    for process in ("self", *(str(child.pid) for child in multiprocessing.active_children())):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return total / 1000


def core_seconds() -> tuple[float, float]:
    """Seconds that the threads of this process have had of a core, and have waited for one."""
    queued = sum(int(file.read_text().split()[1]) for file in Path("/proc/self/task").glob("*/schedstat"))
    return time.process_time(), queued / 1e9


def one(kind: str, count: int, raw: bool, tiles: Path, seconds: float) -> dict[str, float]:
    """Measure one kind here."""
    from benchmarks.bench_views import MemorySamples, RawSamples

    from deit_pipe.pipeline.loader import load_views
    from deit_pipe.pipeline.plan import ViewPlan
    from deit_pipe.pipeline.recipe import PRESETS

    images = [file.read_bytes() for file in sorted(tiles.iterdir())]
    table = (RawSamples if raw else MemorySamples)(images * 8)
    recipe = PRESETS["deit"]
    plan = ViewPlan.for_recipe(len(table), recipe, seed=0)
    plan.sample_at(0)
    cells = (cells for epoch in range(10_000) for cells in plan.batches(epoch, BATCH))
    before, started = memory_of_all(), time.perf_counter()
    views = load_views(table, recipe, plan, cells, image_size=SIZE, workers=count, threads=kind == "threads")
    next(views)
    first = time.perf_counter() - started
    for _ in islice(views, 2 * count):  # what was made ahead
        pass
    done, started, (used, queued) = 0, time.perf_counter(), core_seconds()
    while time.perf_counter() - started < seconds:
        done += len(next(views))
    passed = time.perf_counter() - started
    used, queued = (now - then for now, then in zip(core_seconds(), (used, queued), strict=True))
    memory = memory_of_all() - before
    views.close()  # type: ignore[attr-defined]
    shares = {"used": used / (count * passed), "queued": queued / (count * passed)}
    return {"rate": done / passed, "first": first, "memory": memory, **shares}


def growth(batches: int) -> list[str]:
    """Memory of this process at eleven moments of so many batches."""
    import numpy as np

    from deit_pipe.pipeline.loader import load_views
    from deit_pipe.pipeline.plan import Cells, ViewPlan
    from deit_pipe.pipeline.recipe import PRESETS
    from deit_pipe.pipeline.samples import ArraySamples

    pixels = np.random.default_rng(0).integers(0, 256, (64, 20, 24, 3), dtype=np.uint8)
    table = ArraySamples("noise", pixels, np.zeros(64, np.int64), ["only"])
    plan = ViewPlan.for_recipe(64, PRESETS["deit"], seed=0)
    cells = (Cells(epoch, np.arange(8)) for epoch in range(batches + 1000))
    views = load_views(table, PRESETS["deit"], plan, cells, image_size=16, workers=2, threads=True)
    marks, started = [], time.perf_counter()
    for number, _ in enumerate(views):
        if number % (batches // 10) == 999 % (batches // 10):
            marks.append(memory_of_all())
    minutes = (time.perf_counter() - started) / 60
    shown = ", ".join(f"{mark:.1f}" for mark in marks)
    return [f"{batches:,} batches of 8 views by two threads in {minutes:.1f} min; MB after each tenth: {shown}"]


def compare(tiles: str, rounds: int, seconds: float) -> list[str]:
    """The table."""
    shares: list[str] = []
    rows = [
        "| images | workers | threads: views/s | processes: views/s | ratio | first batch s | | memory MB | |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for raw in (False, True):
        found: dict[tuple[str, int], list[dict[str, float]]] = {kind: [] for kind in KINDS}
        for _ in range(rounds):
            for kind, count in KINDS:
                words = [kind, str(count), "raw" if raw else "jpeg", tiles, str(seconds)]
                done = subprocess.run(
                    [sys.executable, __file__, "--one", *words], capture_output=True, text=True, check=True
                )
                found[kind, count].append(json.loads(done.stdout))
        for count in (1, 2, 4):
            middle = {
                kind: {key: statistics.median(run[key] for run in found[kind, count]) for key in found[kind, count][0]}
                for kind in ("threads", "processes")
            }
            ratio = statistics.median(
                a["rate"] / b["rate"] for a, b in zip(found["threads", count], found["processes", count], strict=True)
            )
            a, b = middle["threads"], middle["processes"]
            rows.append(
                f"| {'raw' if raw else 'JPEG'} | {count} | {a['rate']:.0f} | {b['rate']:.0f} | {ratio:.2f} "
                f"| {a['first']:.2f} | {b['first']:.2f} | {a['memory']:.0f} | {b['memory']:.0f} |"
            )
        pairs = zip(found["threads", 1], found["threads", 2], strict=True)
        gain = statistics.median(two["rate"] / one["rate"] for one, two in pairs)
        rows.append(f"| {'raw' if raw else 'JPEG'} | two threads / one | {gain:.2f} | | | | | | |")
        used, queued = (statistics.median(run[key] for run in found["threads", 2]) for key in ("used", "queued"))
        shares.append(
            f"Two threads, {'raw' if raw else 'JPEG'}: {used:.0%} of their time on a core, {queued:.0%} waiting for "
            f"a core, {max(0.0, 1 - used - queued):.0%} for each other."
        )
    return [*rows, "", *shares]


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        kind, count, images, tiles, seconds = sys.argv[2:]
        print(json.dumps(one(kind, int(count), images == "raw", Path(tiles), float(seconds))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, help="folder with large photographs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--growth", type=int, default=0, metavar="BATCHES")
    parser.add_argument("--write", action="store_true", help="replace this section of RESULTS.md")
    options = parser.parse_args()
    from benchmarks.bench_views import cut_tiles
    from benchmarks.results import environment_line, write_section

    from deit_pipe.pipeline.native.engine import chosen_engine

    about = (
        f"Engine {chosen_engine()}; recipe deit (3 repeats a decode), {SIZE} px, batches of {BATCH}, JPEG of 500 x 375 "
        f"{'from photographs' if options.photographs else 'of noise (no --photographs given)'} or their raw pixels; "
        "the first of two columns is of threads. First batch: from the call."
    )
    head = environment_line(("numpy", "pillow", "simplejpeg", "torch"))
    sections = {}
    if options.rounds:
        with tempfile.TemporaryDirectory() as tiles:
            for number, image in enumerate(cut_tiles(options.photographs, 200)):
                (Path(tiles) / f"{number:04d}.jpg").write_bytes(image)
            sections["loader"] = "\n\n".join([head, about, "\n".join(compare(tiles, options.rounds, options.seconds))])
    if options.growth:
        sections["loader: growth"] = "\n\n".join([head, *growth(options.growth)])
    for name, report in sections.items():
        print(report)
        if options.write:
            write_section(name, report)


if __name__ == "__main__":
    main()
