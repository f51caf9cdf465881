"""The cache as a run needs it: of these images, complete, serving the loss; or with its teacher in the loop."""

import math
from pathlib import Path
from typing import Any

from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.console.errors import Mismatch, UsageProblem
from deit_pipe.stages.console.progress import note
from deit_pipe.stages.machine.distributed import Processes
from deit_pipe.stages.networks.teacher import load_cached
from deit_pipe.stages.networks.teacher_sources import RANDOM
from deit_pipe.stages.opened.arrays import CachedArrays
from deit_pipe.stages.opened.continue_line import continue_teacher
from deit_pipe.stages.opened.replay import ReplayContext
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.training.losses import DistillationLoss
from deit_pipe.stages.training.served_targets import check_served, lumped_line
from deit_pipe.stages.training.settings import loss_kind
from deit_pipe.stages.training.target_sources import OnlineTargets
from deit_pipe.store.errors import CacheCorrupt, CacheIncomplete
from deit_pipe.store.formats import TargetFormat
from deit_pipe.store.layout import block_slots_for
from deit_pipe.store.ledger import refuse_foreign
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.stored_cache import StoredCache, StoredTeacher

LONGEST = 10**9  # more epochs than any cache has


def teacher_names(options: TrainStudentOptions, cache: StoredCache, begun: dict[str, Any] | None = None) -> list[str]:
    """The cached teachers to learn from, by name.

    The loss `none` learns from none: its views are compared with those of a complete teacher where there is one, its
    order follows the blocks of any. A run goes on with those it was `begun` with, whoever joined them since; of
    several, the only one that is complete is taken, and said.
    """
    if options.teacher or options.online_teacher:
        return asked_teachers(cache, options.teacher)
    if begun is not None and begun.get("loss") == loss_kind(options) and "teacher" in begun:
        return [name for name, _ in weighted_teachers(begun["teacher"])] if begun["teacher"] else []
    names = cache.teacher_names
    whole = [name for name in names if is_complete(cache, name)]
    if loss_kind(options) == "none":
        return whole[:1] or names[:1]
    if len(names) > 1 and len(whole) == 1:
        note(f"note: learning from {whole[0]}, the only complete one of {len(names)} teachers")
        return whole
    return asked_teachers(cache, None)


def asked_teachers(cache: StoredCache, asked: str | None) -> list[str]:
    """Names as they are asked for, `a` or `a,b`; else that of the only teacher.

    Raises:
        CacheMissing, FormatInvalid: there is none, or the choice must be made.
    """
    if asked:
        return [name for name, _ in weighted_teachers(asked)]
    if len(cache.teacher_names) != 1:
        TargetReader(cache.place)  # raises
    return cache.teacher_names


def weighted_teachers(asked: str) -> list[tuple[str, float]]:
    """Names and weights of `a`, `a,b` or `a:2,b:1`; a weight that is not said is 1.

    Raises:
        UsageProblem: spelled otherwise, a name twice, or nothing that weighs.
    """
    found: dict[str, float] = {}
    for part in asked.split(","):
        name, sign, number = (word.strip() for word in part.partition(":"))
        try:
            weight = float(number) if sign else 1.0
        except ValueError:
            weight = math.nan
        if not name or name in found or not (math.isfinite(weight) and weight >= 0):
            problem = "names a teacher twice" if name in found else f"cannot be read at {part.strip()!r}"
            raise _wrong_weights(asked, problem)
        found[name] = weight
    if not any(found.values()):
        raise _wrong_weights(asked, "gives every teacher the weight 0")
    return list(found.items())


def _wrong_weights(asked: str, problem: str) -> UsageProblem:
    return UsageProblem(
        f"--teacher {asked!r} {problem}",
        expected="names of cached teachers, each with a weight of at least 0 behind a colon or without one",
        cure="give for example --teacher a:2,b:1",
    )


def is_complete(cache: StoredCache, name: str) -> bool:
    """Whether epochs of the teacher can be shown now: all that are wanted, or all that were before it was extended."""
    return cache.teacher(name).usable_epochs(LONGEST) > 0


def cached_epochs(cache: StoredCache, names: list[str], epochs: int, begun: dict[str, Any] | None) -> int:
    """How many cached epochs a run of `epochs` shows in turn: of a cache that is only planned, the planned ones.

    Without any teacher nothing limits them: every epoch has its own views. A run goes on with the number it was `begun`
    with: a cache that was extended since must not change its order.
    """
    here = min((epochs_of(cache.teacher(name), epochs) for name in names), default=epochs)
    started = int((begun or {}).get("cached_epochs", here))
    return min(started, here)


