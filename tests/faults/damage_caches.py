"""Damage every file of two caches with two teachers each, one damage at a time: all are named, none is served.

    python tests/faults/damage_caches.py --damages 10000 [--write]

Bits are flipped, files cut, lengthened, zeroed, deleted, replaced by and exchanged with others: of the same teacher, of
the other teacher, of the other cache (same key, same bytes but for whose they are). After each, the full check
(`verify`, level hash) has to name it, and every target that a reader of either teacher gives has to be the one that was
written; then all is put back. Some files give no target and are made again from the others, or left out (`ASIDE`):
of these the second holds, and how often the first does is counted. `--write` puts the figures into
tests/benchmarks/RESULTS.md.
"""

import argparse
import itertools
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from store_fakes import (
    answers,
    assert_same,
    expected,
    make_manifest,
    make_samples,
    make_teacher,
)

from deit_pipe.store.errors import StoreError
from deit_pipe.store.formats import Targets
from deit_pipe.store.gates import write_gate
from deit_pipe.store.manifest import create_cache
from deit_pipe.store.places import local
from deit_pipe.store.proof.encoded import KNOWN, write_encoded
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.stored_cache import StoredCache
from deit_pipe.store.verify import verify
from deit_pipe.store.writer import TargetWriter

SLOTS, EPOCHS = 100, 3  # no index has the last one
TEACHERS = (make_teacher("topk:3", block_slots=50), make_teacher("none", block_slots=50))
CACHES = ("one", "other")
# What gives no target: an index that is gone is made again from the blocks, epochs are wanted again by the next writer,
# and who wrote with what, the images' checksums and the descriptions for other programs are for people and messages.
ASIDE = ("sealed", "epochs", "runs", "encoded", "PROVENANCE.json", "targets.zarr/zarr.json", "group")


@dataclass
class Figures:
    """What was done, by kind of file and of damage, and what went wrong: nothing."""

    damages: int = 0
    files: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    named: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    unnamed: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def make_caches(root: Path) -> None:
    """Two caches of the same images, with other seeds; the answers of their teachers differ too."""
    for number, name in enumerate(CACHES):
        path = root / name
        create_cache(path, make_manifest(SLOTS, seed=number), make_samples(SLOTS), {"numpy": np.__version__})
        for teacher in TEACHERS:
            with TargetWriter.open(path, teacher, epochs=EPOCHS - 1, provenance={"numpy": "any"}) as writer:
                for block in writer.claims():
                    writer.write(block, *answers(block, seed=number))
            writer = TargetWriter.open(path, teacher, epochs=EPOCHS)  # never closed, as if it had been killed
            for block in writer.missing:
                writer.write(block, *answers(block, seed=number))
            write_gate(path, teacher, {"measured": 1.0, "top1": 0.5})
            write_encoded(path, teacher.name, 0, np.full(SLOTS, KNOWN + np.uint64(5), np.uint64))


