"""`deit-pipe features`: what a student sees in images, as vectors."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deit_pipe.pipeline.errors import DataMissing
from deit_pipe.pipeline.samples import SampleTable
from deit_pipe.pipeline.sources.folder_shape import is_image
from deit_pipe.pipeline.sources.image_folder import FolderSamples
from deit_pipe.stages.answering.any_student import any_student
from deit_pipe.stages.answering.measured_images import find_images
from deit_pipe.stages.answering.vectors import Vectors, read_vectors, write_vectors
from deit_pipe.stages.console.errors import Missing, UsageProblem
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.console.progress import note
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.console.target_file import check_target
from deit_pipe.stages.console.words import human_bytes
from deit_pipe.stages.machine.distributed import choose_device
from deit_pipe.stages.machine.workers import choose_workers
from deit_pipe.stages.networks.starting_weights import is_run
from deit_pipe.stages.options.use.features import FeaturesOptions
from deit_pipe.stages.training.run_folder import read_config


@dataclass(frozen=True)
class FeaturesFile(Facts):
    """What was written.

    Attributes:
        run, model, image_size, crop_ratio: the student, and how its images were made; side in pixels.
        out, rows, bytes: the file, its rows and its size.
        splits, columns: rows by split; numbers of a vector by column.
    """

    run: str
    model: str
    image_size: int
    crop_ratio: float
    out: str
    rows: int
    splits: Mapping[str, int]
    columns: Mapping[str, int]
    bytes: int


def run(options: FeaturesOptions) -> CommandResult[FeaturesFile]:
    """Open student and images, write a row for each image.

    Raises:
        Missing: no student, no images, no such split. UsageProblem: nothing says which images. BadImage: one of them
        cannot be read.
    """
    out, own = Path(options.out), is_run(options.run)
    check_target(out, "--out")
    if options.data is None and not own:
        raise UsageProblem(
            f"{options.run} is no run, so nothing says of which images", cure="name them behind it: features RUN DATA"
        )
    device = choose_device(options.device)
    facts, model = any_student(options.run, device, student=options.student, weights=options.weights)
    config = read_config(Path(options.run)) if own else {}
    tables = tables_of(options, config, facts.class_names)
    shapes: dict[str, int] = {}

    def vectors(split: str, table: SampleTable) -> Iterator[Vectors]:
        workers = choose_workers(options.workers)
        for found in read_vectors(
            model, facts, table, device, batch_size=options.batch_size, workers=workers, title=f"reading {split}"
        ):
            shapes.update({name: value.shape[1] for name, value in found.items()})
            yield found

    about = {"run": options.run, "model": facts.model, "image_size": facts.image_size, "crop_ratio": facts.crop_ratio}
    rows = write_vectors(out, ((name, table, vectors(name, table)) for name, table in tables.items()), about)
    counts = {name: len(table) for name, table in tables.items()}
    written = FeaturesFile(
        options.run,
        facts.model,
        facts.image_size,
        facts.crop_ratio,
        out=str(out),
        rows=rows,
        splits=counts,
        columns=shapes,
        bytes=out.stat().st_size,
    )
    text = (
        f"{out}: {rows:,} images ({', '.join(f'{name} {count:,}' for name, count in counts.items())}), "
        f"{human_bytes(written.bytes)}; " + ", ".join(f"{name} {size}" for name, size in shapes.items())
    )
    return CommandResult(text, written)


def tables_of(options: FeaturesOptions, config: dict[str, Any], class_names: tuple[str, ...]) -> dict[str, SampleTable]:
    """Images by the name of their split; those of a folder that holds nothing but images are `unlabelled`.

    Raises:
        Missing: there is no such split.
    """
    try:
        found = find_images(options.run, options.data, config).images
    except DataMissing:
        keys = images_in(Path(options.data)) if options.data and options.split is None else []
        if not keys:
            raise
        note(f"{options.data}: {len(keys):,} images without labels")
        return {"unlabelled": FolderSamples(Path(str(options.data)), keys, [-1] * len(keys), list(class_names))}
    all_of_them = {"train": found.train, "val": found.val, "test": found.test}
    there = {name: table for name, table in all_of_them.items() if table is not None}
    if options.split is None:
        return there
    if options.split not in there:
        raise Missing(
            f"{found.data} has no {options.split} split",
            details=[f"splits there: {', '.join(there)}"],
            cure="name another one with --split",
        )
    return {options.split: there[options.split]}


def images_in(folder: Path) -> list[str]:
    """Names of the images that lie in a folder itself."""
    return sorted(path.name for path in folder.iterdir() if is_image(path.name)) if folder.is_dir() else []
