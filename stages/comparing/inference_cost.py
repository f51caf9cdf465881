"""What a student costs to use: parameters, multiply-adds, images a second, memory."""

from pathlib import Path

import torch

from deit_pipe.stages.comparing.compared_runs import InferenceCost
from deit_pipe.stages.machine.answer_time import median_seconds, multiply_adds
from deit_pipe.stages.networks.student import load_student


def inference_cost(folder: Path, device: torch.device, batch_size: int) -> InferenceCost:
    """Measure one run's student, in batches of `batch_size`."""
    facts, model = load_student(folder, device)
    pixels = torch.rand(batch_size, 3, facts.image_size, facts.image_size, device=device)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    return InferenceCost(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        gmacs=multiply_adds(model, pixels[:1]) / 1e9,
        images_per_second=batch_size / median_seconds(model, pixels),
        memory=torch.cuda.max_memory_allocated(device) if cuda else None,
    )
