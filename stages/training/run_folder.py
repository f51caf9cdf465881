"""A run folder: names of its files, config, metrics; and the rule that a run goes on only as it was begun. No torch."""

import fcntl
import json
import os
import shlex
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deit_pipe.stages.console.errors import Mismatch, Missing
from deit_pipe.stages.networks.begun_command import begun_command
from deit_pipe.stages.networks.custom_student import CUSTOM, CustomSizes, custom_text
from deit_pipe.stages.networks.file_names import RUN_CONFIG, STUDENT_FACTS, STUDENT_WEIGHTS

CONFIG = RUN_CONFIG
METRICS = "metrics.jsonl"
RESULT = "result.json"
BEST_WEIGHTS = "best.safetensors"
CHECKPOINTS = "checkpoints"
POINTER = "last.json"
LOCK = ".lock"

# What may change between the parts of one run without changing its weights.
FREE = {
    "out",
    "data",
    "workers",
    "device",
    "log_steps",
    "checkpoint_steps",
    "tensorboard",
    "eval_every",
    "eval_crop_ratio",
    "teacher_weights",
    "cache",
    "print_config",
    "world",
    "data_choice",
    "command",
    "samples_digest",
}


def begun_config(run: Path) -> dict[str, Any] | None:
    """The config of a run that has something to go on with, else None.

    A run that failed before its first checkpoint left nothing to protect.
    """
    there = (run / CHECKPOINTS / POINTER).is_file() or (run / RESULT).is_file()
    config = read_json(run / CONFIG) if there else None
    if config is not None and "width" in config and config.get("student") == CUSTOM:  # as it was said before
        sizes = CustomSizes(*(config[name] for name in ("width", "depth", "heads", "patch_size")))
        config["student"] = custom_text(sizes)
    return config


def begin(run: Path, config: dict[str, Any], given: Collection[str] = ()) -> None:
    """Create the folder, or check that it holds this very run.

    Args:
        run: the folder.
        config: every option with the value that is used.
        given: options that were given. What the folder's config lacks came with a later version, and means what the
            run did before, unless it was given.

    Raises:
        Mismatch: the folder holds another run; every differing option is named.
    """
    there = begun_config(run)
    if there is None:
        run.mkdir(parents=True, exist_ok=True)
        write_json(run / CONFIG, config)
        return
    different = [
        name
        for name in config
        if name not in FREE
        and json.loads(json.dumps(config[name])) != there.get(name)
        and (name in there or name in given)
    ]
    if different:
        lines = [f"{name.replace('_', '-')}: there {there.get(name)}   given {config[name]}" for name in different]
        raise Mismatch(f"{run} holds another run", details=lines, cure="give another folder with --out")


@contextmanager
def only_writer(run: Path) -> Iterator[None]:
    """Hold the folder's lock; it goes with the process, however that ends.

    Raises:
        Missing: another process is training into this folder.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Missing(
                f"{run} is in use: another process is training into it",
                cure="wait for it to end, or give another folder with --out",
            ) from error
        yield


def finished(run: Path) -> dict[str, Any] | None:
    """The result of a finished run, else None."""
    return read_json(run / RESULT)


def weights_file(run: Path, which: str) -> str:
    """Path, below the run folder, of its `result`, `best` or `last` weights.

    Raises:
        Missing: `last`, and there is no checkpoint; `best`, and nothing was selected.
    """
    quoted = shlex.quote(str(run))
    begun = begun_command(run)
    if which == "best" and not (run / RESULT).is_file() and not (run / BEST_WEIGHTS).is_file():
        raise Missing(f"{run} is not finished and has no best weights yet", cure=f"finish it with: {begun}")
    if which == "best" and (run / STUDENT_FACTS).is_file() and not (run / BEST_WEIGHTS).is_file():
        raise Missing(
            (f"{run} has no best weights: no epoch of it was measured on validation images, so none was selected"),
            cure=f"take its last ones: deit-pipe evaluate {quoted} --weights result",
        )
    if which != "last":
        return STUDENT_WEIGHTS if which == "result" else BEST_WEIGHTS
    pointer = read_json(run / CHECKPOINTS / POINTER)
    if pointer is None:
        raise Missing(f"{run} has no checkpoint", cure=f"train with: {begun}")
    return f"{CHECKPOINTS}/{pointer['folder']}/model.safetensors"


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON file, None where there is none."""
    if not path.is_file():
        return None
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Replace a JSON file atomically and durably."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(data, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


class Metrics:
    """`metrics.jsonl`, one JSON object a line; TensorBoard events beside it where asked for."""

    def __init__(self, run: Path, size: int, *, tensorboard: bool = False, step: int = 0) -> None:
        """Append from byte `size` on: lines written after the checkpoint that a run resumes from are cut off."""
        # a line at a time, so that a report can be made while the run goes on
        self._file = (run / METRICS).open("a", encoding="utf-8", buffering=1)
        self._file.truncate(min(size, (run / METRICS).stat().st_size))
        self._writer: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise Missing(
                    f"--set tensorboard=true needs {error.name or 'tensorboard'}",
                    cure="install it with: pip install 'deit-pipe[tensorboard]'",
                ) from error
            self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        self._file.flush()
        return Path(self._file.name).stat().st_size

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Add a line `{"kind": ..., "step": ..., **values}`."""
        self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        if self._writer is not None:
            for name, value in _flat(values).items():
                self._writer.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._writer is not None:
            self._writer.close()


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found.update(_flat(value, f"{prefix}{name}/"))
        elif isinstance(value, int | float):
            found[prefix + name] = float(value)
    return found