def epochs_of(teacher: StoredTeacher, epochs: int) -> int:
    """Epochs of a teacher that a run of `epochs` can take now; of one that is incomplete, all that are wanted."""
    return teacher.usable_epochs(epochs) or teacher.ledger.epochs or 1


def block_slots(cache: StoredCache, names: list[str]) -> int:
    """Slots of a block, the unit of shuffling: the first teacher's; without one, those of a dense cache's default."""
    if names:
        return cache.teacher(names[0]).identity.block_slots
    manifest = cache.manifest
    dense = TargetFormat.parse("dense", (1.0,), manifest.num_classes)
    return block_slots_for(dense, manifest.num_classes, manifest.recipe.get("mix_group", 1), manifest.num_samples)


def open_readers(
    options: TrainStudentOptions, cache: StoredCache, names: list[str], loss: DistillationLoss, epochs: int
) -> list[TargetReader]:
    """A reader per teacher, of its first `epochs` epochs, all complete; for the loss `none` only of such teachers."""
    if options.online_teacher:
        return []
    if loss.kind == "none":
        names = [name for name in names if is_complete(cache, name)]
    return [open_reader(options.cache, name, loss, epochs) for name in names]


def check_labelled(table: SampleTable, loss: DistillationLoss) -> None:
    """Refuse a loss that learns from labels alone where images have none.

    Raises:
        Mismatch: says how many.
    """
    unlabelled = int((table.labels < 0).sum())
    if not unlabelled or (loss.kind != "none" and loss.alpha > 0):
        return
    asked = "--loss none" if loss.kind == "none" else f"--loss {loss.kind} --set alpha=0"
    raise Mismatch(
        (f"{asked} learns from labels only, and {unlabelled:,} of the {len(table):,} training images have none"),
        expected="a label for every image, or a teacher",
        got=f"{table.name}, {unlabelled:,} unlabelled",
        cure="use --loss hard (the teacher's answers teach them), or make a cache of the labelled images alone",
    )


def open_reader(cache: str, name: str, loss: DistillationLoss | None = None, epochs: int | None = None) -> TargetReader:
    """A teacher, complete in its first `epochs` epochs, whose targets serve the loss, if there is one yet.

    Raises:
        CacheMissing: no such teacher. CacheIncomplete: blocks are missing. CacheCorrupt: they are damaged.
        Mismatch: the loss asks for what is not stored.
    """
    try:
        reader = TargetReader(cache, name, epochs=epochs)
    except (CacheIncomplete, CacheCorrupt) as error:
        # the store knows neither data nor recipe by name, so its own cure is only a part of the command
        said = str(error).splitlines()[:-1]
        command = continue_teacher(cache, name)
        raise type(error)("\n".join([*said, f"continue with: {command}"])) from error
    if loss is None:
        return reader
    check_served(cache, reader.identity.name, reader.identity.format, loss)
    if line := lumped_line(reader, loss):
        note(line)
    return reader


def online_targets(
    options: TrainStudentOptions,
    group: Processes,
    stored: StoredTeacher,
    table: SampleTable,
    context: ReplayContext,
) -> OnlineTargets:
    """The cache's own teacher, in the loop; other weights are refused. Its views are compared where blocks are there.

    Raises:
        Mismatch: other weights. CacheCorrupt: the ledger's records are another teacher's.
    """
    identity = stored.identity
    refuse_foreign(stored.cache.place, identity.name, stored.ledger)
    weights = options.teacher_weights
    if weights is None:
        runs = stored.runs
        recorded = runs[-1]["provenance"].get("weights", "") if runs else ""
        known = bool(recorded) and Path(recorded).exists()
        weights = recorded if known else RANDOM if recorded.startswith(RANDOM) else None
        if known and group.first:
            note(f"teacher: {recorded}, where the cache says its weights are")
    teacher = load_cached(
        identity, weights, class_names=table.class_names, device=group.device, seed=stored.cache.manifest.seed
    )
    if teacher.weights_sha256 != identity.weights_sha256:
        raise Mismatch(
            f"online-teacher has other weights than {options.cache}",
            details=[(f"weights sha256  cached {identity.weights_sha256[:16]}   given {teacher.weights_sha256[:16]}")],
            cure="give the weights the cache was made with: --set teacher-weights=FILE",
        )
    cached = CachedArrays(stored.cache, identity.name)
    return OnlineTargets(teacher, identity.format, identity.batch_size, cached, context)
