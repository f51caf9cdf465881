"""Kill writers at random steps, resume, and compare the cache with that of an uninterrupted run.

    python tests/faults/kill_writer.py --kills 200 [--write]

World sizes 1 to 3, changing between resumes; all formats; every process is killed with SIGKILL: one at a step on the
disk (an open, rename, link, removal, or the middle of a write) from opening to the end, then the others wherever they
are. A cache that gets complete is compared object by object with an uninterrupted one, and a new one is begun.
`--write` puts the figures into tests/benchmarks/RESULTS.md.
"""

import argparse
import hashlib
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.writer_process import WriterProcess
from store_fakes import FORMATS, create, make_teacher

from deit_pipe.store.ledger import read_ledger
from deit_pipe.store.manifest import TeacherIdentity, list_teachers
from deit_pipe.store.stored_cache import StoredCache
from deit_pipe.store.verify import verify
from deit_pipe.store.writing.zarr_copy import write_zarr

NUM_SAMPLES, EPOCHS = 300, 3  # 19 blocks an epoch, the last one ragged
MOST_STEPS = 400  # a block takes 20 to 50


@dataclass
class Figures:
    kills: int = 0
    in_a_write: int = 0
    caches: int = 0
    blocks: int = 0
    most_lost_per_rank: int = 0
    problems: list[str] = field(default_factory=list)


def object_digests(path: Path, teacher: TeacherIdentity) -> dict[str, str]:
    """SHA-256 of every array of a teacher, as a plain zarr copy has it: blocks name the attempt that wrote them."""
    with tempfile.TemporaryDirectory() as folder:
        write_zarr(StoredCache(path), f"{folder}/plain")
        root = Path(folder) / "plain" / teacher.name
        files = [p for p in root.rglob("*") if p.is_file()]
        return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def run_once(path: Path, teacher: TeacherIdentity, world: int, step: int | None) -> tuple[list, bool]:
    """One run of all ranks; one of them dies at a step, or all finish. Returns its ranks, whether it finished.

    In one run of three the steps count from the start of that rank, so that opening (repair, sealing) is hit too;
    else from the moment when all ranks begin to write. When it is dead, the others are killed wherever they are.
    """
    victim = random.randrange(world) if step is not None else None
    die = None if step is None else ("go", step) if random.random() < 2 / 3 else ("start", 1 + step // 4)
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
        for rank in random.sample(ranks, len(ranks)):
            rank.kill()
    return ranks, all(rank.said("end") for rank in ranks)


def kill_until(folder: Path, kills: int, seed: int) -> Figures:
    """Do it; `problems` stays empty when the writer keeps its promises."""
    random.seed(seed)
    figures = Figures()
    wanted: dict[str, dict[str, str]] = {}
    while figures.kills < kills:
        teacher = make_teacher(FORMATS[figures.caches % len(FORMATS)])
        if teacher.name not in wanted:
            create(folder / "uninterrupted", NUM_SAMPLES)
            run_once(folder / "uninterrupted", teacher, 1, None)
            wanted[teacher.name] = object_digests(folder / "uninterrupted", teacher)
        path = folder / f"cache-{figures.caches}"
        create(path, NUM_SAMPLES)
        kill_one_cache(path, teacher, kills, figures)
        if object_digests(path, teacher) != wanted[teacher.name]:
            figures.problems.append(f"{path.name}: arrays differ from the uninterrupted run")
        found = verify(path, "deep", teacher.name)
        figures.problems += [f"{path.name}: {finding}" for finding in found]
        figures.caches += 1
        figures.blocks += len(read_ledger(path, teacher.name).cells())
        shutil.rmtree(path)
    return figures


def kill_one_cache(path: Path, teacher: TeacherIdentity, kills: int, figures: Figures) -> None:
    told: set[tuple[int, int]] = set()
    while True:
        last = figures.kills >= kills
        world = random.randint(1, 3)
        ranks, finished = run_once(path, teacher, world, None if last else random.randint(1, MOST_STEPS))
        errors = [error for rank in ranks for error in rank.said("error")]
        figures.problems += [f"{path.name}: {error}" for error in errors]
        for rank in ranks:
            begun, done = rank.said("begin"), rank.said("done")
            told |= {(block.epoch, block.index) for block in done}
            figures.in_a_write += not rank.said("end") and len(begun) > len(done)
            figures.most_lost_per_rank = max(figures.most_lost_per_rank, len(begun) - len(done))
            figures.kills += not rank.said("end")
        if teacher.name in list_teachers(path):
            there = read_ledger(path, teacher.name).cells()
            if told - there:
                figures.problems.append(f"{path.name}: blocks reported committed are gone: {told - there}")
        if finished or errors:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        figures = kill_until(Path(folder), options.kills, options.seed)
    lines = [
        "| processes killed | of them inside a block's write | caches completed | blocks compared | "
        "most blocks lost per rank and kill | committed blocks lost | differences |",
        "| --: | --: | --: | --: | --: | --: | --: |",
        f"| {figures.kills} | {figures.in_a_write} | {figures.caches} | {figures.blocks} | "
        f"{figures.most_lost_per_rank} | {sum('gone' in p for p in figures.problems)} | "
        f"{sum('gone' not in p for p in figures.problems)} |",
    ]
    print("\n".join([*lines, *figures.problems, f"{time.monotonic() - started:.0f} s"]))
    if options.write:
        from benchmarks.results import environment_line, write_section

        head = "SIGKILL at steps on the disk, world sizes 1 to 3 changing between resumes, formats in turn; every"
        text = f"{head} completed cache is compared with an uninterrupted run, byte by byte.\n\n"
        write_section("Store: killed writers", text + environment_line(("numpy", "zarr")) + "\n\n" + "\n".join(lines))
    if figures.problems:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
