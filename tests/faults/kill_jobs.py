"""Kills independent jobs that fill one cache: between one and six of them, coming and going, none knowing of another.

Jobs kill themselves at a step on the disk, or before, within or after a request to an object store; others are killed
wherever they are when there get to be fewer. Those that live go on. After every change the committed blocks are
compared with those of before: whatever is committed must stay, byte for byte.
"""

import os
import random
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from faults.job_process import Death, JobProcess

from deit_pipe.store.ledger import read_ledger
from deit_pipe.store.manifest import TeacherIdentity, list_teachers
from deit_pipe.store.places.opening import open_location

STEPS = {True: 400, False: 60}  # at most, until a job dies: steps on a disk (a block takes 20 to 50), or requests (7)
PATIENCE = (0.1, 0.1, 0.0)  # seconds; with none a job takes every hint of the other host for an old one
HOSTS = ("north", "south")  # on another host nobody can see that a process is gone
Cell = tuple[int, int]


@dataclass
class Figures:
    """What was done, and what went wrong: nothing."""

    kills: int = 0
    in_a_write: int = 0
    caches: int = 0
    blocks: int = 0
    most_lost: int = 0
    most_at_once: int = 0
    made_twice: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass
class Watched:
    """A cache that is being filled: who said what, and what was seen of it."""

    location: str
    teacher: TeacherIdentity
    epochs: int
    seen: dict[str, str] = field(default_factory=dict)
    """Version of each committed block by key."""
    told: dict[Cell, set[str]] = field(default_factory=dict)
    """Tokens that were reported as committed."""

    def look(self) -> list[str]:
        """Compare the committed blocks with those of before; returns what should not be."""
        now = versions(self.location)
        gone = sorted(self.seen.keys() - now.keys())
        changed = sorted(key for key in self.seen.keys() & now.keys() if self.seen[key] != now[key])
        self.seen = now
        return [f"{key} is gone" for key in gone] + [f"{key} was rewritten" for key in changed]

    def compare(self) -> list[str]:
        """Compare what was reported with what is there."""
        if self.teacher.name not in list_teachers(self.location):
            return [f"told {self.told}, and there is no teacher: gone"] if self.told else []
        ledger = read_ledger(self.location, self.teacher.name)
        gone = sorted(self.told.keys() - ledger.cells())
        found = [f"block {cell} was reported committed and is gone" for cell in gone]
        for cell in self.told.keys() - set(gone):
            if self.told[cell] != {ledger.record(*cell).token}:
                found.append(f"block {cell} was reported as {self.told[cell]} and was rewritten")
        return found


def versions(location: str) -> dict[str, str]:
    """What identifies the bytes of each committed block, by key."""
    place = open_location(location)
    if place.local:
        keys = [key for key in place.sizes("targets.zarr") if "/c/" in key]
        return {key: place.get(key).hex() for key in keys}
    import obstore

    store = place._connect()  # type: ignore[attr-defined]
    entries = [entry for page in obstore.list(store, "targets.zarr/") for entry in page]
    return {entry["path"]: entry["e_tag"] for entry in entries if "/c/" in entry["path"]}


def kill_jobs(cache: Watched, most_jobs: int, kills: int, figures: Figures, dice: random.Random) -> None:
    """Fill a cache by between 1 and `most_jobs` jobs at once, killing them until there were so many kills in all."""
    jobs: list[JobProcess] = []
    wanted = dice.randint(1, most_jobs)
    try:
        while True:
            if dice.random() < 1 / 3:
                wanted = dice.randint(1, most_jobs)
            while len(jobs) > wanted and figures.kills < kills:
                collect(cache, jobs.pop(dice.randrange(len(jobs))), figures)
            while len(jobs) < wanted:
                jobs.append(start(cache, dice, figures.kills < kills))
            figures.most_at_once = max(figures.most_at_once, len(jobs))
            ended = until_something_happened(jobs, dice.randint(1, 20))
            figures.problems += cache.look()
            for job in ended:
                jobs.remove(job)
                collect(cache, job, figures)
            if any(job.said("end") or job.said("error") for job in ended):
                break
    finally:
        for job in jobs:
            collect(cache, job, figures)
    figures.problems += [*cache.look(), *cache.compare()]


def start(cache: Watched, dice: random.Random, mortal: bool) -> JobProcess:
    """Start a job; a mortal one dies at a step of its opening, or later."""
    most = STEPS["://" not in cache.location]
    since = dice.choice(("start", "open", "open", "open"))
    how = dice.choice(("before", "within", "after"))
    death = Death(since, dice.randint(1, most if since == "open" else most // 2), how) if mortal else None
    environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    who = {"host": dice.choice(HOSTS), "patience": dice.choice(PATIENCE), "environment": environment}
    return JobProcess(cache.location, cache.teacher, cache.epochs, death=death, **who)


def until_something_happened(jobs: list[JobProcess], blocks: int) -> list[JobProcess]:
    """Listen until a job has ended, or so many blocks were committed; returns the jobs that ended."""
    before = sum(len(job.said("done")) for job in jobs)
    while True:
        wait([job.pipe for job in jobs])
        ended = [job for job in jobs if not job.listen()]
        if ended or sum(len(job.said("done")) for job in jobs) >= before + blocks:
            return ended


def collect(cache: Watched, job: JobProcess, figures: Figures) -> None:
    """Kill a job if it lives, and note what it had said."""
    job.kill()
    begun, done = job.said("begin"), job.said("done")
    for block, token in done:
        tokens = cache.told.setdefault((block.epoch, block.index), set())
        figures.made_twice += bool(tokens)
        tokens.add(token)
    figures.problems += [f"{Path(cache.location).name}: {error}" for error in job.said("error")]
    if not job.said("end"):
        figures.kills += 1
        figures.in_a_write += len(begun) > len(done)
        figures.most_lost = max(figures.most_lost, len(begun) - len(done))
