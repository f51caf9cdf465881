"""`deit-pipe pack`: images of any supported form -> one Arrow file per split."""

from dataclasses import dataclass, replace
from pathlib import Path

from deit_pipe.pipeline.sources.packed import pack_samples
from deit_pipe.stages.console.command_lines import command_line
from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.console.progress import progress
from deit_pipe.stages.console.result import CommandResult
from deit_pipe.stages.console.words import human_bytes
from deit_pipe.stages.networks.durable_files import naming
from deit_pipe.stages.opened.images import given_choice, open_images
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.options.pack import PackOptions


@dataclass(frozen=True)
class PackedSplit(Facts):
    """A written split: its file, how many images, its size in bytes."""

    file: str
    images: int
    bytes: int


@dataclass(frozen=True)
class PackedData(Facts):
    """The folder, whether its images are `raw` pixels, and its `splits` by name."""

    out: str
    raw: bool
    splits: dict[str, PackedSplit]


def run(options: PackOptions) -> CommandResult[PackedData]:
    """Write every split the data has."""
    # nothing is held out here: whoever opens the copy holds out the same images as of the source
    found = open_images(options.data, replace(given_choice(options), val_fraction=0.0))
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    tables = {"train": found.train, "val": found.val, "test": found.test}
    stale = [file.name for file in sorted(out.glob("*.arrow")) if tables.get(file.stem) is None]
    if stale:
        raise UsageProblem(
            f"{out} holds splits that {options.data} does not have: {', '.join(stale)}",
            details=["they would be taken for splits of these images"],
            cure="remove them, or give another folder with --out",
        )
    written: dict[str, PackedSplit] = {}
    for split, table in tables.items():
        if table is None:
            continue
        file = out / f"{split}.arrow"
        with naming(file), progress(f"packing {split}", len(table), "images") as shown:
            pack_samples(table, file, raw=options.raw, progress=shown.reach)
        written[split] = PackedSplit(str(file), len(table), file.stat().st_size)
    lines = [f"{split}: {one.images:,} images, {human_bytes(one.bytes)}, {one.file}" for split, one in written.items()]
    following = command_line("cache-teacher", CacheTeacherOptions, data=str(out))
    text = "\n".join([*lines, f"next: {following}"])
    return CommandResult(text, PackedData(str(out), options.raw, written))
