"""Kill writers at random steps, resume, and compare the cache with that of an uninterrupted run.

    python tests/faults/kill_writer.py --kills 200 --jobs 6 [--place s3] [--write]
    python tests/faults/kill_writer.py --kills 200 [--write]

With `--jobs`: between one and so many independent jobs at once, coming and going (`kill_jobs`), in a directory or on an
S3 server in a process of its own (moto). Without: one to three processes that were started together, their number
changing between resumes; one dies at a step on the disk (an open, rename, link, removal, or the middle of a write) from
opening to the end, then the others wherever they are. All formats in turn; every kill is SIGKILL. A cache that gets
complete is compared array by array with an uninterrupted one, and a new one is begun. `--write` puts the figures into
tests/benchmarks/RESULTS.md.
"""

import argparse
import contextlib
import hashlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.kill_jobs import Figures, Watched, kill_jobs
from faults.writer_process import WriterProcess
from s3_server import BUCKET, s3_server
from store_fakes import FORMATS, create, make_teacher

from deit_pipe.store.ledger import read_ledger
from deit_pipe.store.manifest import TeacherIdentity, list_teachers
from deit_pipe.store.places import local
from deit_pipe.store.places.opening import open_location
from deit_pipe.store.stored_cache import StoredCache
from deit_pipe.store.verify import verify
from deit_pipe.store.writing.zarr_copy import write_zarr

NUM_SAMPLES, EPOCHS = 300, 3  # 19 blocks an epoch, the last one ragged
MOST_STEPS = 400  # a block takes 20 to 50


OneCache = Callable[[str, TeacherIdentity, int, Figures, random.Random], None]


