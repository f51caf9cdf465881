"""`deit-pipe pack`: images of any supported form -> one Arrow file per split."""

from pathlib import Path
from typing import Any

from deit_pipe.pipeline.sources.packed import pack_samples
from deit_pipe.stages.data import open_training, open_validation
from deit_pipe.stages.options.pack import PackOptions
from deit_pipe.stages.report import CommandResult, human_bytes, progress


def run(options: PackOptions) -> CommandResult:
    """Write every split the data has."""
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    tables = {"train": open_training(options.data), "val": open_validation(options.data, None)}
    written: dict[str, Any] = {}
    for split, table in tables.items():
        if table is None:
            continue
        file = out / f"{split}.arrow"
        with progress(f"packing {split}", len(table), "images") as shown:
            pack_samples(table, file, raw=options.raw, progress=shown.reach)
        written[split] = {"file": str(file), "images": len(table), "bytes": file.stat().st_size}
    lines = [
        f"{split}: {one['images']:,} images, {human_bytes(one['bytes'])}, {one['file']}"
        for split, one in written.items()
    ]
    text = "\n".join([*lines, f"next: deit-pipe cache-teacher --data {out} --teacher regnety_160"])
    return CommandResult(text, {"out": str(out), "raw": options.raw, "splits": written})
