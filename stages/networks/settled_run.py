"""Going on with a run folder: a stopped commit is finished, damage is refused, a removed checkpoint passed over.

No torch. Whoever was told that a checkpoint is damaged removes it: then the one before it counts, and that is said.
"""

import json
import re
import shlex
from collections.abc import Collection
from pathlib import Path

from deit_pipe.stages.console.errors import Corrupt, Missing
from deit_pipe.stages.console.progress import note
from deit_pipe.stages.networks.begun_command import begun_command
from deit_pipe.stages.networks.durable_files import open_regular, partial_of, write_partial
from deit_pipe.stages.networks.file_names import (
    BEST_WEIGHTS,
    CHECKPOINTS,
    METRICS,
    POINTER,
    RESULT,
    RUN_CONFIG,
    STUDENT_FACTS,
    STUDENT_WEIGHTS,
)
from deit_pipe.stages.networks.sums import SUMS, check_sums, commit, finish_commit, read_sums, say_unchecked, unchecked

_STEP = re.compile(r"[0-9]{8,12}")
MOST_BYTES = 4_000
POINTED = f"{CHECKPOINTS}/{POINTER}"
TENSORBOARD = "tensorboard/"  # grows, like the metrics, until the run is finished
REMADE = (STUDENT_WEIGHTS, RESULT)  # the end of a run makes them again from its last checkpoint


def is_begun(run: Path) -> bool:
    """Whether there is something to go on with; a run that failed before its first checkpoint left nothing."""
    there = (run / POINTED).is_file() or (run / RESULT).is_file() or partial_of(run / POINTED).is_file()
    return there or bool(kept_checkpoints(run))


def settle(run: Path) -> None:
    """Make a folder fit to be gone on with; to be called by its only writer.

    Raises:
        Corrupt: a file is not what was written; it is named with what cures it.
    """
    sums = read_sums(run)
    if sums is not None:
        finish_commit(run, sums)
    if not is_begun(run):
        return
    if sums is None:
        say_unchecked(run)
        if not (run / RESULT).is_file():
            commit(run, (), placed=_known_files(run))
        return
    gone = {name for name in sums if _is_removed(run, name)}
    check_sums(run, sorted(sums.keys() - gone), lambda name: cure(run, name))
    unsteady = {name for name in sums if name == METRICS or name.startswith(TENSORBOARD)}
    if (gone or unsteady) and not (run / RESULT).is_file():
        _pass_over(run, gone | unsteady)


def kept_checkpoints(run: Path) -> list[str]:
    """Names of the checkpoints that SUMS vouches for and that are there, oldest first."""
    listed = {found for name in read_sums(run) or {} if (found := checkpoint_of(name)) is not None}
    return sorted(name for name in listed if (run / CHECKPOINTS / name).is_dir())


def checkpoint_of(name: str) -> str | None:
    """The checkpoint that a file of a run folder belongs to."""
    first, _, rest = name.partition("/")
    return rest.partition("/")[0] if first == CHECKPOINTS and "/" in rest else None


def cure(run: Path, name: str) -> str:
    """What to do about a damaged file of a run."""
    again = begun_command(run)
    checkpoint = checkpoint_of(name)
    others = [one for one in kept_checkpoints(run) if one != checkpoint]
    if checkpoint is not None and others:
        folder = shlex.quote(str(run / CHECKPOINTS / checkpoint))
        return (
            f"restore it from a copy; or go on from the checkpoint of step {int(others[-1])}: rm -r {folder} && {again}"
        )
    if name == POINTED and others:
        return f"make it again: rm {shlex.quote(str(run / POINTED))} && {again}"
    if name.startswith(f"{CHECKPOINTS}/"):
        folder = shlex.quote(str(run / CHECKPOINTS))
        return f"restore it from a copy; or train again from the start: rm -r {folder} && {again}"
    if name in REMADE and (run / POINTED).is_file():
        files = " ".join(shlex.quote(str(run / one)) for one in REMADE)
        return f"make it again from the last checkpoint: rm {files} && {again}"
    return f"restore it from a copy; or use the folder as it is, unchecked: {unchecked(run / SUMS)}"


def _is_removed(run: Path, name: str) -> bool:
    """Whether somebody took a file away on purpose: a whole checkpoint, all of them, or what the end makes again."""
    if name in REMADE:
        return not any((run / one).exists() for one in REMADE)
    if name == POINTED:
        return not (run / POINTED).exists()
    checkpoint = checkpoint_of(name)
    return checkpoint is not None and not (run / CHECKPOINTS / checkpoint).exists()


def last_checkpoint(run: Path) -> str | None:
    """Name of the last checkpoint, None where there is none.

    Raises:
        Corrupt: the file that names it is damaged.
    """
    path = run / POINTED
    if not path.is_file():
        return None
    try:
        with open_regular(path) as file:
            name = json.loads(file.read(MOST_BYTES))["folder"]
    except (ValueError, TypeError, KeyError, RecursionError):
        name = None
    if not isinstance(name, str) or not _STEP.fullmatch(name):
        raise Corrupt(f"{path} is damaged", expected='{"folder": a step}', cure=cure(run, POINTED))
    return name


def _pass_over(run: Path, gone: Collection[str]) -> None:
    """Go on from the last checkpoint that is there.

    Raises:
        Missing: there is none.
    """
    left, pointed, names = kept_checkpoints(run), last_checkpoint(run), []
    if not left:
        raise Missing(f"{run} has no checkpoint left", cure=cure(run, POINTED))
    if pointed not in left:
        what = run / CHECKPOINTS / (pointed or POINTER)
        note(f"{what} was removed: going on from step {int(left[-1])}")
        write_partial(run / POINTED, (json.dumps({"folder": left[-1]}) + "\n").encode())
        names.append(POINTED)
    commit(run, names, dropped=gone.__contains__)


def _known_files(run: Path) -> list[str]:
    """Files of a run of an earlier version, which are vouched for from now on."""
    names = [RUN_CONFIG, STUDENT_FACTS, BEST_WEIGHTS, POINTED]
    folder = f"{CHECKPOINTS}/{last_checkpoint(run)}"
    inside = [f"{folder}/{path.name}" for path in (run / folder).iterdir()] if (run / folder).is_dir() else []
    return [name for name in [*names, *inside] if (run / name).is_file()]
