"""What a student costs to use: parameters, multiply-adds, images a second, memory."""

from pathlib import Path
from typing import Any

import torch

from deit_pipe.stages.machine.answer_time import median_seconds, multiply_adds
from deit_pipe.stages.networks.student import load_student


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
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "GMACs": multiply_adds(model, pixels[:1]) / 1e9,
        "img/s": batch_size / median_seconds(model, pixels),
        "memory": torch.cuda.max_memory_allocated(device) if cuda else None,
    }
