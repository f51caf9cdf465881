"""The cache as a run needs it: of these images, complete, serving the loss; or its teacher in the loop."""

from pathlib import Path

from deit_pipe.pipeline.recipe import VIEWS_VERSION, Recipe
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.stages.cache_summary import next_command, summarise
from deit_pipe.stages.data import manifest_for
from deit_pipe.stages.distributed import Processes
from deit_pipe.stages.errors import Mismatch
from deit_pipe.stages.losses import DistillationLoss
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.target_sources import OnlineTargets
from deit_pipe.stages.teacher import RANDOM, load_teacher
from deit_pipe.store.errors import CacheCorrupt, CacheIncomplete, CacheMismatch
from deit_pipe.store.manifest import Manifest, TeacherIdentity, list_teachers
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.runs import read_runs


def teacher_names(options: TrainStudentOptions) -> list[str]:
    """The cached teachers to learn from, by name."""
    if options.teacher:
        return options.teacher.split(",")
    names = list_teachers(options.cache)
    if len(names) != 1:
        TargetReader(options.cache)  # raises: there is none, or the choice must be made
    return names


def check_samples(cache: str, manifest: Manifest, table: SampleTable, recipe: Recipe) -> None:
    """Refuse other images, or a program whose views differ.

    Raises:
        CacheMismatch: the differing fields are named.
    """
    given = manifest_for(table, recipe, manifest.seed, manifest.image_size)
    differences = manifest.differences(given, Recipe.later_defaults())
    if differences:
        lines = "\n".join(f"  {d.field}: cached {d.cached}   given {d.given}" for d in differences)
        cure = f"name the cached images with --data (given: {table.name})"
        if manifest.views_version != VIEWS_VERSION:
            cure = (
                "this deit-pipe makes other views: use the one that wrote the cache, or make the cache again"
            )
        raise CacheMismatch(
            f"cache mismatch: {cache} was made from something else\n{lines}\n{cure}", differences
        )


def open_reader(options: TrainStudentOptions, name: str, loss: DistillationLoss) -> TargetReader:
    """A complete teacher whose targets serve the loss.

    Raises:
        Mismatch: the soft loss asks for what is not stored.
    """
    try:
        reader = TargetReader(options.cache, name)
    except (CacheIncomplete, CacheCorrupt) as error:
        # the store knows neither data nor recipe by name, so its own cure is only a part of the command
        said = str(error).splitlines()[:-1]
        command = next_command(summarise(options.cache))
        raise type(error)("\n".join([*said, f"continue with: {command}"])) from error
    targets = reader.identity.format
    if loss.kind == "soft" and (
        targets.kind == "none" or (targets.kind == "topk" and loss.tau not in targets.taus)
    ):
        serves = (
            ", ".join(f"{tau:g}" for tau in targets.taus)
            if targets.kind == "topk"
            else "none: it holds labels only"
        )
        raise Mismatch(
            f"{options.cache} cannot serve the soft loss of teacher {name!r} at temperature {loss.tau:g}\n"
            f"  temperatures it serves: {serves}\n"
            "use --loss hard, or make a cache with --logits dense (serves all)"
        )
    return reader


def online_targets(
    options: TrainStudentOptions, group: Processes, identity: TeacherIdentity, table: SampleTable, seed: int
) -> OnlineTargets:
    """The cache's own teacher, in the loop; other weights are refused."""
    weights = options.teacher_weights
    if weights is None:
        runs = read_runs(options.cache, identity.name)
        recorded = runs[-1]["provenance"].get("weights", "") if runs else ""
        known = bool(recorded) and Path(recorded).exists()
        weights = recorded if known else RANDOM if recorded.startswith(RANDOM) else None
    teacher = load_teacher(
        identity.model, weights=weights, num_classes=len(table.class_names), class_names=table.class_names,
        device=group.device, precision=identity.precision, seed=seed,
    )  # fmt: skip
    if teacher.weights_sha256 != identity.weights_sha256:
        raise Mismatch(
            f"--online-teacher has other weights than {options.cache}\n"
            f"  weights sha256  cached {identity.weights_sha256[:16]}   given {teacher.weights_sha256[:16]}\n"
            "give the weights the cache was made with: --teacher-weights FILE"
        )
    return OnlineTargets(teacher, identity.format, identity.batch_size)
