"""How long a network takes to answer, and with how many multiply-adds."""

import statistics
import time

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

SECONDS = 1.5


@torch.inference_mode()
def median_seconds(model: nn.Module, pixels: Tensor) -> float:
    """Median of the seconds that one batch takes, repeated for 1.5 s; the first time does not count.

    Args:
        model: in eval mode.
        pixels: float32 [B, 3, S, S], on its device.
    """
    cuda = pixels.device.type == "cuda"
    model(pixels)
    taken: list[float] = []
    ends = time.perf_counter() + SECONDS
    while not taken or time.perf_counter() < ends:
        if cuda:
            torch.cuda.synchronize(pixels.device)
        started = time.perf_counter()
        model(pixels)
        if cuda:
            torch.cuda.synchronize(pixels.device)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


@torch.inference_mode()
def multiply_adds(model: nn.Module, pixels: Tensor) -> float:
    """Of one batch, as torch counts them: half its floating-point operations."""
    with FlopCounterMode(display=False) as counter:
        model(pixels)
    return float(counter.get_total_flops()) / 2
