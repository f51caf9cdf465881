"""What a student costs to use on this machine."""

from dataclasses import dataclass

import torch
from torch import nn

from deit_pipe.stages.console.facts import Facts, spelled
from deit_pipe.stages.console.words import human_bytes
from deit_pipe.stages.machine.answer_time import median_seconds, multiply_adds


@dataclass(frozen=True, kw_only=True)
class Speed(Facts):
    """What a student costs to use.

    Attributes:
        device, precision: name of the device, and threads of a CPU; of the arithmetic.
        latency_ms: of one image, median.
        batch_size, images_per_second: in batches.
        gmacs, parameters, bytes: multiply-adds of one image / 1e9; of the weights; of these as a file.
    """

    device: str
    precision: str
    latency_ms: float
    batch_size: int
    images_per_second: float
    gmacs: float = spelled("GMACs")
    parameters: int
    bytes: int


def speed_of(model: nn.Module, image_size: int, device: torch.device, batch_size: int) -> Speed:
    """Measure; in float32, images already on the device."""
    pixels = torch.rand(batch_size, 3, image_size, image_size, device=device)
    cuda = device.type == "cuda"
    return Speed(
        device=torch.cuda.get_device_name(device) if cuda else f"{device.type}, {torch.get_num_threads()} threads",
        precision="float32",
        latency_ms=1000 * median_seconds(model, pixels[:1]),
        batch_size=batch_size,
        images_per_second=batch_size / median_seconds(model, pixels),
        gmacs=multiply_adds(model, pixels[:1]) / 1e9,
        parameters=sum(one.numel() for one in model.parameters()),
        bytes=sum(one.numel() * one.element_size() for one in model.state_dict().values()),
    )


def speed_lines(speed: Speed) -> list[str]:
    """The same for a person."""
    return [
        f"  {speed.device}, {speed.precision}: {speed.latency_ms:.2f} ms for one image, "
        f"{speed.images_per_second:,.0f} images/s in batches of {speed.batch_size}",
        f"  {speed.parameters:,} parameters, {human_bytes(speed.bytes)}, {speed.gmacs:.3g} GMACs an image",
    ]
