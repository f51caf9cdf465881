"""A run folder: names of its files, config, metrics; and the rule that a run goes on only as it was begun. No torch."""

import fcntl
import hashlib
import json
import os
import shlex
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deit_pipe.stages.console.errors import Corrupt, Mismatch, Missing
from deit_pipe.stages.console.progress import note
from deit_pipe.stages.networks.begun_command import begun_command
from deit_pipe.stages.networks.custom_student import CUSTOM, CustomSizes, custom_text
from deit_pipe.stages.networks.durable_files import naming, no_link, open_regular, write_partial
from deit_pipe.stages.networks.file_names import (
    BEST_WEIGHTS,
    CHECKPOINTS,
    METRICS,
    RESULT,
    RUN_CONFIG,
    STUDENT_FACTS,
    STUDENT_WEIGHTS,
)
from deit_pipe.stages.networks.settled_run import POINTED, TENSORBOARD, is_begun, last_checkpoint, settle
from deit_pipe.stages.networks.sums import check_sums, commit

CONFIG = RUN_CONFIG
MOST_BYTES = 64_000_000
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

    Raises:
        Corrupt: it is not what was written.
    """
    if not is_begun(run):
        return None
    config = read_config(run) or None
    if config is not None and "width" in config and config.get("student") == CUSTOM:  # as it was said before
        sizes = CustomSizes(*(config[name] for name in ("width", "depth", "heads", "patch_size")))
        config["student"] = custom_text(sizes)
    if config is not None and (weights := config.get("teacher_loss_weights")):  # likewise
        config["teacher"] = teachers_text(config["teacher"].split(","), [float(part) for part in weights.split(",")])
    return config


def teachers_text(names: Sequence[str], weights: Sequence[float]) -> str:
    """How a run's config names its teachers: `a,b`; with weights that differ, `a:2,b:1`.

    Every digit of a weight is kept: who goes on with the run reads them here.
    """
    if len(set(weights)) < 2:
        return ",".join(names)
    return ",".join(f"{name}:{str(weight).removesuffix('.0')}" for name, weight in zip(names, weights, strict=True))


def read_config(run: Path) -> dict[str, Any]:
    """Every option of a run; empty where its folder says none, as one that only holds a student.

    Raises:
        Corrupt: it is not what was written.
    """
    if (run / CONFIG).is_file():
        check_sums(run, [CONFIG])
    return read_json(run / CONFIG) or {}


def begin(run: Path, config: dict[str, Any], given: Collection[str] = ()) -> None:
    """Create the folder, or check that it holds this very run.

    Args:
        run: the folder.
        config: every option with the value that is used.
        given: options that were given. What the folder's config lacks came with a later version, and means what the
            run did before, unless it was given.

    Raises:
        Mismatch: the folder holds another run; every differing option is named.
        Corrupt: a file of it is not what was written; what cures that is said.
    """
    settle(run)
    there = begun_config(run)
    if there is None:
        run.mkdir(parents=True, exist_ok=True)
        write_partial(run / CONFIG, json_bytes(config))
        commit(run, [CONFIG], fresh=not is_begun(run))
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
    with open(run / LOCK, "w", opener=no_link) as file:
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
    folder = last_checkpoint(run)
    if folder is None:
        raise Missing(f"{run} has no checkpoint", cure=f"train with: {begun}")
    check_sums(run, [POINTED])
    return f"{CHECKPOINTS}/{folder}/model.safetensors"


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON file, None where there is none.

    Raises:
        Corrupt: it is no JSON object.
    """
    if not path.is_file():
        return None
    said, data = "no JSON object", None
    try:
        with open_regular(path) as file:
            data = json.loads(file.read(MOST_BYTES))
    except (ValueError, RecursionError) as error:
        said = str(error)
    if not isinstance(data, dict):
        raise Corrupt(f"{path} cannot be read: {said}", cure="restore it from a copy, or train again with a new --out")
    return data


def json_bytes(data: dict[str, Any]) -> bytes:
    """A JSON file's content."""
    return (json.dumps(data, indent=2) + "\n").encode()


def put_json(run: Path, name: str, data: dict[str, Any]) -> None:
    """Replace a JSON file of a run, at once with its line in SUMS."""
    write_partial(run / name, json_bytes(data))
    commit(run, [name])


class Metrics:
    """`metrics.jsonl`, one JSON object a line; TensorBoard events beside it where asked for."""

    def __init__(
        self, run: Path, size: int, sha256: str | None = None, *, tensorboard: bool = False, step: int = 0
    ) -> None:
        """Append from byte `size` on: lines written after the checkpoint that a run resumes from are cut off.

        Raises:
            Corrupt: what stands before is not what has the SHA-256; a file that was removed is begun anew.
        """
        path = run / METRICS
        before = path.read_bytes()[:size] if path.exists() else b""
        self._digest = hashlib.sha256(before)
        if size and not path.exists():
            note(f"{path} was removed: the run goes on without its lines up to step {step}")
        elif size and sha256 not in (None, self._digest.hexdigest()):
            raise Corrupt(
                f"{path} is not the file that was written",
                expected=f"{size:,} bytes of sha256 {sha256}",
                got=f"{len(before):,} bytes of sha256 {self._digest.hexdigest()}",
                cure=f"restore it from a copy; or go on without the lines so far: rm {shlex.quote(str(path))}",
            )
        # a line at a time, so that a report can be made while the run goes on
        handle = no_link(str(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._file, self._path = os.fdopen(handle, "a", encoding="utf-8", buffering=1), path
        self._file.truncate(len(before))
        self._writer: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise Missing(
                    f"--set tensorboard=true needs {error.name or 'tensorboard'}",
                    cure="install it with: pip install 'deit-pipe[tensorboard]'",
                ) from error
            self._writer = SummaryWriter(str(run / TENSORBOARD), purge_step=step + 1)

    @property
    def size(self) -> int:
        """Bytes written so far, durable."""
        with naming(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
        return self._path.stat().st_size

    def mark(self) -> dict[str, Any]:
        """What a checkpoint keeps of the lines so far: bytes and SHA-256."""
        return {"metrics_bytes": self.size, "metrics_sha256": self._digest.hexdigest()}

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Add a line `{"kind": ..., "step": ..., **values}`."""
        line = json.dumps({"kind": kind, "step": step, **values}) + "\n"
        with naming(self._path):
            self._file.write(line)
        self._digest.update(line.encode())
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
