"""What a teacher's network is given: which normalisation, and at which size, where the options say so."""

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn.functional import interpolate

from deit_pipe.stages.console.errors import UsageProblem

Triple = tuple[float, ...]


class InputOptions(Protocol):
    """The options that say it."""

    @property
    def teacher_mean(self) -> str | None:
        """`0.485,0.456,0.406`, or one number for all three."""

    @property
    def teacher_std(self) -> str | None:
        """Likewise."""

    @property
    def teacher_img_size(self) -> int | None:
        """Side in pixels."""


@dataclass(frozen=True)
class TeacherInput:
    """What was said of a teacher's input; None is what its file says, or the views' own size.

    Attributes:
        mean: RGB, 0..1 units; `std` likewise, both or neither.
        std: above 0.
        image_size: side in pixels to which its views are resized.
    """

    mean: Triple | None = None
    std: Triple | None = None
    image_size: int | None = None


def read_input(options: InputOptions) -> TeacherInput:
    """The input that the options ask for.

    Raises:
        UsageProblem: no numbers, or one of mean and std alone.
    """
    mean = _triple(options.teacher_mean, "--teacher-mean", -1e3)
    std = _triple(options.teacher_std, "--teacher-std", 1e-6)
    if (mean is None) != (std is None):
        given, other = ("--teacher-mean", "--teacher-std") if std is None else ("--teacher-std", "--teacher-mean")
        raise UsageProblem(
            f"{given} is given without {other}",
            expected="both, or neither: a normalisation has a mean and a standard deviation",
            cure=f"give {other} too, such as --teacher-mean 0.485,0.456,0.406 --teacher-std 0.229,0.224,0.225",
        )
    return TeacherInput(mean, std, options.teacher_img_size)


def _triple(text: str | None, option: str, low: float) -> Triple | None:
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    good = all(math.isfinite(value) and low <= value <= 1e3 for value in values)
    if len(values) not in (1, 3) or not good:
        raise UsageProblem(
            f"{option} cannot be {text!r}",
            expected="three numbers, red, green and blue in units of 0..1, or one for all"
            + (", above 0" if low > 0 else ""),
            cure=f"give for example {option} {'0.229,0.224,0.225' if low > 0 else '0.485,0.456,0.406'}",
        )
    return values if len(values) == 3 else values * 3


def numbers_text(values: Triple) -> str:
    """`0.485,0.456,0.406`: as the options take it."""
    return ",".join(f"{value:.10g}" for value in values)


def resized(pixels: Tensor, size: int) -> Tensor:
    """The same views at another size, float32 [B, 3, size, size]: bicubic, antialiased where it shrinks them.

    Normalised or not makes no difference: the weights of a resize sum to 1.
    """
    return interpolate(pixels, size=(size, size), mode="bicubic", antialias=True, align_corners=False)
