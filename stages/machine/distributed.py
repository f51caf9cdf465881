"""The processes of one run: alone, or started by torchrun (gloo on the CPU, nccl on GPUs)."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from deit_pipe.stages.console.errors import UsageProblem

PATIENCE = timedelta(days=2)


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    Attributes:
        rank: 0 .. world - 1; rank 0 alone writes metadata, reports and checkpoints.
        world: number of processes.
        device: where this process computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all processes; nothing when alone."""
        if self.world > 1:
            dist.barrier()

    def sum(self, values: list[float]) -> list[float]:
        """Element-wise sums over all processes, in float64."""
        if self.world == 1:
            return values
        # float64 on the CPU for gloo; nccl needs the tensor on its GPU
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(value) for value in total]

    def share(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give every process rank 0's values, in place."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on at least one process."""
        return self.sum([float(flag)])[0] > 0


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """`auto` is the GPU of this process where there is one, else the CPU.

    Raises:
        UsageProblem: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageProblem(f"--device {name} is not a device", cure="use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageProblem(f"--device {name}: no CUDA GPU is usable here", cure="use --device cpu")
        if device.index is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UsageProblem(
                f"--device {name} would put all processes on one GPU", cure="use --device cuda under torchrun"
            )
        index = local_rank if device.index is None else device.index
        if index >= torch.cuda.device_count():
            raise UsageProblem(
                f"--device cuda:{index}: there are {torch.cuda.device_count()} GPUs", cure="start fewer processes"
            )
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    elif device.type != "cpu":
        try:
            torch.zeros(1, device=device).item()
        except (RuntimeError, NotImplementedError, AssertionError) as error:
            raise UsageProblem(
                f"--device {name} is not usable here",
                details=[str(error).split("\n")[0][:200]],
                cure="use --device cpu",
            ) from error
    return device


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the group that torchrun set up (or stand alone), and leave it at the end."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if world == 1:
        yield Processes(0, 1, chosen)
        return
    # the others wait while rank 0 verifies a cache or fits a head, which can take hours
    dist.init_process_group(
        "nccl" if chosen.type == "cuda" else "gloo",
        timeout=PATIENCE,
        device_id=chosen if chosen.type == "cuda" else None,
    )
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        dist.destroy_process_group()
