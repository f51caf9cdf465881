"""Checkpoints of a training run: safetensors and JSON, written aside and made current by one commit of the run's SUMS.

    RUN/checkpoints/00001200/  model, optimizer, ema, random .safetensors and state.json
    RUN/checkpoints/00000900/  the one before it: what is gone on with when the last one is damaged
    RUN/checkpoints/last.json  {"folder": "00001200"}; what neither it nor SUMS names does not count

A kill at any instant leaves the previous checkpoint in force. No pickled code is ever read.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from deit_pipe.stages.console.errors import Corrupt, TrainingDiverged, UsageProblem
from deit_pipe.stages.console.progress import note
from deit_pipe.stages.networks.durable_files import partial_of, replace_durably, write_partial
from deit_pipe.stages.networks.file_names import CHECKPOINTS, METRICS, POINTER, RESULT, SHOWN, STUDENT_WEIGHTS
from deit_pipe.stages.networks.settled_run import (
    POINTED,
    TENSORBOARD,
    checkpoint_of,
    cure,
    kept_checkpoints,
    last_checkpoint,
)
from deit_pipe.stages.networks.sums import commit
from deit_pipe.stages.networks.tensor_file import save_tensors
from deit_pipe.stages.training.run_folder import json_bytes, read_json

KEPT = 2
STATE = "state.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything a run needs to go on, bit for bit.

    Attributes:
        model: state dict of the student.
        optimizer: `Optimizer.state_dict()`.
        ema: state dict of the averaged student, or None.
        random: generator states of all ranks, uint8 tensors by name.
        state: position, best metric and sums, as JSON values.
    """

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    ema: dict[str, Tensor] | None
    random: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(run: Path, checkpoint: Checkpoint, name: str) -> None:
    """Write a checkpoint and make it the last one; of the older ones the last is kept.

    Raises:
        OSError: it cannot be written; the checkpoints before are as they were.
    """
    root = run / CHECKPOINTS
    folder, partial = root / name, partial_of(root / name)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tensors, plain = _flatten(checkpoint.optimizer)
    save_tensors(checkpoint.model, partial / "model.safetensors")
    save_tensors(tensors, partial / "optimizer.safetensors")
    save_tensors(checkpoint.random, partial / "random.safetensors")
    if checkpoint.ema is not None:
        save_tensors(checkpoint.ema, partial / "ema.safetensors")
    state = {**checkpoint.state, "threads": torch.get_num_threads(), "optimizer": plain}
    write_partial(partial / STATE, json_bytes(state))
    replace_durably(partial / STATE)
    shutil.rmtree(folder, ignore_errors=True)
    replace_durably(folder)
    before = [one for one in kept_checkpoints(run) if one < name][1 - KEPT :]
    kept = {name, *before}
    write_partial(root / POINTER, json_bytes({"folder": name}))
    commit(
        run,
        [POINTED],
        placed=[f"{CHECKPOINTS}/{name}/{path.name}" for path in folder.iterdir()],
        dropped=lambda file: checkpoint_of(file) not in {None, *kept},
    )
    for other in root.iterdir():
        if other.is_dir() and other.name not in kept:
            shutil.rmtree(other, ignore_errors=True)


def load_checkpoint(run: Path) -> Checkpoint | None:
    """The last checkpoint of a run, None when there is none.

    Raises:
        Corrupt: it is there but cannot be read.
    """
    name = last_checkpoint(run)
    if name is None:
        return None
    folder = run / CHECKPOINTS / name
    try:
        state = read_json(folder / STATE)
        if state is None:
            raise FileNotFoundError(f"{STATE} is not there")
        plain = state.pop("optimizer")
        ema = folder / "ema.safetensors"
        return Checkpoint(
            model=load_file(folder / "model.safetensors"),
            optimizer=_unflatten(load_file(folder / "optimizer.safetensors"), plain),
            ema=load_file(ema) if ema.is_file() else None,
            random=load_file(folder / "random.safetensors"),
            state=state,
        )
    except Exception as error:  # whatever a damaged file makes the readers raise, the cure is the same
        raise Corrupt(
            f"the last checkpoint of {run} cannot be read",
            details=[f"{type(error).__name__}: {error}"],
            cure=cure(run, f"{CHECKPOINTS}/{name}/{STATE}"),
        ) from error


