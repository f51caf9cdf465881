"""A command in two processes on the CPU (gloo), as torchrun would start them."""

import contextlib
import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch


def rank_main(rank: int, port: int, run: Callable[[Any], Any], options: Any) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    run(options)


def free_port() -> int:
    """A port below those that the system hands out by itself, so that nobody takes it before rank 0 does."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port")


def run_on_two(run: Callable[[Any], Any], options: Any) -> None:
    port = free_port()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deit_pipe.stages.cache_teacher", "deit_pipe.stages.train_student"])
    ranks = [context.Process(target=rank_main, args=(rank, port, run, options)) for rank in range(2)]
    for process in ranks:
        process.start()
    going = {process.sentinel: process for process in ranks}
    while going:  # until both ended, or one failed: the other would wait for it for ever
        for sentinel in wait(list(going)):
            if going.pop(sentinel).exitcode != 0:  # type: ignore[call-overload]
                for other in going.values():
                    other.kill()
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0, 0]


def share_on_rank(folder: Path) -> None:
    """What a tensor of each rank holds once rank 0's was shared, in a file called as the rank."""
    from deit_pipe.stages.machine.distributed import processes

    with processes("cpu") as group:
        values = torch.tensor([1.0 + group.rank])
        group.share([values])
        (folder / str(group.rank)).write_text(str(float(values)))