def files_of(path: Path) -> list[str]:
    """Keys of the files of a cache; hints and locks are none."""
    keys = (p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    return sorted(key for key in keys if not key.startswith((".swap", "hints/")))


def kind_of(key: str) -> str:
    """What sort of a file it is."""
    for part in ("sealed", "epochs", "runs", "encoded"):
        if f"{part}/" in key:
            return part
    if "/c/" in key:
        return "block"
    if key.endswith("zarr.json") and key.count("/") == 2:
        return "group"
    return "/".join(part for part in key.split("/") if part not in {teacher.name for teacher in TEACHERS})


def damage_once(root: Path, dice: random.Random) -> tuple[str, str, dict[Path, bytes | None]] | None:
    """Damage one file of cache `one`.

    Returns:
        what sort of file, what was done, and what lay in every file that was touched (None: nothing); None where it
        changed nothing.
    """
    path = root / "one"
    key = dice.choice(files_of(path))
    file, content = path / key, (path / key).read_bytes()
    how = dice.choice(HOWS)
    other = partner(root, key, how, dice)
    if other is None or other == file:
        return None
    before = (
        {file: content, other: other.read_bytes() if other.exists() else None} if "other" in how else {file: content}
    )
    changed = bytearray(content)
    place = dice.randrange(max(1, len(content)))
    if how == "flip a bit" and content:
        changed[place] ^= 1 << dice.randrange(8)
    elif how == "cut":
        del changed[place:]
    elif how == "lengthen":
        changed += bytes(dice.randbytes(1 + dice.randrange(64)))
    elif how == "zero":
        stop = min(len(content), place + 1 + dice.randrange(512))
        changed[place:stop] = bytes(stop - place)
    elif "other" in how:
        changed = bytearray(other.read_bytes())
        if how.startswith("exchange"):
            other.write_bytes(content)
    if how == "delete":
        file.unlink()
    elif bytes(changed) == content:
        return None
    else:
        file.write_bytes(changed)
    return kind_of(key), how, before


HOWS = (
    "flip a bit",
    "flip a bit",
    "cut",
    "lengthen",
    "zero",
    "delete",
    "replace by any other file",
    "replace by another block of the teacher",
    "exchange with any other file",
    "exchange with the other teacher's",
    "exchange with the other cache's",
)


def partner(root: Path, key: str, how: str, dice: random.Random) -> Path | None:
    """The other file of a damage; the file itself or nothing where there is none of that kind."""
    path = root / "one"
    if "cache" in how:
        theirs = root / "other" / key
        return theirs if theirs.exists() else None
    if "teacher's" in how:
        names = [teacher.name for teacher in TEACHERS]
        swapped = "/".join(names[1 - names.index(part)] if part in names else part for part in key.split("/"))
        swapped = swapped.replace(f"/{names[0]}.json", "/#").replace(f"/{names[1]}.json", f"/{names[0]}.json")
        swapped = swapped.replace("/#", f"/{names[1]}.json")
        array = {"topk_class": "teacher_label", "teacher_label": "topk_class"}
        for one, two in array.items():
            if f"/{one}/" in key:
                swapped = swapped.replace(f"/{one}/c/", f"/{two}/c/")
                break
        candidates = [path / swapped, path / f"{swapped}/0", path / swapped.removesuffix("/0")]
        return next((one for one in candidates if one.is_file()), None)
    others = files_of(path)
    if "block" in how:
        if kind_of(key) != "block":
            return None
        folder = key.partition("/c/")[0]
        others = [one for one in others if one.startswith(f"{folder}/c/")]
    return path / dice.choice(others) if "other" in how else Path("none")


def expectations() -> dict[tuple[str, str, int], Targets]:
    """Right answers by cache, teacher and epoch."""
    return {
        (name, teacher.name, epoch): expected(teacher, epoch, np.arange(SLOTS), SLOTS, seed=number)
        for number, name in enumerate(CACHES)
        for teacher in TEACHERS
        for epoch in range(EPOCHS)
    }


def served(root: Path, files: Collection[Path], wanted: dict[tuple[str, str, int], Targets]) -> Iterator[str]:
    """What each epoch of every teacher that these files could be about gives: `right`, `refused`, or what is wrong."""
    for name, teacher in itertools.product(CACHES, TEACHERS):
        others = {one.name for one in TEACHERS} - {teacher.name}
        near = [file for file in files if file.is_relative_to(root / name)]
        if not any(others.isdisjoint([*file.parts, file.stem]) for file in near):
            continue
        try:
            reader = TargetReader(root / name, teacher.name, allow_partial=True)
        except StoreError:
            yield "refused"
            continue
        for epoch in range(EPOCHS):
            try:
                assert_same(reader.read(epoch, np.arange(SLOTS)), wanted[name, teacher.name, epoch])
            except (StoreError, IndexError):  # IndexError: fewer epochs are said to be there
                yield "refused"
            except AssertionError:
                yield f"{name} serves wrong answers of {teacher.name}, epoch {epoch}"
            else:
                yield "right"


def is_named(path: Path) -> bool:
    """Whether `inspect-cache --verify hash` would end with another code than 0: damaged, or blocks are missing."""
    stored = StoredCache(path)
    try:
        found = verify(stored, "hash")
        return not (found.ok and all(stored.teacher(name).coverage.complete for name in names(stored)))
    except StoreError:
        return True


def names(stored: StoredCache) -> set[str]:
    """Teachers of a cache, and those that it had."""
    return {*stored.teacher_names, *(teacher.name for teacher in TEACHERS)}


def damage_until(root: Path, damages: int, seed: int) -> Figures:
    """Do so many damages below a folder; `problems` stays empty where all is as it should be."""
    dice = random.Random(seed)
    figures = Figures()
    make_caches(root)
    wanted = expectations()
    assert {*served(root, [root / name / "MANIFEST.json" for name in CACHES], wanted)} == {"right"}
    assert not any(is_named(root / name) for name in CACHES)
    while figures.damages < damages:
        done = damage_once(root, dice)
        if done is None:
            continue
        kind, how, before = done
        figures.damages += 1
        figures.files[kind] += 1
        figures.kinds[how] += 1
        caches = [name for name in CACHES if any(file.is_relative_to(root / name) for file in before)]
        answers_now = [*served(root, before, wanted)]
        figures.refused += "refused" in answers_now
        figures.problems += [f"{kind}, {how}: {one}" for one in answers_now if one not in ("right", "refused")]
        unnamed = [name for name in caches if not is_named(root / name)]
        if not unnamed:
            figures.named[kind] += 1
        elif kind in ASIDE or (kind, how) == ("ledger/gate.json", "delete"):  # a teacher need not be measured
            figures.unnamed[f"{kind}, {how}"] += 1
        else:
            figures.problems.append(f"{kind}, {how}: not named in {', '.join(unnamed)}: {[*before]}")
        for file, content in before.items():
            if content is not None:
                file.write_bytes(content)
    assert not any(is_named(root / name) for name in CACHES)
    return figures


def table(figures: Figures) -> list[str]:
    """The figures by kind of file."""
    lines = ["| file | damages | named | not named, and nothing depends on it |", "| :-- | --: | --: | --: |"]
    for kind, count in sorted(figures.files.items()):
        quiet = sum(number for one, number in figures.unnamed.items() if one.startswith(f"{kind}, "))
        lines.append(f"| {kind} | {count:,} | {figures.named[kind]:,} | {quiet:,} |")
    lines.append(f"| all | {figures.damages:,} | {figures.named.total():,} | {figures.unnamed.total():,} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--damages", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    started = time.monotonic()
    local.os.fsync = lambda _: None  # type: ignore[attr-defined]  # no power cut is made here
    with tempfile.TemporaryDirectory() as folder:
        figures = damage_until(Path(folder), options.damages, options.seed)
    kinds = ", ".join(f"{how} {count:,}" for how, count in sorted(figures.kinds.items()))
    said = (
        f"{figures.damages:,} damages, one at a time ({kinds}). Wrong answers served, or a damage of what gives or "
        f"vouches for an answer that is not named: {len(figures.problems)}. Readers refused something after "
        f"{figures.refused:,} of them; after the others all they gave was right."
    )
    lines = [said, "", *table(figures)]
    print("\n".join([*lines, "", *figures.problems[:50], f"{time.monotonic() - started:.0f} s"]))
    print(dict(figures.unnamed))
    if options.write:
        from benchmarks.results import environment_line, write_section

        packages = ("numpy", "zarr", "pyarrow")
        write_section("Store: damages", "\n".join([environment_line(packages), "", *lines]))
    if figures.problems:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