def save_weights(run: Path, name: str, model: Mapping[str, Tensor]) -> None:
    """Replace a weights file of a run, at once with its line in SUMS."""
    save_tensors(model, partial_of(run / name))
    commit(run, [name])


def finish_run(
    run: Path, model: Mapping[str, Tensor], result: dict[str, Any], shown: dict[str, Any] | None = None
) -> None:
    """End a run: its student, its result, what is shown of it and its metrics are vouched for at once."""
    save_tensors(model, partial_of(run / STUDENT_WEIGHTS))
    write_partial(run / RESULT, json_bytes(result))
    if shown is not None:
        write_partial(run / SHOWN, json_bytes(shown))
    events = [path.relative_to(run).as_posix() for path in (run / TENSORBOARD).glob("*") if path.is_file()]
    commit(run, [STUDENT_WEIGHTS, RESULT, *([SHOWN] if shown is not None else [])], placed=[METRICS, *events])


def _flatten(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state as tensors named `index.name`, and the rest as JSON values."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value
            elif isinstance(value, list | tuple) and any(isinstance(part, Tensor) for part in value):
                raise UsageProblem(
                    "this optimiser keeps state that a checkpoint cannot hold",
                    cure="use --set optimizer=adamw, lamb or sgd",
                )
            else:
                numbers.setdefault(str(index), {})[name] = value
    groups = [{key: _plain(value) for key, value in group.items()} for group in state["param_groups"]]
    return tensors, {"numbers": numbers, "param_groups": groups}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else list(value) if isinstance(value, tuple) else value


def _unflatten(tensors: dict[str, Tensor], plain: dict[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in plain["numbers"].items()}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    return {"state": state, "param_groups": plain["param_groups"]}


def restore_optimizer(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Load a saved optimiser state; tuples, which JSON turns into lists, are tuples again."""
    for group, own in zip(saved["param_groups"], optimizer.param_groups, strict=True):
        for key, value in own.items():
            if isinstance(value, tuple) and key in group:
                group[key] = tuple(group[key])
    optimizer.load_state_dict(saved)
    # state comes back contiguous; in another memory order than its parameter it would add up in another order
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def check_finite(student: nn.Module, when: str) -> None:
    """Refuse to save weights that nobody can go on with.

    Raises:
        TrainingDiverged: a weight is not finite; the checkpoint before is kept.
    """
    if not all(bool(torch.isfinite(value).all()) for value in student.parameters()):
        raise TrainingDiverged(
            f"a weight is not finite {when}",
            details=["the last good checkpoint is kept"],
            cure="lower --lr, or --set clip-grad=1; then run again with a new --out",
        )


def restore_threads(state: Mapping[str, Any]) -> None:
    """Take as many CPU threads as the run had, for their number can change the last bits of a weight.

    Args:
        state: of a checkpoint; one of an older version recorded none, and leaves them as they are.
    """
    threads = int(state.get("threads", 0))
    if threads and threads != torch.get_num_threads():
        note(f"{threads} CPU threads, as the run had, and not {torch.get_num_threads()}")
        torch.set_num_threads(threads)


def random_states(device: torch.device, rank: int) -> dict[str, Tensor]:
    """States of the generators that drop path draws from, by name."""
    states = {f"cpu.{rank}": torch.get_rng_state()}
    if device.type == "cuda":
        states[f"cuda.{rank}"] = torch.cuda.get_rng_state(device)
    return states


def restore_random(states: dict[str, Tensor], device: torch.device, rank: int) -> None:
    """Set the generators back; a state that was not saved (another world size) is left as it is."""
    if f"cpu.{rank}" in states:
        torch.set_rng_state(states[f"cpu.{rank}"])
    if device.type == "cuda" and f"cuda.{rank}" in states:
        torch.cuda.set_rng_state(states[f"cuda.{rank}"], device)
