"""What a student costs to use: parameters, multiply-adds, images a second, memory."""

import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from deit_pipe.stages.networks.student import load_student

SECONDS = 1.5


def inference_cost(folder: Path, device: torch.device, batch_size: int) -> dict[str, Any]:
    """Measure one run's student.

    Returns:
        parameters; GMACs: multiply-adds of one image / 1e9; img/s: in batches of `batch_size`, the median of short
        stretches, float32; memory: bytes of the device at most while it answered, None on a CPU.
    """
    facts, model = load_student(folder, device)
    pixels = torch.rand(batch_size, 3, facts.image_size, facts.image_size, device=device)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            model(pixels[:1])
        model(pixels)
        rates: list[float] = []
        ends = time.perf_counter() + SECONDS
        while not rates or time.perf_counter() < ends:
            started = time.perf_counter()
            model(pixels)
            if cuda:
                torch.cuda.synchronize(device)
            rates.append(batch_size / (time.perf_counter() - started))
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "GMACs": counter.get_total_flops() / 2e9,
        "img/s": sorted(rates)[len(rates) // 2],
        "memory": torch.cuda.max_memory_allocated(device) if cuda else None,
    }