def array_digests(location: str, teacher: TeacherIdentity) -> dict[str, str]:
    """SHA-256 of every array of a teacher, as a plain zarr copy has it: blocks name the attempt that wrote them."""
    with tempfile.TemporaryDirectory() as folder:
        write_zarr(StoredCache(location), f"{folder}/plain")
        root = Path(folder) / "plain" / teacher.name
        files = [p for p in root.rglob("*") if p.is_file()]
        return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def run_once(
    path: str, teacher: TeacherIdentity, world: int, step: int | None, dice: random.Random
) -> tuple[list[WriterProcess], bool]:
    """One run of all ranks; one of them dies at a step, or all finish. Returns its ranks, whether it finished.

    In one run of three the steps count from the start of that rank, so that opening (repair, sealing) is hit too;
    else from the moment when all ranks begin to write. When it is dead, the others are killed wherever they are.
    """
    victim = dice.randrange(world) if step is not None else None
    die = None if step is None else ("go", step) if dice.random() < 2 / 3 else ("start", 1 + step // 4)
    ranks: list[WriterProcess] = []
    try:
        for rank in range(world):
            ranks.append(WriterProcess(path, teacher, EPOCHS, rank, world, die=die if rank == victim else None))
            if ranks[-1].wait_for("open") is None or ranks[-1].said("error"):
                break
        else:
            for rank in ranks:
                rank.go()
            for rank in ranks if victim is None else [ranks[victim]]:
                rank.wait_for("end")
    finally:
        for rank in dice.sample(ranks, len(ranks)):
            rank.kill()
    return ranks, all(rank.said("end") for rank in ranks)


def kill_together(path: str, teacher: TeacherIdentity, kills: int, figures: Figures, dice: random.Random) -> None:
    """Fill one cache by ranks that are started, and killed, together."""
    told: set[tuple[int, int]] = set()
    while True:
        last = figures.kills >= kills
        world = dice.randint(1, 3)
        ranks, finished = run_once(path, teacher, world, None if last else dice.randint(1, MOST_STEPS), dice)
        errors = [error for rank in ranks for error in rank.said("error")]
        figures.problems += [f"{path}: {error}" for error in errors]
        figures.most_at_once = max(figures.most_at_once, world)
        for rank in ranks:
            begun, done = rank.said("begin"), rank.said("done")
            told |= {(block.epoch, block.index) for block in done}
            figures.in_a_write += not rank.said("end") and len(begun) > len(done)
            figures.most_lost = max(figures.most_lost, len(begun) - len(done))
            figures.kills += not rank.said("end")
        if teacher.name in list_teachers(path):
            there = read_ledger(path, teacher.name).cells()
            if told - there:
                figures.problems.append(f"{path}: blocks reported committed are gone: {told - there}")
        if finished or errors:
            return


def kill_independent(most_jobs: int) -> OneCache:
    """Fill one cache by between 1 and `most_jobs` jobs that know nothing of each other."""

    def one_cache(location: str, teacher: TeacherIdentity, kills: int, figures: Figures, dice: random.Random) -> None:
        kill_jobs(Watched(location, teacher, EPOCHS), most_jobs, kills, figures, dice)

    return one_cache


def kill_until(root: str, kills: int, seed: int, one_cache: OneCache = kill_together) -> Figures:
    """Do it in caches below a folder or URL; `problems` stays empty when the writer keeps its promises."""
    dice = random.Random(seed)
    figures = Figures()
    wanted: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as uninterrupted:
        while figures.kills < kills:
            teacher = make_teacher(FORMATS[figures.caches % len(FORMATS)])
            if teacher.name not in wanted:
                create(uninterrupted, NUM_SAMPLES)
                run_once(uninterrupted, teacher, 1, None, dice)
                wanted[teacher.name] = array_digests(uninterrupted, teacher)
            path = f"{root}/cache-{seed}-{figures.caches}"
            create(path, NUM_SAMPLES)
            one_cache(path, teacher, kills, figures, dice)
            if array_digests(path, teacher) != wanted[teacher.name]:
                figures.problems.append(f"{path}: arrays differ from the uninterrupted run")
            figures.problems += [f"{path}: {finding}" for finding in verify(path, "deep", teacher.name)]
            figures.caches += 1
            figures.blocks += len(read_ledger(path, teacher.name).cells())
            open_location(path).delete_tree("targets.zarr")
    return figures


def table(figures: Figures) -> list[str]:
    """The figures as a table."""
    bad = [problem for problem in figures.problems if "gone" in problem or "rewritten" in problem]
    columns = {
        "processes killed": figures.kills,
        "of them inside a block's write": figures.in_a_write,
        "most at once": figures.most_at_once,
        "caches completed": figures.caches,
        "blocks compared": figures.blocks,
        "made by two, one kept": figures.made_twice,
        "most blocks lost per process and kill": figures.most_lost,
        "committed blocks lost or rewritten": len(bad),
        "differences": len(figures.problems) - len(bad),
    }
    rows = [list(columns), ["--:"] * len(columns), [str(value) for value in columns.values()]]
    return ["| " + " | ".join(row) + " |" for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, help="so many independent jobs at most")
    parser.add_argument("--place", choices=("local", "s3"), default="local")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.place == "s3" and not options.jobs:
        parser.error("--place s3 needs --jobs")
    started = time.monotonic()
    local.os.fsync = lambda _: None  # type: ignore[attr-defined]  # see `writer_process`
    one_cache = kill_independent(options.jobs) if options.jobs else kill_together
    with contextlib.ExitStack() as stack:
        if options.place == "s3":
            os.environ |= stack.enter_context(s3_server())
            root = f"s3://{BUCKET}"
        else:
            root = stack.enter_context(tempfile.TemporaryDirectory())
        figures = kill_until(root, options.kills, options.seed, one_cache)
    lines = table(figures)
    print("\n".join([*lines, *figures.problems, f"{time.monotonic() - started:.0f} s"]))
    if options.write:
        from benchmarks.results import environment_line, write_section

        if options.jobs:
            name = "Store: killed jobs, " + {"local": "a directory", "s3": "an S3-protocol server"}[options.place]
            head = (
                f"SIGKILL of independent jobs, 1 to {options.jobs} at once, coming and going; formats in turn. "
                "Whatever was committed is compared after every change; every"
            )
        else:
            name = "Store: killed writers"
            head = "SIGKILL at steps on the disk, world sizes 1 to 3 changing between resumes, formats in turn; every"
        text = f"{head} completed cache is compared with an uninterrupted run, byte by byte.\n\n"
        packages = ("numpy", "zarr", "obstore", "moto") if options.place == "s3" else ("numpy", "zarr")
        write_section(name, text + environment_line(packages) + "\n\n" + "\n".join(lines))
    if figures.problems:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
